"""Stacks are created, found unchanged, updated, and repaired after a failure."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.deletion import ServiceRole, is_deleted
from infra_bootstrap.deployment.deploy import deploy_side_by_side
from infra_bootstrap.deployment.one_stack import (
    Prepared,
    StackOutcome,
    poll,
    prepare,
    start,
)
from infra_bootstrap.deployment.recovery import find_living_stack
from infra_bootstrap.errors import IdentityChangedError, StackFailedError
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.outputs import Outputs
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.layout import artifact_key
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients


def test_a_first_bootstrap_by_an_administrator_creates_five_stacks(dev: Deployment) -> None:
    """An administrator's first bootstrap creates all five stacks."""
    stacks = [
        find_stack(dev.as_role("administrator"), stack_name("dev", concern)) for concern in Concern
    ]
    assert [stack.status if stack else None for stack in stacks] == ["CREATE_COMPLETE"] * 5


def test_airflows_role_finds_everything_unchanged(dev: Deployment) -> None:
    """A second bootstrap with the worker's role changes nothing and reports that."""
    results = dev.deploy(clients=dev.as_role("airflow-worker"))
    assert {result.outcome for result in results} == {StackOutcome.UNCHANGED}


def test_outputs_are_read_from_stacks_by_airflows_role(dev: Deployment) -> None:
    """Airflow's role can read every output, also as JSON and without environment variables."""
    outputs: Outputs = dev.outputs
    assert outputs.bucket == dev.bucket
    assert set(outputs.subnet_ids) == {"eu-west-1a", "eu-west-1b", "eu-west-1c"}
    assert outputs.evaluator_alias_arn.endswith(":function:nightshift-dev-evaluator:live")
    assert (
        json.loads(json.dumps(outputs.to_dict()))["trainer_wheels"]["sha256"]
        == outputs.trainer_wheels.sha256
    )


def test_airflows_role_may_not_change_identity(dev: Deployment) -> None:
    """A change to roles is refused with the command that an administrator must run."""
    settings = DeploymentSettings("dev", parameters={"MaxVolumeGib": "300"})
    with pytest.raises(
        IdentityChangedError,
        match=r"MaxVolumeGib from '200' to '300'.*administrator run `python -m",
    ):
        prepare(dev.as_role("airflow-worker"), settings, Concern.IDENTITY)


def test_a_changed_parameter_updates_its_stack_alone(dev: Deployment) -> None:
    """A changed parameter updates only its stack, reports the change, and can be reverted."""
    worker = dev.as_role("airflow-worker")
    for value in ("31", "30"):
        prepared = prepare(
            worker, DeploymentSettings("dev", parameters={"CheckpointDays": value}), Concern.STORAGE
        )
        assert "Bucket" in [change.resource for change in prepared.changes]
        start(worker, prepared)
        await_outcome(worker, prepared)
        after = find_stack(worker, "nightshift-dev-storage")
        assert after is not None
        assert after.parameters["CheckpointDays"] == value


def await_outcome(clients: Clients, prepared: Prepared) -> None:
    """Wait until the update of a stack has ended."""
    for _ in range(200):
        if poll(clients, prepared).outcome is StackOutcome.UPDATED:
            return
        time.sleep(0.05)
    pytest.fail(f"{prepared.stack_name} was not updated")


def test_new_code_and_nothing_else_rolls_alias_and_launch_template(fresh: Deployment) -> None:
    """New code changes only the function's alias and the launch template.

    New bytes publish a version and move the alias, and the launch template gets a version with the
    new wheels. Three stacks and the layer stay unchanged. The template's first version stays as it
    was, because frozen specs pin it.
    """
    fresh.deploy()
    before, administrator = fresh.outputs, fresh.as_role("administrator")
    del fresh.outputs
    lambda_ = administrator.client("lambda")
    layers = lambda_.get_function(FunctionName=before.evaluator_alias_arn)["Configuration"][
        "Layers"
    ]
    results = fresh.deploy(code="def handle(event, context=None):\n    return 'new'\n")
    name = fresh.settings.environment
    changed = {stack_name(name, Concern.TRAINING), stack_name(name, Concern.EVALUATION)}
    assert {
        result.stack_name for result in results if result.outcome is StackOutcome.UPDATED
    } == changed
    assert {result.outcome for result in results if result.stack_name not in changed} == {
        StackOutcome.UNCHANGED
    }
    alias = lambda_.get_alias(FunctionName=before.evaluator_function_name, Name="live")
    assert int(alias["FunctionVersion"]) == 2
    answer = lambda_.invoke(FunctionName=before.evaluator_alias_arn, Payload=b"{}")[
        "Payload"
    ].read()
    assert json.loads(answer) == "new"
    assert (
        lambda_.get_function(FunctionName=before.evaluator_alias_arn)["Configuration"]["Layers"]
        == layers
    )
    assert (before.launch_template_version, fresh.outputs.launch_template_version) == ("1", "2")
    assert fresh.outputs.trainer_wheels != before.trainer_wheels
    versions = administrator.ec2.describe_launch_template_versions(
        LaunchTemplateId=before.launch_template_id, Versions=["1", "2"]
    )["LaunchTemplateVersions"]
    wheels = {
        str(version["VersionNumber"]): tag["Value"]
        for version in versions
        for specification in version["LaunchTemplateData"]["TagSpecifications"]
        for tag in specification["Tags"]
        if tag["Key"] == "nightshift:wheels"
    }
    assert wheels == {"1": before.trainer_wheels.sha256, "2": fresh.outputs.trainer_wheels.sha256}


def test_a_failed_update_is_repaired_by_the_same_command(fresh: Deployment) -> None:
    """A failed update names the resource and the reason; the corrected command then succeeds."""
    administrator = fresh.as_role("administrator")
    fresh.deploy((Concern.IDENTITY,), (Concern.STORAGE,), (Concern.EVALUATION,))
    good = fresh.upload(administrator, "def handle(event, context=None):\n    return 'new'\n")
    nowhere = good.model_copy(
        update={
            "evaluator_layer": Artifact(key=artifact_key("0" * 64, "layer.zip"), sha256="0" * 64)
        }
    )
    with pytest.raises(
        StackFailedError,
        match=r"ended in UPDATE_ROLLBACK_COMPLETE. EvaluatorLayer: .*again: it continues from here",
    ):
        deploy_side_by_side(
            administrator, fresh.settings, (Concern.EVALUATION,), nowhere, fresh.printed.append
        )
    done = deploy_side_by_side(
        administrator, fresh.settings, (Concern.EVALUATION,), good, fresh.printed.append
    )
    assert [result.outcome for result in done] == [StackOutcome.UPDATED]


def test_a_stack_that_rolled_back_is_created_by_the_same_command(fresh: Deployment) -> None:
    """A failed creation names resource and reason; the corrected command then succeeds."""
    administrator = fresh.as_role("administrator")
    fresh.deploy((Concern.IDENTITY,), (Concern.STORAGE,))
    uploaded = fresh.upload(administrator, "def handle(event, context=None):\n    return event\n")
    nowhere = uploaded.model_copy(
        update={
            "evaluator_layer": Artifact(key=artifact_key("0" * 64, "layer.zip"), sha256="0" * 64)
        }
    )
    with pytest.raises(
        StackFailedError,
        match=r"ended in ROLLBACK_COMPLETE. EvaluatorLayer: .*again: it continues from here",
    ):
        deploy_side_by_side(
            administrator, fresh.settings, (Concern.EVALUATION,), nowhere, fresh.printed.append
        )
    found = find_stack(administrator, stack_name(fresh.settings.environment, Concern.EVALUATION))
    assert found is not None
    assert found.status == "ROLLBACK_COMPLETE"
    assert [result.outcome for result in fresh.deploy((Concern.EVALUATION,))] == [
        StackOutcome.CREATED
    ]


def test_a_change_set_that_was_never_executed_is_removed(fresh: Deployment) -> None:
    """A stack in REVIEW_IN_PROGRESS is deleted and created again."""
    fresh.deploy((Concern.IDENTITY,))
    prepare(fresh.as_role("administrator"), fresh.settings, Concern.STORAGE)
    found = find_stack(
        fresh.as_role("administrator"), stack_name(fresh.settings.environment, Concern.STORAGE)
    )
    assert found is not None
    assert found.status == "REVIEW_IN_PROGRESS"
    assert [result.outcome for result in fresh.deploy((Concern.STORAGE,))] == [StackOutcome.CREATED]


def test_a_rollback_that_stopped_half_way_is_finished_first() -> None:
    """UPDATE_ROLLBACK_FAILED takes no change set, so the deployer continues the rollback first."""
    client = boto3.client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    name = stack_name("dev", Concern.NETWORK)
    with Stubber(client) as stub:
        for status in (
            "UPDATE_ROLLBACK_FAILED",
            "UPDATE_ROLLBACK_IN_PROGRESS",
            "UPDATE_ROLLBACK_COMPLETE",
        ):
            stub.add_response(
                "describe_stacks",
                {
                    "Stacks": [
                        {
                            "StackName": name,
                            "StackId": "x",
                            "StackStatus": status,
                            "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
                        }
                    ]
                },
            )
            if status == "UPDATE_ROLLBACK_FAILED":
                deployer = "arn:aws:iam::123456789012:role/nightshift-dev-deployer"
                stub.add_response(
                    "continue_update_rollback", {}, {"StackName": name, "RoleARN": deployer}
                )
        found = find_living_stack(
            FakeClients({"cloudformation": client}), DeploymentSettings("dev"), Concern.NETWORK
        )
        stub.assert_no_pending_responses()
    assert found is not None
    assert found.status == "UPDATE_ROLLBACK_COMPLETE"


def stubbed_stack(name: str, *statuses: str) -> tuple[Any, Stubber]:
    """Return CloudFormation with one stack that has these statuses, one after the other."""
    client = boto3.client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    stub = Stubber(client)
    for number, status in enumerate(statuses):
        described = {
            "StackName": name,
            "StackId": "x",
            "StackStatus": status,
            "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
        }
        stub.add_response("describe_stacks", {"Stacks": [described]})
        if number == 0 and status == "UPDATE_ROLLBACK_FAILED":
            stub.add_response("continue_update_rollback", {})
    return client, stub


def event(name: str, kind: str, status: str, reason: str = "") -> dict[str, Any]:
    """Return one event of a stack."""
    return {
        "StackId": "x",
        "EventId": f"{name}-{status}",
        "StackName": "s",
        "LogicalResourceId": name,
        "ResourceType": kind,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
    }


STACK = "AWS::CloudFormation::Stack"


def blocked(stub: Stubber, events: list[dict[str, Any]], status: str) -> None:
    """Answer with the events of a stack, and with the resources that block it."""
    stub.add_response("describe_stack_events", {"StackEvents": events})
    resources = [
        {
            "LogicalResourceId": name,
            "ResourceType": "AWS::EC2::Subnet",
            "ResourceStatus": found,
            "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for name, found in (("SubnetA", status), ("Vpc", "UPDATE_COMPLETE"))
    ]
    stub.add_response("describe_stack_resources", {"StackResources": resources})


def test_a_rollback_that_is_blocked_names_the_resource_and_how_to_skip_it() -> None:
    """A rollback that fails again names what blocks the rollback, not what made it necessary."""
    name = stack_name("dev", Concern.NETWORK)
    client, stub = stubbed_stack(name, "UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED")
    events = [
        event("s", STACK, "UPDATE_ROLLBACK_FAILED", "The following resource(s) failed to update"),
        event("SubnetA", "AWS::EC2::Subnet", "UPDATE_FAILED", "the subnet does not exist"),
        event("s", STACK, "UPDATE_ROLLBACK_IN_PROGRESS"),
        event("Group", "AWS::EC2::SecurityGroup", "UPDATE_FAILED", "the first problem"),
        event("s", STACK, "UPDATE_IN_PROGRESS"),
    ]
    blocked(stub, events, "UPDATE_FAILED")
    stub.activate()
    with pytest.raises(StackFailedError) as caught:
        find_living_stack(
            FakeClients({"cloudformation": client}), DeploymentSettings("dev"), Concern.NETWORK
        )
    stub.assert_no_pending_responses()
    assert "UPDATE_ROLLBACK_FAILED. SubnetA: the subnet does not exist. Fix that" in str(
        caught.value
    )
    assert caught.value.skip == (
        f"aws cloudformation continue-update-rollback --stack-name {name} --role-arn "
        "arn:aws:iam::123456789012:role/nightshift-dev-deployer --resources-to-skip SubnetA"
    )
    assert f"run `{caught.value.skip}` first" in str(caught.value)


def test_a_deletion_that_is_blocked_names_the_resource_and_how_to_leave_it() -> None:
    """A stack in DELETE_FAILED names what blocks it, and keeps the command that was given."""
    name = stack_name("dev", Concern.NETWORK)
    client, stub = stubbed_stack(name, "DELETE_FAILED")
    events = [
        event("s", STACK, "DELETE_FAILED", "The following resource(s) failed to delete"),
        event("SubnetA", "AWS::EC2::Subnet", "DELETE_FAILED", "it has dependencies"),
        event("s", STACK, "DELETE_IN_PROGRESS"),
    ]
    blocked(stub, events, "DELETE_FAILED")
    stub.activate()
    command = "python -m infra_bootstrap destroy --environment dev --confirm dev --delete-bucket"
    role: ServiceRole = {"RoleARN": "arn:aws:iam::123456789012:role/d"}
    with pytest.raises(StackFailedError) as caught:
        is_deleted(FakeClients({"cloudformation": client}), name, command, role)
    assert f"SubnetA: it has dependencies. Fix that, then run `{command}` again" in str(
        caught.value
    )
    assert caught.value.skip == (
        f"aws cloudformation delete-stack --stack-name {name} --role-arn "
        "arn:aws:iam::123456789012:role/d --retain-resources SubnetA"
    )
