"""Makes `properties.json` from the resource schemas that cfn-lint contains.

Run it in the repository's root: `.venv/bin/python -m local_aws.cloudformation.make_properties`.

The server's environment has no cfn-lint, and the schemas are large. The server only needs to know
which properties a type has and requires.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

TYPES = (
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::EIP",
    "AWS::EC2::FlowLog",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::LaunchTemplate",
    "AWS::EC2::NatGateway",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCEndpoint",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::Events::Rule",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",
    "AWS::Lambda::Alias",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Function",
    "AWS::Lambda::LayerVersion",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::Scheduler::Schedule",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::SSM::Parameter",
)
REGION = "us_east_1"
DEEPEST = 6


def load_schema(kind: str) -> dict[str, Any]:
    """Return cfn-lint's schema of a resource type.

    :raises ModuleNotFoundError: if cfn-lint is not installed.
    """
    spec = importlib.util.find_spec("cfnlint")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("cfn-lint is not installed here: use .venv/bin/python")
    schemas = Path(spec.origin).parent / "data" / "schemas"
    index = json.loads((schemas / "providers" / f"{REGION.replace('_', '-')}.json").read_text())
    return dict(json.loads((schemas / "resources" / f"{index[kind]}.json").read_text()))


def resolve(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow the references of a node."""
    while "$ref" in node:
        target: Any = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def shape(node: dict[str, Any], root: dict[str, Any], depth: int = 0) -> Any:
    """Return the properties below a node as a dictionary, or None if any property is allowed.

    For a list, these are the properties of its items.
    """
    node = resolve(node, root)
    if "items" in node:
        return shape(node["items"], root, depth)
    known = node.get("properties")
    if not known or depth > DEEPEST or node.get("patternProperties"):
        return None
    return {name: shape(below, root, depth + 1) for name, below in sorted(known.items())}


def describe(kind: str) -> dict[str, Any]:
    """Return the properties and the required properties of a type."""
    schema = load_schema(kind)
    read_only = {
        path.rsplit("/", 1)[-1]
        for path in schema.get("readOnlyProperties", [])
        if path.count("/") == 2
    }
    properties = {
        name: below for name, below in shape(schema, schema).items() if name not in read_only
    }
    return {"properties": properties, "required": schema.get("required", [])}


def main() -> None:
    """Write `properties.json`."""
    made = {kind: describe(kind) for kind in TYPES}
    Path(__file__).with_name("properties.json").write_text(
        json.dumps(made, sort_keys=True, separators=(",", ":")) + "\n"
    )


if __name__ == "__main__":
    main()
