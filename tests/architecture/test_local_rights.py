"""The local AWS asks for what CloudFormation's handlers call, so that it refuses what AWS refuses.

Updates are left out, because their calls depend on what changes.
"""

from __future__ import annotations

import pytest

from local_aws.cloudformation.calls import TABLE
from local_aws.cloudformation.rights import ON_EVERYTHING
from tests.architecture.test_deployer_rights import deployed_types, excepted, matches, schema

#: Calls that only read. The local AWS does not ask for them.
READS = ("Describe", "Get", "List")
#: What a handler may call and does not call for our resources, or what is asked for elsewhere.
NOT_ASKED: dict[str, str] = {
    "* iam:PassRole": "rights.PASSED asks for it where a resource passes a role",
    "AWS::EC2::FlowLog create s3:PutBucketPolicy": "for flow logs in S3; ours go to a log group",
    "AWS::EC2::LaunchTemplate delete ec2:DeleteTags": "tags end with the launch template",
    "AWS::EC2::SubnetRouteTableAssociation create ec2:ReplaceRouteTableAssociation": (
        "for a subnet that has another association already"
    ),
    "AWS::EC2::VPCEndpoint * ec2:*Tags": "tags are set by the call that makes the endpoint",
    "AWS::Lambda::Function create kms:Decrypt": "for functions with a KMS key",
    "AWS::Logs::LogGroup create logs:CreateLogDelivery": "for audits of data protection",
    "AWS::Logs::LogGroup delete logs:DeleteDataProtectionPolicy": "our groups have no such policy",
    "AWS::Budgets::Budget create budgets:TagResource": "the budget has no tags of its own",
    "AWS::S3::Bucket create iam:PassRole": "for replication",
    "AWS::SNS::Topic create sns:Subscribe": "the subscription is a resource of its own",
}


def handler(kind: str, verb: str) -> set[str]:
    """Return the permissions of a type's handler."""
    return set(schema(kind).get("handlers", {}).get(verb, {}).get("permissions", ()))


@pytest.mark.parametrize("verb", ["create", "delete"])
@pytest.mark.parametrize("kind", deployed_types())
def test_the_local_aws_asks_for_what_a_handler_calls(kind: str, verb: str) -> None:
    """Each writing permission of a handler is asked for, or has a reason not to be."""
    asked = {right.action for right in getattr(TABLE[kind], verb)} if kind in TABLE else set()
    left_out = {
        action
        for action in handler(kind, verb) - asked
        if not action.split(":")[1].startswith(READS)
        and not matches(action, excepted(kind))
        and not matches(f"{kind} {verb} {action}", NOT_ASKED)
    }
    assert not left_out, f"add to local_aws/cloudformation/calls.py: {kind} {sorted(left_out)}"


@pytest.mark.parametrize("kind", sorted(set(deployed_types()) & set(TABLE)))
def test_the_local_aws_asks_for_nothing_that_no_handler_calls(kind: str) -> None:
    """Each right that the local AWS asks for is a permission of the type's handlers."""
    known = {
        action for verb in ("create", "read", "update", "delete") for action in handler(kind, verb)
    }
    known |= set(schema(kind).get("tagging", {}).get("permissions", ()))
    asked = {
        right.action
        for verb in ("create", "update", "delete")
        for right in getattr(TABLE[kind], verb)
    }
    assert asked <= known, f"{kind}: no handler calls {sorted(asked - known)}"


def test_each_reason_is_still_needed() -> None:
    """Each line of NOT_ASKED names a permission of a handler that the local AWS leaves out."""
    left_out = {
        f"{kind} {verb} {action}"
        for kind in deployed_types()
        for verb in ("create", "delete")
        for action in handler(kind, verb)
        - ({right.action for right in getattr(TABLE[kind], verb)} if kind in TABLE else set())
    }
    assert [p for p in NOT_ASKED if not any(matches(name, [p]) for name in left_out)] == []
    asked = {
        right.action for rights in TABLE.values() for right in (*rights.create, *rights.delete)
    }
    assert {
        action for action in ON_EVERYTHING if not action.split(":")[1].startswith(READS)
    } <= asked
