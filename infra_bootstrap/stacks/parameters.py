"""Plan the parameters of the stacks.

A parameter gets its value from the first of these sources that has one:

- a value that a person gave;
- a value that this run computed (artifacts, the image's root device);
- the deployed stack's value;
- for a new stack, a value that is looked up (operator, zones, prefix list);
- the template's default.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.sets import ArtifactSet
from infra_bootstrap.clients import Clients, code_of, is_refusal, role_of_arn
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.function_versions import LABEL, version_label
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.settings import DEFAULT_LAMBDA_RUNTIME, DeploymentSettings
from infra_bootstrap.stacks.template_files import check_value, parameters_of, template
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.prices import FALL_BACK

ZONE_LETTERS = "ABCDEF"
#: The network uses the zones that offer these instance types.
WANTED_TYPES = tuple(row.name for row in INSTANCE_TYPES.values() if row.preflight)
ALLOWED_TYPES = "AllowedInstanceTypes"
Values = dict[str, str]


def plan_parameters(
    clients: Clients,
    settings: DeploymentSettings,
    concern: Concern,
    deployed: Mapping[str, str] | None,
    artifacts: ArtifactSet | None = None,
) -> Values:
    """Give every parameter of a stack its value.

    :param deployed: the stack's values now, or None if there is no stack.
    :param artifacts: what was built. Training and evaluation need it.
    :raises BadInputError: if a value is not allowed.
    """
    declared = parameters_of(concern)
    values = {name: str(item["Default"]) for name, item in declared.items() if "Default" in item}
    values |= _looked_up(clients, settings, concern, deployed)
    values |= dict(deployed or {})
    if ALLOWED_TYPES in declared:
        values[ALLOWED_TYPES] = allow_types_of_the_table(
            values[ALLOWED_TYPES], str(declared[ALLOWED_TYPES]["Default"])
        )
    values |= _following_image(clients, settings, concern, deployed)
    values |= _computed(concern, artifacts)
    values |= _asked_for(settings)
    if concern is Concern.EVALUATION:
        values = {**values, LABEL: version_label(template(concern), values)}
        values |= settings.parameters
    kept = {name: value for name, value in values.items() if name in declared}
    for name, value in kept.items():
        check_value(name, value, declared[name])
    return kept


def allow_types_of_the_table(allowed: str, default: str) -> str:
    """Add the priced instance families that no pattern of a list covers.

    A list that lacks a pattern of the default was narrowed by a person, so it stays as it is.

    :param allowed: patterns of instance types as IAM matches them, separated by commas.
    :param default: the template's own list.

    >>> allow_types_of_the_table("m5.*", "m5.*, c5.*")
    'm5.*'
    """
    patterns = _patterns(allowed)
    if not set(_patterns(default)) <= set(patterns):
        return allowed
    missing = dict.fromkeys(
        f"{INSTANCE_TYPES[name].family}.*"
        for name in FALL_BACK
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
    )
    return ", ".join([allowed, *missing])


def _patterns(allowed: str) -> list[str]:
    return [pattern.strip() for pattern in allowed.split(",")]


def _asked_for(settings: DeploymentSettings) -> Values:
    given = dict(settings.parameters) | {"Environment": settings.environment}
    return given | ({"AirflowRoleName": settings.airflow_role} if settings.airflow_role else {})


def _computed(concern: Concern, artifacts: ArtifactSet | None) -> Values:
    """Return the values that follow from the artifacts."""
    if concern is Concern.TRAINING and artifacts:
        return {
            "TrainerWheelsKey": artifacts.trainer_wheels.key,
            "TrainerWheelsSha256": artifacts.trainer_wheels.sha256,
            "TrainerPython": artifacts.trainer_python,
        }
    if concern is Concern.EVALUATION and artifacts:
        return {
            "EvaluatorCodeKey": artifacts.evaluator_code.key,
            "EvaluatorLayerKey": artifacts.evaluator_layer.key,
            "ReaperCodeKey": artifacts.reaper_code.key,
            "LambdaRuntime": artifacts.lambda_runtime,
        }
    return {}


def _looked_up(
    clients: Clients,
    settings: DeploymentSettings,
    concern: Concern,
    deployed: Mapping[str, str] | None,
) -> Values:
    """Look up the values that are set when a stack is made, and stay."""
    if deployed is not None:
        return {}
    if concern is Concern.IDENTITY:
        return _operator(clients, settings)
    if concern is Concern.NETWORK:
        return _zones(clients, settings) | _prefix_list(clients)
    return {}


def _following_image(
    clients: Clients,
    settings: DeploymentSettings,
    concern: Concern,
    deployed: Mapping[str, str] | None,
) -> Values:
    """Look up the values that depend on the image. SSM's "latest" image changes over time."""
    if concern is not Concern.TRAINING:
        return {}
    name = settings.parameters.get("ImageId") or (deployed or {}).get("ImageId")
    return {"RootDeviceName": find_image(clients, name).root_device_name}


def _operator(clients: Clients, settings: DeploymentSettings) -> Values:
    """Name the caller as the operator, who may upload artifacts.

    Airflow's role is left out, because it may upload anyway. The root user cannot assume roles.
    """
    arn = clients.identity["Arn"]
    role = role_of_arn(arn)
    if role is None:
        return {"OperatorArn": arn} if ":user/" in arn else {}
    if role == (
        settings.airflow_role or parameters_of(Concern.IDENTITY)["AirflowRoleName"]["Default"]
    ):
        return {}
    return {"OperatorArn": str(clients.iam.get_role(RoleName=role)["Role"]["Arn"])}


def _zones(clients: Clients, settings: DeploymentSettings) -> Values:
    """Choose up to six zones: those that offer a wanted instance type, else all.

    :raises BadInputError: if the region has none.
    """
    given = {name for name in settings.parameters if name.startswith("Zone")}
    if given:
        return {}
    zones = sorted(
        zone["ZoneName"]
        for zone in clients.ec2.describe_availability_zones(
            Filters=[
                {"Name": "zone-type", "Values": ["availability-zone"]},
                {"Name": "state", "Values": ["available"]},
            ],
        )["AvailabilityZones"]
    )
    offered = {zone for found in zones_by_type(clients).values() for zone in found}
    offering = [zone for zone in zones if zone in offered]
    chosen = (offering or zones)[: len(ZONE_LETTERS)]
    if not chosen:
        raise BadInputError(
            f"{clients.region} has no availability zone for this account: choose another region"
        )
    return {f"Zone{letter}": zone for letter, zone in zip(ZONE_LETTERS, chosen, strict=False)}


def zones_by_type(clients: Clients) -> dict[str, set[str]]:
    """Look up which zones offer each of the wanted instance types."""
    offerings = clients.ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": list(WANTED_TYPES)}],
    )
    found: dict[str, set[str]] = {}
    for page in offerings:
        for offering in page["InstanceTypeOfferings"]:
            found.setdefault(offering["InstanceType"], set()).add(offering["Location"])
    return found


def _prefix_list(clients: Clients) -> Values:
    """Look up the prefix list of S3.

    Without it the security group allows TLS to any address, but machines still have a route to S3
    only.
    """
    try:
        found = clients.ec2.describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{clients.region}.s3"]}]
        )["PrefixLists"]
    except ClientError as error:
        if is_refusal(error) or code_of(error) in (
            "InvalidAction",
            "UnknownOperation",
            "InternalFailure",
        ):
            return {}
        raise
    return {"S3PrefixListId": found[0]["PrefixListId"]} if found else {}


def lambda_runtime(
    settings: DeploymentSettings, deployed_evaluation: Mapping[str, str] | None
) -> str:
    """Choose Lambda's Python: the one in the settings, else the deployed one, else python3.12."""
    return (
        settings.lambda_runtime
        or (deployed_evaluation or {}).get("LambdaRuntime")
        or DEFAULT_LAMBDA_RUNTIME
    )
