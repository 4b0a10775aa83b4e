"""Drift reports nothing for an untouched deployment, and names each resource that was changed.

The first test reads each role, policy, rule, bucket setting and template version through its own
service, because a stack's COMPLETE alone proves little.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from infra_bootstrap.deployment.drift import find_drift
from infra_bootstrap.errors import NotDeployedError
from infra_bootstrap.stacks.concerns import Concern
from tests.infra_bootstrap.accounts import Deployment

EVERYTHING = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Sid": "Sly", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
)
Tampering = Callable[[Deployment], Iterator[None]]


def drifted(dev: Deployment) -> set[str]:
    """List the differences as `Resource: what`."""
    return {
        f"{drift.resource}: {drift.what}"
        for drift in find_drift(dev.as_role("administrator"), "dev")
    }


def test_what_was_deployed_reads_back_as_the_templates_say(dev: Deployment) -> None:
    """Every deployed resource that drift covers equals its template."""
    assert drifted(dev) == set()


def a_bucket_policy(dev: Deployment) -> Iterator[None]:
    """Remove a statement from the bucket's policy."""
    s3 = dev.as_role("administrator").s3
    before = s3.get_bucket_policy(Bucket=dev.bucket)["Policy"]
    document = json.loads(before)
    document["Statement"] = [
        statement for statement in document["Statement"] if statement["Sid"] != "NeverDeleted"
    ]
    s3.put_bucket_policy(Bucket=dev.bucket, Policy=json.dumps(document))
    yield
    s3.put_bucket_policy(Bucket=dev.bucket, Policy=before)


def a_security_group(dev: Deployment) -> Iterator[None]:
    """Open a port."""
    rule = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ]
    ec2 = dev.as_role("administrator").ec2
    ec2.authorize_security_group_ingress(GroupId=dev.outputs.security_group_id, IpPermissions=rule)
    yield
    ec2.revoke_security_group_ingress(GroupId=dev.outputs.security_group_id, IpPermissions=rule)


def a_role(dev: Deployment) -> Iterator[None]:
    """Add a policy to the trainer's role."""
    iam = dev.as_role("administrator").iam
    iam.put_role_policy(
        RoleName="nightshift-dev-trainer", PolicyName="sly", PolicyDocument=EVERYTHING
    )
    yield
    iam.delete_role_policy(RoleName="nightshift-dev-trainer", PolicyName="sly")


def a_boundary(dev: Deployment) -> Iterator[None]:
    """Remove the evaluator's boundary."""
    iam = dev.as_role("administrator").iam
    before = iam.get_role(RoleName="nightshift-dev-evaluator")["Role"]["PermissionsBoundary"][
        "PermissionsBoundaryArn"
    ]
    iam.delete_role_permissions_boundary(RoleName="nightshift-dev-evaluator")
    yield
    iam.put_role_permissions_boundary(
        RoleName="nightshift-dev-evaluator", PermissionsBoundary=before
    )


def a_trust(dev: Deployment) -> Iterator[None]:
    """Let the whole account assume the promoter's role."""
    iam = dev.as_role("administrator").iam
    before = iam.get_role(RoleName="nightshift-dev-promoter")["Role"]["AssumeRolePolicyDocument"]
    wide = {
        **before,
        "Statement": [{**statement, "Condition": {}} for statement in before["Statement"]],
    }
    iam.update_assume_role_policy(
        RoleName="nightshift-dev-promoter", PolicyDocument=json.dumps(wide)
    )
    yield
    iam.update_assume_role_policy(
        RoleName="nightshift-dev-promoter", PolicyDocument=json.dumps(before)
    )


def public_access(dev: Deployment) -> Iterator[None]:
    """Remove the block of public access."""
    s3 = dev.as_role("administrator").s3
    before = s3.get_public_access_block(Bucket=dev.bucket)["PublicAccessBlockConfiguration"]
    s3.delete_public_access_block(Bucket=dev.bucket)
    yield
    s3.put_public_access_block(Bucket=dev.bucket, PublicAccessBlockConfiguration=before)


def versioning(dev: Deployment) -> Iterator[None]:
    """Suspend versioning, which would lose overwritten objects."""
    s3 = dev.as_role("administrator").s3
    s3.put_bucket_versioning(Bucket=dev.bucket, VersioningConfiguration={"Status": "Suspended"})
    yield
    s3.put_bucket_versioning(Bucket=dev.bucket, VersioningConfiguration={"Status": "Enabled"})


def an_alias(dev: Deployment) -> Iterator[None]:
    """Point the alias at the latest uploaded code."""
    lambda_, name = (
        dev.as_role("administrator").client("lambda"),
        dev.outputs.evaluator_function_name,
    )
    before = lambda_.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
    lambda_.update_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    yield
    lambda_.update_alias(FunctionName=name, Name="live", FunctionVersion=before)


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (public_access, "Bucket: its block of public access"),
        (versioning, "Bucket: its versioning"),
        (an_alias, "EvaluatorAlias: it points to version $LATEST, not 1"),
        (a_bucket_policy, "BucketPolicy: its statement NeverDeleted is gone"),
        (a_security_group, "TrainerSecurityGroup: an inbound rule was added: tcp 22 22 0.0.0.0/0"),
        (a_role, "TrainerRole: a policy sly was added"),
        (a_boundary, "EvaluatorRole: its boundary"),
        (a_trust, "PromoterRole: its trust policy"),
    ],
)
def test_tampering_shows_up_by_name(dev: Deployment, tamper: Tampering, named: str) -> None:
    """Each change is found alone, and is no longer found after it was reverted."""
    with contextmanager(tamper)(dev):
        assert named in drifted(dev)
    assert named not in drifted(dev)


def test_a_version_of_the_launch_template_that_is_not_ours_shows_up(fresh: Deployment) -> None:
    """A foreign template version is named, and launches still use the deployed version."""
    fresh.deploy()
    administrator, name = fresh.as_role("administrator"), fresh.settings.environment
    administrator.ec2.create_launch_template_version(
        LaunchTemplateId=fresh.outputs.launch_template_id,
        SourceVersion="1",
        LaunchTemplateData={"InstanceType": "c7i.xlarge"},
    )
    found = find_drift(administrator, name, Concern.TRAINING)
    assert [(drift.resource, drift.what) for drift in found] == [
        ("LaunchTemplate", "version 2 was added after version 1")
    ]


def test_drift_of_what_was_never_deployed_says_so(dev: Deployment) -> None:
    """The drift of a missing environment names the stack and the command to run."""
    with pytest.raises(
        NotDeployedError,
        match=r"there is no stack nightshift-nowhere-identity: run `python -m infra_boot",
    ):
        find_drift(dev.as_role("administrator"), "nowhere")
