"""The pinned version of the emulator (ministack) and each of its names that this package replaces.

All other modules reach the emulator through :func:`module` and change it through :func:`replace`.
So the table of seams below lists everything that an upgrade can break. An incompatible version
fails at the start of the server, with the names to look at.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

PINNED = "1.5.33"

SEAMS = {
    ("core.iam_evaluator", "enforce"): (
        "EC2 authorizes each resource of a call itself; VPC endpoint policies count"
    ),
    ("core.iam_evaluator", "_first_match"): (
        "policy variables such as ${aws:PrincipalTag/team} are substituted"
    ),
    ("core.iam_evaluator", "is_root_access_key"): (
        "no key is root: every caller is a role or a user"
    ),
    ("core.iam_actions", "s3_service_context"): (
        "adds the condition keys s3:if-match, s3:if-none-match and s3:object-lock"
    ),
    ("core.persistence", "save_state"): (
        "unchanged state is not written again; a crash leaves no half-written file"
    ),
    ("core.persistence", "_json_object_hook"): ("large byte strings are stored in their own files"),
    ("core.iam_actions", "access_denied_response"): (
        "a fault that denies a call names the kind of policy"
    ),
    ("core.iam_actions", "request_tag_context"): ("adds the condition keys of CloudFormation"),
    ("core.iam_evaluator", "_resolve_condition_key"): (
        "aws:PrincipalArn is the ARN of the role, not of its session"
    ),
    ("core.router", "SERVICE_PATTERNS"): ("requests for prices and quotas reach our services"),
    ("app", "pin_request_origin"): ("loopback counts as secure transport"),
    ("app", "SERVICE_HANDLERS"): (
        "our EC2, prices and quotas; our checks in front of the other services"
    ),
    ("services.tagging", "_COLLECTORS"): ("the tagging service finds the resources of our EC2"),
    ("services.iam", "_IAM_HANDLERS"): (
        "a simulation takes condition keys, boundaries and several resources"
    ),
    ("services.s3", "_atomic_write"): ("a crash leaves an object old or new, never half-written"),
    ("services.ssm", "_PUBLIC_AMI_PARAMETERS"): ("AWS's public parameters name our images"),
    ("services.lambda_svc", "_execute_function_warm"): (
        "functions run in our runtime: right Python version, memory limit, error JSON"
    ),
    ("services.lambda_svc", "invoke_async_with_retry"): (
        "each qualifier has its own retries, event age and destinations"
    ),
    ("services.lambda_svc", "_emit_lambda_logs"): (
        "a function's role needs the permission to write the function's log"
    ),
    ("services.lambda_svc", "_reserved_concurrency"): (
        "reserved concurrency counts for every version and alias"
    ),
    ("services.eventbridge", "_invoke_target"): ("remembers the rule that delivers an event"),
    ("services.eventbridge", "_dispatch_to_lambda"): (
        "a delivery needs the function policy's permission, and is retried"
    ),
    ("services.cloudformation.provisioners", "_RESOURCE_HANDLERS"): (
        "applies properties that the emulator drops; adds types that it lacks"
    ),
    ("services.cloudformation.provisioners", "_STACK_TAG_PROPERTY"): (
        "our own types get the tags of their stack"
    ),
    ("services.cloudformation.provisioners", "_provision_resource"): (
        "properties are checked, and the deployer's permissions count"
    ),
    ("services.cloudformation.provisioners", "_update_resource"): ("the same for updates"),
    ("services.cloudformation.provisioners", "_delete_resource"): ("the same for deletions"),
}
"""The reason why each name of the emulator is replaced or changed, by (module, name)."""


class EmulatorChangedError(RuntimeError):
    """The installed emulator is not the version that this package was written for."""


@functools.cache
def module(name: str) -> Any:
    """Return a module of the emulator. Its type is `Any`, because the emulator publishes no types.

    The result is cached, because every request asks several times.
    """
    return importlib.import_module(f"ministack.{name}")


def check() -> None:
    """Check the installed version, and that every seam exists.

    :raises EmulatorChangedError: for another version, or naming the seams that are missing.
    """
    found = importlib.metadata.version("ministack")
    if found != PINNED:
        raise EmulatorChangedError(
            f"ministack {found} is installed, local_aws was written for {PINNED}: "
            "go through SEAMS in local_aws/emulator/seams.py, then change PINNED"
        )
    gone = [
        f"{name}.{attribute}" for name, attribute in SEAMS if not hasattr(module(name), attribute)
    ]
    if gone:
        raise EmulatorChangedError(
            f"ministack has no {', '.join(gone)} any more: see SEAMS in local_aws/emulator/seams.py"
        )


def seam(name: str, attribute: str) -> Any:
    """Return a name of the emulator that is declared in :data:`SEAMS`.

    :raises EmulatorChangedError: if the name is not declared.
    """
    if (name, attribute) not in SEAMS:
        raise EmulatorChangedError(f"{name}.{attribute} is not declared in SEAMS")
    return getattr(module(name), attribute)


def replace(name: str, attribute: str, make: Callable[[Any], Any]) -> None:
    """Replace a declared name by `make(original)`, also in the modules that imported it by name."""
    original = seam(name, attribute)
    made = make(original)
    for known, loaded in list(sys.modules.items()):
        if known.startswith("ministack.") and getattr(loaded, attribute, None) is original:
            setattr(loaded, attribute, made)
