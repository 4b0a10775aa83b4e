"""The one door to the emulator (ministack): its pinned version, its modules, and each of its names
that we replace.

Everything else in this package reaches the emulator through :func:`module` and changes it through
:func:`replace`, so the list of seams below is the whole of what an upgrade can break. An upgrade
fails at start, with the names to look at, and never silently later.
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
"EC2 authorizes each resource of a call itself; VPC "
"endpoint policies count"
),
    ("core.iam_evaluator", "_first_match"): (
"policy variables such as ${aws:PrincipalTag/team} are "
"substituted"
),
    ("core.iam_evaluator", "is_root_access_key"): "no key is root: every caller is a role or a user",
    ("core.iam_actions", "s3_service_context"): "s3:if-match, s3:if-none-match and s3:object-lock keys",
    ("core.persistence", "save_state"): (
"unchanged state is not written again; a crash leaves no "
"half file"
),
    ("core.persistence", "_json_object_hook"): "large bytes lie in files of their own",
    ("core.iam_actions", "request_tag_context"): "cloudformation: condition keys",
    ("core.iam_evaluator", "_resolve_condition_key"): "aws:PrincipalArn is the role's ARN, not its session's",
    ("core.router", "SERVICE_PATTERNS"): "pricing and quotas are routed",
    ("app", "pin_request_origin"): "loopback counts as secure transport",
    ("app", "SERVICE_HANDLERS"): (
"our EC2, pricing and quotas; PassRole and runtimes in front of "
"Lambda"
),
    ("services.tagging", "_COLLECTORS"): "what EC2 keeps is found by tag",
    ("services.s3", "_atomic_write"): "a crash leaves an object old or new, never half",
    ("services.ssm", "_PUBLIC_AMI_PARAMETERS"): "AWS's public parameters lead to our images",
    ("services.lambda_svc", "_execute_function_warm"): (
"functions run in our runtime: right Python, memory, "
"error JSON"
),
    ("services.lambda_svc", "invoke_async_with_retry"): "the qualifier's own retries, age and destinations",
    ("services.lambda_svc", "_emit_lambda_logs"): "a function's role must be allowed to write its log",
    ("services.lambda_svc", "_reserved_concurrency"): "counts for every version and alias",
    ("services.eventbridge", "_invoke_target"): "remembers which rule delivers",
    ("services.eventbridge", "_dispatch_to_lambda"): "delivery asks the function's policy and retries",
    ("services.cloudformation.provisioners", "_RESOURCE_HANDLERS"): "properties that it drops, types that it lacks",
    ("services.cloudformation.provisioners", "_STACK_TAG_PROPERTY"): "types of ours bear their stack's tags",
    ("services.cloudformation.provisioners", "_provision_resource"): "properties are checked, the deployer's permissions count",
    ("services.cloudformation.provisioners", "_update_resource"): "the same for updates",
    ("services.cloudformation.provisioners", "_delete_resource"): "the same for deletions",
}  # fmt: skip
"""(module, name): why we replace it, or write into it."""


class EmulatorChangedError(RuntimeError):
    """The installed emulator is not the one that our seams were written for."""


@functools.cache
def module(name: str) -> Any:
    """Return a module of the emulator, as `Any`: it has no types. Kept, because every request
    asks several times.
    """
    return importlib.import_module(f"ministack.{name}")


def check() -> None:
    """Assert the pinned version and that every seam exists.

    :raises EmulatorChangedError: naming what is gone.
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
    """Return a declared name of the emulator.

    :raises EmulatorChangedError: if it was not declared in :data:`SEAMS`.
    """
    if (name, attribute) not in SEAMS:
        raise EmulatorChangedError(f"{name}.{attribute} is not declared in SEAMS")
    return getattr(module(name), attribute)


def replace(name: str, attribute: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` in the place of a declared name, also where other modules imported it
    by name.
    """
    original = seam(name, attribute)
    made = make(original)
    for known, loaded in list(sys.modules.items()):
        if known.startswith("ministack.") and getattr(loaded, attribute, None) is original:
            setattr(loaded, attribute, made)
