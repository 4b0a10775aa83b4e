"""Deploying tasks defer while CloudFormation works, report the result, and can be repeated."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.sdk.exceptions import TaskDeferred
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.one_stack import Prepared, StackOutcome, StackProgress
from infra_bootstrap.errors import StackBusyError, StackFailedError
from infra_bootstrap.stacks.concerns import Concern
from rl_airflow.infrastructure import stack_operators
from rl_airflow.infrastructure import stack_trigger as triggers
from rl_airflow.infrastructure.stack_operators import CloudFormationDeployStackOperator
from rl_airflow.infrastructure.stack_trigger import CloudFormationStackTrigger

BEFORE, AFTER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
PREPARED = Prepared(
    environment="dev",
    concern=Concern.NETWORK,
    stack_name="nightshift-dev-network",
    change_set="arn:x",
    changed_at=str(BEFORE),
    command="python -m infra_bootstrap deploy --environment dev",
)
CONTEXT: Any = {"params": {"environment": "dev"}}


class FakeClients(Clients):
    """Clients whose CloudFormation describes the stack with these states in turn."""

    def __init__(self, *states: str) -> None:
        super().__init__(boto3.Session("none", "none", region_name="eu-west-1"))
        client = self.client("cloudformation")
        stub = Stubber(client)
        for state in states:
            stub.add_response(
                "describe_stacks",
                {
                    "Stacks": [
                        {
                            "StackName": PREPARED.stack_name,
                            "StackId": "arn:x",
                            "StackStatus": state,
                            "CreationTime": BEFORE,
                            "LastUpdatedTime": AFTER,
                        }
                    ]
                },
                {"StackName": PREPARED.stack_name},
            )
        stub.activate()
        self.__dict__["cloudformation"] = client


@pytest.fixture
def task() -> CloudFormationDeployStackOperator:
    """The task of the network stack."""
    return CloudFormationDeployStackOperator(task_id="deploy_network", concern="network")


def test_a_task_defers_while_cloudformation_works(task: CloudFormationDeployStackOperator) -> None:
    """After a short wait the task passes the change to the triggerer as JSON."""
    with pytest.raises(TaskDeferred) as caught:
        task._until_done(CONTEXT, FakeClients("UPDATE_IN_PROGRESS"), PREPARED, -1.0)
    assert caught.value.method_name == "execute_complete"
    assert isinstance(caught.value.trigger, CloudFormationStackTrigger)
    _, arguments = caught.value.trigger.serialize()
    assert Prepared.model_validate(arguments["prepared"]) == PREPARED


def test_the_trigger_fires_when_cloudformation_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger survives a failed look and returns what it was given."""
    looks: list[Any] = [OSError("no connection"), None, StackOutcome.UPDATED]

    def poll(_clients: Clients, prepared: Prepared) -> StackProgress:
        look = looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return StackProgress(stack_name=prepared.stack_name, status="", outcome=look)

    monkeypatch.setattr("infra_bootstrap.deployment.one_stack.poll", poll)
    monkeypatch.setattr(triggers, "FIRST_LOOK_S", 0.0)
    session = SimpleNamespace(session=boto3.Session("none", "none", region_name="eu-west-1"))
    monkeypatch.setattr(triggers, "RoleSession", lambda *_: session)
    _, arguments = CloudFormationStackTrigger(
        PREPARED.model_dump(mode="json"), "eu-west-1", "aws_default"
    ).serialize()
    event = asyncio.run(first_event(CloudFormationStackTrigger(**arguments)))
    assert (event.payload["prepared"], looks) == (PREPARED.model_dump(mode="json"), [])


async def first_event(trigger: CloudFormationStackTrigger) -> Any:
    """Return the trigger's one event."""
    return await anext(trigger.run())


def test_a_resumed_task_reports_the_stacks_result(
    task: CloudFormationDeployStackOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success gives the outcome; failure gives AWS's reason and the next command."""
    event = {"prepared": PREPARED.model_dump(mode="json")}
    monkeypatch.setattr(task, "_clients", lambda _: FakeClients("UPDATE_COMPLETE"))
    assert task.execute_complete(CONTEXT, event) == {
        "stack_name": "nightshift-dev-network",
        "outcome": "UPDATED",
        "changes": "nothing",
    }
    monkeypatch.setattr(task, "_clients", lambda _: FakeClients("UPDATE_ROLLBACK_COMPLETE"))
    monkeypatch.setattr(
        "infra_bootstrap.deployment.one_stack.find_failure", lambda *_: ("SubnetA", "no such zone")
    )
    with pytest.raises(
        StackFailedError,
        match=r"SubnetA: no such zone. Fix that, then run `python -m infra_bootstrap deploy",
    ):
        task.execute_complete(CONTEXT, event)


def test_another_deployment_of_the_stack_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry continues after the other deployment ends, and fails if it never ends."""
    monkeypatch.setattr(stack_operators, "BUSY_EVERY_S", 0.0)
    left = [1, 1]

    def prepare() -> Prepared:
        if left:
            left.pop()
            raise StackBusyError(PREPARED.stack_name, "UPDATE_IN_PROGRESS")
        return PREPARED

    assert stack_operators._when_idle(prepare) == PREPARED
    left.append(1)
    monkeypatch.setattr(stack_operators, "BUSY_WITHIN_S", -1.0)
    with pytest.raises(StackBusyError):
        stack_operators._when_idle(prepare)
