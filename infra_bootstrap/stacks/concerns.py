"""The five stacks: their names, what each needs, and their templates."""

import json
import re
from enum import StrEnum
from pathlib import Path

from infra_bootstrap.errors import BadInputError

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
#: A line that is a comment and nothing else.
COMMENT = re.compile(r"(?m)^[ ]*#.*\n")
ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,19}")
#: CloudFormation takes at most this much template in a request.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MOST_TEMPLATE_BYTES = 51_200
#: EC2 takes at most this much user data before it is encoded.
MOST_USER_DATA_BYTES = 16_384


class Concern(StrEnum):
    """What a stack is about; also the last part of its name."""

    IDENTITY = "identity"
    NETWORK = "network"
    STORAGE = "storage"
    TRAINING = "training"
    EVALUATION = "evaluation"


#: What must be there first. Identity comes before all, because its deployer makes the others.
DEPENDENCIES: dict[Concern, tuple[Concern, ...]] = {
    Concern.IDENTITY: (),
    Concern.NETWORK: (Concern.IDENTITY,),
    Concern.STORAGE: (Concern.IDENTITY,),
    Concern.TRAINING: (Concern.IDENTITY, Concern.NETWORK, Concern.STORAGE),
    Concern.EVALUATION: (Concern.IDENTITY, Concern.STORAGE),
}
#: Stacks that are made at the same time, in order. Deleting goes the other way.
WAVES: tuple[tuple[Concern, ...], ...] = (
    (Concern.IDENTITY,),
    (Concern.NETWORK, Concern.STORAGE),
    (Concern.TRAINING, Concern.EVALUATION),
)
#: What these are made of is built and uploaded first.
NEED_ARTIFACTS = (Concern.TRAINING, Concern.EVALUATION)
#: Kept from deletion by CloudFormation's termination protection.
PROTECTED = (Concern.IDENTITY, Concern.STORAGE)


def stack_name(environment: str, concern: Concern) -> str:
    """Name a stack.

    >>> stack_name("dev", Concern.NETWORK)
    'nightshift-dev-network'
    """
    return f"nightshift-{environment}-{concern}"


def role_name(environment: str, role: str) -> str:
    """Name a role.

    >>> role_name("dev", "launcher")
    'nightshift-dev-launcher'
    """
    return f"nightshift-{environment}-{role}"


def bucket_name(environment: str, account_id: str, region: str) -> str:
    """Name the bucket; the name is known before it exists, so that roles can be bound to it."""
    return f"nightshift-{environment}-{account_id}-{region}"


def check_environment(name: str) -> str:
    """Refuse a name that could not stand in every resource's name.

    :raises BadInputError: with what is allowed.

    >>> check_environment("dev")
    'dev'
    """
    if not ENVIRONMENT.fullmatch(name) or name.endswith("-"):
        raise BadInputError(
            f"--environment {name!r}: lower case, digits and -, at most 20 characters, beginning "
            "with a letter "
            "and ending with a letter or digit, for example dev"
        )
    return name


def template_body(concern: Concern) -> str:
    """Read a template, without its comments, and with the user data put into it where it asks for
    it.

    Comments are for who reads the file; CloudFormation would count them.

    :raises BadInputError: if the template, or the user data, is larger than AWS takes.
    """
    text = COMMENT.sub("", (TEMPLATES / f"{concern}.yaml").read_text())
    if "'@user_data.sh@'" in text:
        text = text.replace("'@user_data.sh@'", json.dumps(user_data()))
    if len(text.encode()) > MOST_TEMPLATE_BYTES:
        raise BadInputError(
            f"templates/{concern}.yaml has {len(text.encode())} bytes; CloudFormation takes "
            f"{MOST_TEMPLATE_BYTES}"
        )
    return text


def user_data() -> str:
    """The script that a machine runs at boot, without the first lines that name region and
    bucket.
    """
    script = (TEMPLATES / "user_data.sh").read_text()
    if len(script.encode()) > MOST_USER_DATA_BYTES - 256:
        raise BadInputError(
            f"templates/user_data.sh has {len(script.encode())} bytes; EC2 takes "
            f"{MOST_USER_DATA_BYTES}"
        )
    return script
