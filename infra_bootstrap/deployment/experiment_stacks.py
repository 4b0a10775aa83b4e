"""The role of an experiment's machines: its names, and where an experiment has one.

An environment has one common role for training machines. An experiment can have its own, in a stack
of its own, which reaches the keys of this experiment alone.
"""

import re

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError, RoleNotReadyError
from infra_bootstrap.stacks.concerns import DEPLOYMENT_TAG
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack, list_stacks
from rl_lifecycle.records.names import is_slug
from rl_lifecycle.records.record import sha256_hex

#: The template's file, and a part of the stack's name.
EXPERIMENT = "experiment"
PROFILE = "TrainerInstanceProfileArn"
#: The longest last part of a role's name. With the longest environment's name it is the rest of the
#: 64 characters that a role's name may have.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
SHORT = 24


def short_name(experiment: str) -> str:
    """Shorten an experiment's name, so that it fits into a role's name.

    A shortened name has a `.`, which no experiment's name has. So it is the name of no other
    experiment.

    >>> short_name("cartpole_ppo")
    'cartpole_ppo'
    >>> short_name("a_very_long_name_of_an_experiment")
    'a_very_long_nam.bacf9f05'
    """
    if len(experiment) <= SHORT:
        return experiment
    digest = sha256_hex(experiment.encode())[:8]
    return f"{experiment[: SHORT - len(digest) - 1]}.{digest}"


def experiment_stack_name(environment: str, experiment: str) -> str:
    """Return the name of the stack with the role of an experiment's machines.

    CloudFormation takes letters, digits and `-`. If something else must be replaced, the name ends
    with a part of the name's SHA-256.

    >>> experiment_stack_name("dev", "cartpole")
    'nightshift-dev-experiment-cartpole'
    >>> experiment_stack_name("dev", "cartpole_ppo")
    'nightshift-dev-experiment-cartpole-ppo-527f0aa4'
    """
    cleaned = re.sub(r"[^a-z0-9]", "-", experiment)
    if cleaned != experiment or len(experiment) > SHORT:
        cleaned = f"{cleaned[:SHORT].strip('-')}-{sha256_hex(experiment.encode())[:8]}"
    return f"nightshift-{environment}-{EXPERIMENT}-{cleaned}"


def check_experiment(name: str) -> str:
    """Check the name of an experiment. :return: the name.

    :raises BadInputError: if no experiment can have this name.
    """
    if not is_slug(name):
        raise BadInputError(
            f"--experiment {name!r}: must be the name of an experiment: lower case, digits, - and "
            "_, at most 100 characters, for example cartpole_ppo"
        )
    return name


def find_trainer_profile(clients: Clients, environment: str, experiment: str) -> str | None:
    """Return the ARN of the instance profile of an experiment, or None if it has none of its own.

    A stack that is there but has no profile yet, or none any more, is an error. Otherwise a failed
    deployment would give the experiment's machines the common role.

    :raises RoleNotReadyError: if the stack is there without a profile.
    """
    name = experiment_stack_name(environment, experiment)
    stack = find_stack(clients, name)
    if stack is None:
        return None
    profile = stack.outputs.get(PROFILE)
    ours = stack.parameters.get("Experiment") == experiment
    if not ours or not profile or stack.status == "DELETE_IN_PROGRESS" or stack.is_dead:
        raise RoleNotReadyError(name, stack.status, environment, experiment)
    return profile


def list_experiment_stacks(clients: Clients, environment: str) -> list[DeployedStack]:
    """List the stacks with the roles of an environment's experiments, by name.

    The tag decides, because `nightshift-a-experiment-…` is also the beginning of the names of an
    environment that is called `a-experiment`.
    """
    prefix = f"nightshift-{environment}-{EXPERIMENT}-"
    return [
        stack
        for stack in list_stacks(clients, {DEPLOYMENT_TAG: environment})
        if stack.name.startswith(prefix) and "Experiment" in stack.parameters
    ]
