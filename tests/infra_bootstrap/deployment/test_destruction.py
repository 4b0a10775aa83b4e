"""Destroy needs a confirmation, refuses under running machines, and leaves nothing."""

from __future__ import annotations

import pytest

from infra_bootstrap.deployment.destroy import destroy
from infra_bootstrap.deployment.leftovers import look
from infra_bootstrap.deployment.one_stack import StackOutcome
from infra_bootstrap.errors import AccessRefusedError, InstancesRunningError, NotConfirmedError
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from tests.infra_bootstrap.accounts import Deployment


@pytest.mark.parametrize("confirm", [None, "", "Dev", "prod", "nightshift-dev"])
def test_nothing_is_deleted_without_the_exact_name(dev: Deployment, confirm: str | None) -> None:
    """Another name than the environment's is no confirmation."""
    with pytest.raises(NotConfirmedError, match=r"nothing was deleted: add `--confirm dev`"):
        destroy(dev.as_role("administrator"), dev.settings, confirm, dev.printed.append)
    assert find_stack(dev.as_role("administrator"), "nightshift-dev-training") is not None


def test_nothing_is_deleted_under_a_running_machine(dev: Deployment) -> None:
    """A running machine of the environment stops its destruction."""
    ec2 = dev.as_role("administrator").ec2
    tags = [
        {"ResourceType": "instance", "Tags": [{"Key": "nightshift:environment", "Value": "dev"}]}
    ]
    made = ec2.run_instances(
        ImageId=dev.outputs.image_id,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tags,
        UserData="#!/bin/sh\nsleep 600\n",
    )["Instances"][0]["InstanceId"]
    try:
        with pytest.raises(InstancesRunningError, match=f"1 machines run \\({made}\\)"):
            destroy(dev.as_role("administrator"), dev.settings, "dev", dev.printed.append)
    finally:
        ec2.terminate_instances(InstanceIds=[made])


def test_airflows_role_leaves_what_an_administrator_must_delete(fresh: Deployment) -> None:
    """Airflow's role deletes everything except identity and storage.

    It cannot delete the bucket. A later bootstrap finds the bucket with its content and creates the
    rest again.
    """
    fresh.deploy()
    bucket = fresh.bucket
    iam = fresh.as_role("administrator").iam
    assert [
        policy["PolicyName"]
        for policy in iam.list_attached_role_policies(RoleName="airflow-worker")["AttachedPolicies"]
        if fresh.settings.environment in policy["PolicyName"]
    ]
    worker = fresh.as_role("airflow-worker")
    name = fresh.settings.environment
    with pytest.raises(AccessRefusedError, match="let an administrator run"):
        destroy(worker, fresh.settings, name, fresh.printed.append, delete_bucket=True)
    done = destroy(worker, fresh.settings, name, fresh.printed.append)
    assert set(done.deleted) == {
        stack_name(name, concern)
        for concern in (Concern.NETWORK, Concern.TRAINING, Concern.EVALUATION)
    }
    assert set(done.kept) == {
        stack_name(name, concern) for concern in (Concern.IDENTITY, Concern.STORAGE)
    }
    assert done.leftovers == ()
    again = {result.stack_name: result.outcome for result in fresh.deploy(clients=worker)}
    assert again[stack_name(name, Concern.STORAGE)] is StackOutcome.UNCHANGED
    assert again[stack_name(name, Concern.NETWORK)] is StackOutcome.CREATED
    assert fresh.as_role("administrator").s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 0


def test_what_was_kept_can_be_destroyed_later(fresh: Deployment) -> None:
    """A plain destroy keeps the bucket and its roles, which a second destroy deletes."""
    fresh.deploy((Concern.IDENTITY,), (Concern.NETWORK, Concern.STORAGE))
    administrator, name = fresh.as_role("administrator"), fresh.settings.environment
    administrator.s3.head_bucket(Bucket=fresh.bucket)
    first = destroy(administrator, fresh.settings, name, fresh.printed.append)
    assert first.deleted == (stack_name(name, Concern.NETWORK),)
    assert first.kept == (stack_name(name, Concern.IDENTITY), stack_name(name, Concern.STORAGE))
    assert "identity holds the role that can delete storage" in first.why_kept
    assert any(first.why_kept in line for line in fresh.printed)
    assert first.leftovers == ()
    second = destroy(administrator, fresh.settings, name, fresh.printed.append, delete_bucket=True)
    assert set(second.deleted) == {*first.kept, fresh.bucket}
    assert (second.kept, second.why_kept, second.leftovers) == ((), "", ())


def test_roles_without_a_bucket_are_not_kept(fresh: Deployment) -> None:
    """After a bootstrap that stopped at identity, a plain destroy leaves nothing."""
    fresh.deploy((Concern.IDENTITY,))
    done = destroy(
        fresh.as_role("administrator"),
        fresh.settings,
        fresh.settings.environment,
        fresh.printed.append,
    )
    assert done.deleted == (stack_name(fresh.settings.environment, Concern.IDENTITY),)
    assert (done.kept, done.why_kept, done.leftovers) == ((), "", ())


def test_leftovers_are_found_by_their_tag(dev: Deployment) -> None:
    """A tagged subnet outside the stacks is listed, so the proof does not rely on stacks alone."""
    ec2 = dev.as_role("administrator").ec2
    vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "nightshift:environment", "Value": "dev"}])
    try:
        assert f"vpc {vpc}" in look(dev.as_role("administrator"), dev.settings, set()).left
    finally:
        ec2.delete_vpc(VpcId=vpc)
