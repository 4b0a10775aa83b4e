"""The permissions that a stack's service role needs for a resource.

They follow from the calls in :mod:`local_aws.cloudformation.calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local_aws.cloudformation.calls import TABLE, Properties, Right

ON_EVERYTHING = frozenset(
    {
        "logs:CreateLogDelivery",
        "logs:DeleteLogDelivery",
        "sns:GetSubscriptionAttributes",
        "sns:Unsubscribe",
    }
)
"""Calls for which IAM knows no resource, so that only a statement with `*` allows them:
https://docs.aws.amazon.com/service-authorization/latest/reference/"""
PASSED = {
    "AWS::Lambda::Function": ("Role", "lambda.amazonaws.com"),
    "AWS::EC2::FlowLog": ("DeliverLogsPermissionArn", "vpc-flow-logs.amazonaws.com"),
    "AWS::Events::Rule": ("RoleArn", "events.amazonaws.com"),
    "AWS::Scheduler::Schedule": ("RoleArn", "scheduler.amazonaws.com"),
}
"""The property that passes a role to a service, and the service, by type."""
READ_OBJECTS = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}
"""The property that names an S3 object, by type. Lambda reads the object with the caller's
permissions."""


def tags_of(properties: Properties) -> dict[str, str]:
    """Return a resource's own tags. CloudFormation's `aws:` tags need no permission."""
    tags = properties.get("Tags") or []
    found = (
        tags if isinstance(tags, Mapping) else {tag["Key"]: tag.get("Value", "") for tag in tags}
    )
    return {str(key): str(value) for key, value in found.items() if not str(key).startswith("aws:")}


def is_caused(right: Right, properties: Properties) -> bool:
    """Say whether the properties of a resource cause a call."""
    if right.when == "Tags":
        return bool(tags_of(properties))
    return right.when is None or properties.get(right.when) not in (None, [], {})


def needed(
    kind: str,
    verb: str,
    properties: Properties,
    physical_id: str,
    account: str,
    region: str,
    tags_on: Callable[[str], Mapping[str, str]] = lambda _: {},
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the action, resource and condition keys of each call that a resource needs.

    :param verb: `create`, `update` or `delete`.
    :param tags_on: returns the current tags of an EC2 resource by its id.
    """
    rights = TABLE.get(kind)
    if rights:
        arn = rights.arn(properties, physical_id, account, region)
        for right in getattr(rights, verb):
            if not is_caused(right, properties):
                continue
            if right.on is None:
                yield (
                    right.action,
                    "*" if right.action in ON_EVERYTHING else arn,
                    _keys(kind, right.action, verb, properties)
                    | _resource_keys(tags_on(physical_id)),
                )
            else:
                yield from _touched(right, properties, account, region, tags_on)
    if verb != "delete":
        yield from _passed(kind, properties)
        yield from _objects(kind, properties)


def _touched(
    right: Right,
    properties: Properties,
    account: str,
    region: str,
    tags_on: Callable[[str], Mapping[str, str]],
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield a call once for each existing resource that it uses."""
    kind, name = right.on or ("", "")
    found = properties.get(name) or []
    for touched in found if isinstance(found, list) else [found]:
        yield (
            right.action,
            f"arn:aws:ec2:{region}:{account}:{kind}/{touched}",
            _resource_keys(tags_on(str(touched))),
        )


def _resource_keys(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the condition keys of a resource's tags."""
    return {
        f"{prefix}:ResourceTag/{key}": value
        for key, value in tags.items()
        for prefix in ("aws", "ec2")
    }


TAGGED_LATER = frozenset({"AWS::EC2::SecurityGroup", "AWS::EC2::EIP"})
"""Types that CloudFormation creates without tags; it adds their tags afterwards:
https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/714"""


def _keys(kind: str, action: str, verb: str, properties: Properties) -> dict[str, Any]:
    """Return the condition keys of a call: the tags that it sets, and what creates them."""
    tags = tags_of(properties)
    later = verb == "create" and kind in TAGGED_LATER
    if later and action != "ec2:CreateTags":
        return {}
    keys: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        keys["aws:TagKeys"] = list(tags)
    if action == "ec2:CreateTags" and verb == "create" and not later:
        keys["ec2:CreateAction"] = "Create"
    return keys


def _passed(kind: str, properties: Properties) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the permission to pass a role to a service, if the resource does that."""
    name, service = PASSED.get(kind, ("", ""))
    if role := properties.get(name):
        yield "iam:PassRole", str(role), {"iam:PassedToService": service}


def _objects(kind: str, properties: Properties) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the permission to read the object with the code, if there is one."""
    code = properties.get(READ_OBJECTS.get(kind, "")) or {}
    if isinstance(code, Mapping) and code.get("S3Bucket"):
        yield "s3:GetObject", f"arn:aws:s3:::{code['S3Bucket']}/{code.get('S3Key')}", {}
