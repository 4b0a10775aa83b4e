"""Policies fit into the limits of IAM and S3, even with the longest names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra_bootstrap.clients import Clients
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.deployed import DeployedStack
from infra_bootstrap.stacks.resolving import Stage
from infra_bootstrap.stacks.template_files import parameters_of, template
from tests.infra_bootstrap.preflight.test_preflight import FakeClients

#: Characters without white space.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
MANAGED_POLICY, INLINE_POLICIES_OF_A_ROLE, TRUST_POLICY = 6144, 10_240, 2048
#: Bytes. https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html
BUCKET_POLICY = 20_480
LONGEST = {
    "Environment": "e" * 20,
    "AirflowRoleName": "a" * 64,
    "ApiServerArn": "arn:aws:iam::123456789012:role/" + "s" * 64,
    "OperatorArn": "arn:aws:iam::123456789012:role/" + "o" * 64,
    "KmsKeyArn": "arn:aws:kms:ap-southeast-2:123456789012:key/" + "0" * 36,
    "EnableSessionManager": "true",
}


class FarClients(FakeClients):
    """Clients in a region with a long name."""

    @property
    def region(self) -> str:
        """The region."""
        return "ap-southeast-2"


@pytest.fixture
def stage() -> Stage:
    """The identity stack, resolved with the longest names."""
    return stage_of(Concern.IDENTITY)


def stage_of(concern: Concern) -> Stage:
    """Resolve a stack with the longest names."""
    values = {
        name: str(declared.get("Default", "")) for name, declared in parameters_of(concern).items()
    } | LONGEST
    stack = DeployedStack(
        f"nightshift-{'e' * 20}-{concern}", "", "CREATE_COMPLETE", "", values, {}, "", False
    )
    clients: Clients = FarClients({})
    physical = {
        name: f"nightshift-{'e' * 20}-{name.lower()[:20]}"
        for name in template(concern)["Resources"]
    }
    return Stage(clients, concern, stack, physical, {})


def size(document: Any) -> int:
    """Count a policy's characters as IAM does."""
    return len(json.dumps(document, separators=(",", ":")).replace(" ", ""))


def test_managed_policies_fit(stage: Stage) -> None:
    """The boundaries and Airflow's policy fit into a managed policy."""
    sizes = {
        name: size(stage.properties(name)["PolicyDocument"])
        for name, resource in stage.resources.items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    }
    assert len(sizes) == 4
    assert max(sizes.values()) <= MANAGED_POLICY, sizes


def test_inline_and_trust_policies_of_roles_fit(stage: Stage) -> None:
    """All inline policies of a role, and its trust policy, fit into IAM's limits."""
    for name, resource in stage.resources.items():
        if resource["Type"] == "AWS::IAM::Role":
            properties = stage.properties(name)
            inline = sum(
                size(policy["PolicyDocument"]) for policy in properties.get("Policies", ())
            )
            assert inline <= INLINE_POLICIES_OF_A_ROLE, (name, inline)
            assert size(properties["AssumeRolePolicyDocument"]) <= TRUST_POLICY, name


def test_the_bucket_policy_fits() -> None:
    """The bucket policy's bytes fit into S3's limit."""
    document = stage_of(Concern.STORAGE).properties("BucketPolicy")["PolicyDocument"]
    assert len(json.dumps(document)) <= BUCKET_POLICY


def test_the_longest_names_fit_into_aws(stage: Stage) -> None:
    """Role names have at most 64 characters, bucket names at most 63."""
    for name, resource in stage.resources.items():
        if resource["Type"] == "AWS::IAM::Role":
            assert len(stage.properties(name)["RoleName"]) <= 64
    assert len(stage_of(Concern.STORAGE).properties("Bucket")["BucketName"]) <= 63
