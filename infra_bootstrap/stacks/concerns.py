"""The five stacks: their names, their order, and their templates."""

import json
import re
from enum import StrEnum
from pathlib import Path

from infra_bootstrap.errors import BadInputError

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
#: A comment: a line of its own, or the end of a line after two spaces.
COMMENT = re.compile(r"(?m)^[ ]*#.*\n|[ ]{2}# .*$")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,19}")
#: CloudFormation takes at most this much template in a request.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_TEMPLATE_BYTES = 51_200
#: EC2 takes at most this much user data before it is encoded.
MOST_USER_DATA_BYTES = 16_384


class Concern(StrEnum):
    """The subject of a stack. It is also the last part of the stack's name."""

    IDENTITY = "identity"
    NETWORK = "network"
    STORAGE = "storage"
    TRAINING = "training"
    EVALUATION = "evaluation"


#: The stacks that must exist first. Identity comes before all, because its deployer role makes the
#: others.
DEPENDENCIES: dict[Concern, tuple[Concern, ...]] = {
    Concern.IDENTITY: (),
    Concern.NETWORK: (Concern.IDENTITY,),
    Concern.STORAGE: (Concern.IDENTITY,),
    Concern.TRAINING: (Concern.IDENTITY, Concern.NETWORK, Concern.STORAGE),
    Concern.EVALUATION: (Concern.IDENTITY, Concern.STORAGE),
}
#: The order of deployment. The stacks of one group are made at the same time. Stacks are deleted in
#: the reverse order.
WAVES: tuple[tuple[Concern, ...], ...] = (
    (Concern.IDENTITY,),
    (Concern.NETWORK, Concern.STORAGE),
    (Concern.TRAINING, Concern.EVALUATION),
)
#: The stacks that need artifacts, which are built and uploaded first.
NEED_ARTIFACTS = (Concern.TRAINING, Concern.EVALUATION)
#: Every resource that can have tags has this tag, even if it must not have the environment's tag.
#: `destroy` uses it to find leftovers.
DEPLOYMENT_TAG = "nightshift:deployment"
#: The stacks that CloudFormation's termination protection keeps from deletion.
PROTECTED = (Concern.IDENTITY, Concern.STORAGE)


def stack_name(environment: str, concern: Concern) -> str:
    """Return the name of a stack.

    >>> stack_name("dev", Concern.NETWORK)
    'nightshift-dev-network'
    """
    return f"nightshift-{environment}-{concern}"


def role_name(environment: str, role: str) -> str:
    """Return the name of a role.

    >>> role_name("dev", "launcher")
    'nightshift-dev-launcher'
    """
    return f"nightshift-{environment}-{role}"


def bucket_name(environment: str, account_id: str, region: str) -> str:
    """Return the bucket's name. Roles refer to it before the bucket exists."""
    return f"nightshift-{environment}-{account_id}-{region}"


def check_environment(name: str) -> str:
    """Check the name of an environment, which is a part of every resource's name.

    :return: the name.
    :raises BadInputError: if it is not allowed. The message says what is.

    >>> check_environment("dev")
    'dev'
    """
    if not ENVIRONMENT.fullmatch(name) or name.endswith("-"):
        raise BadInputError(
            f"--environment {name!r}: lower case, digits and -, at most 20 characters, beginning "
            "with a letter and ending with a letter or digit, for example dev"
        )
    return name


def template_text(name: str) -> str:
    """Read a template's file, without comments and with the user data in its place.

    :param name: the concern of a stack, or `experiment`.
    :raises BadInputError: if the user data is larger than AWS allows.
    """
    text = COMMENT.sub("", (TEMPLATES / f"{name}.yaml").read_text())
    if "'@user_data.sh@'" in text:
        text = text.replace("'@user_data.sh@'", json.dumps(user_data()))
    return text


def user_data() -> str:
    """Read the script that a machine runs at boot.

    The template puts the lines that set region and bucket before it.
    """
    script = (TEMPLATES / "user_data.sh").read_text()
    if len(script.encode()) > MOST_USER_DATA_BYTES - 256:
        raise BadInputError(
            f"templates/user_data.sh has {len(script.encode())} bytes; EC2 takes "
            f"{MOST_USER_DATA_BYTES}"
        )
    return script
