"""The IAM policies of an Airflow worker and an API server, to attach them yourself."""

import re
from collections.abc import Mapping
from typing import Any

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import Concern, role_name, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.parameters import plan_parameters
from infra_bootstrap.stacks.resolving import Stage
from infra_bootstrap.stacks.settings import DeploymentSettings

#: The properties that name a resource of the identity stack.
NAMES = ("RoleName", "ManagedPolicyName", "InstanceProfileName")
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def airflow_policy(clients: Clients, settings: DeploymentSettings) -> dict[str, Any]:
    """Work out the policy that the identity stack attaches to Airflow's role.

    The stack need not be deployed, because the names of its resources are known beforehand.

    :return: an IAM policy document.
    """
    found = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    living = found if found is not None and not found.is_dead else None
    values = plan_parameters(
        clients, settings, Concern.IDENTITY, living.parameters if living else None
    )
    document: dict[str, Any] = resolved_identity(clients, settings, values).properties(
        "AirflowPolicy"
    )["PolicyDocument"]
    return document


def log_policy(partition: str, bucket: str, *, read_only: bool = False) -> dict[str, Any]:
    """Return the policy for a bucket of task logs, which is not the environment's bucket.

    Airflow lists the parts of a task's log, reads them, and writes its own.

    :param partition: AWS's, such as `aws`.
    :param read_only: for an API server, which only shows logs.
    :raises BadInputError: if it is no name of a bucket.

    >>> log_policy("aws", "my-logs", read_only=True)["Statement"][0]["Action"]
    ['s3:GetObject']
    """
    if BUCKET_NAME.fullmatch(bucket) is None:
        raise BadInputError(
            f"{bucket!r} is no name of a bucket: give the name alone, such as my-airflow-logs, "
            "without s3:// and without a folder"
        )
    arn = f"arn:{partition}:s3:::{bucket}"
    actions = ["s3:GetObject"] if read_only else ["s3:GetObject", "s3:PutObject"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": f"{arn}/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn},
        ],
    }


def api_server_policy(clients: Clients, environment: str) -> dict[str, Any]:
    """Return the policy of an API server with an identity of its own: it may become the viewer.

    The viewer trusts this identity if the identity stack's parameter `ApiServerArn` names it.
    """
    viewer = clients.role_arn(role_name(environment, "viewer"))
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": viewer}
    return {"Version": "2012-10-17", "Statement": [statement]}


def resolved_identity(
    clients: Clients, settings: DeploymentSettings, values: Mapping[str, str]
) -> Stage:
    """Return the identity stack with the names of its resources, also if it is not deployed.

    :param values: its parameters.
    """
    name = stack_name(settings.environment, Concern.IDENTITY)
    stack = DeployedStack(name, "", "", "", values, {}, "", False)
    unnamed = Stage(clients, Concern.IDENTITY, stack, {}, {})
    physical = {
        logical_id: str(unnamed.resolve(resource["Properties"][key]))
        for logical_id, resource in unnamed.resources.items()
        for key in NAMES
        if key in resource["Properties"]
    }
    return Stage(clients, Concern.IDENTITY, stack, physical, {})
