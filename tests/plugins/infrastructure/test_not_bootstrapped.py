"""Without the environment, the first task of each DAG fails at once and says what to do."""

import traceback
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from airflow.sdk import BaseHook, BaseOperator, Variable
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from botocore.exceptions import ClientError, EndpointConnectionError

from rl_airflow.errors import EnvironmentNotReadyError, MachinesNotCheckedError
from rl_airflow.evaluation.policy_evaluation_operator import LambdaEvaluatePolicyOperator
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.reap_operator import Ec2ReapInstancesOperator
from rl_airflow.registry.champion_operators import S3RollBackChampionOperator
from rl_airflow.registry.replay_operators import S3FreezeReplayOperator
from rl_airflow.registry.version_choice_operator import AskForVersionOperator
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from tests.plugins.worlds import EXPERIMENT

PARAMS = {
    "environment": "dev",
    "region_name": "eu-west-1",
    "experiment": "cartpole_ppo",
    "version": None,
    "reason": "a test",
    "bundle": "",
    "origin": "",
    "dry_run": True,
    "dry_first_time": True,
}
FIRST_TASKS: dict[str, Any] = {
    "retrain": lambda: S3FreezeSpecOperator(
        task_id="freeze_spec", experiment=EXPERIMENT | {"name": "cartpole_ppo"}, folder=""
    ),
    "evaluate_policy": lambda: LambdaEvaluatePolicyOperator(task_id="evaluate"),
    "replay_champion": lambda: S3FreezeReplayOperator(task_id="freeze_replay"),
    "choose": lambda: AskForVersionOperator(task_id="choose"),
    "rollback_policy": lambda: S3RollBackChampionOperator(task_id="roll_back", choice=None),
}


#: CloudFormation's answer for a stack that does not exist.
NO_STACK = {"Code": "ValidationError", "Message": "Stack with id nightshift-dev does not exist"}


@pytest.fixture(autouse=True)
def empty_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without any stack, and an Airflow without connections and variables."""

    def find_none(conn_id: str) -> None:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", find_none)
    monkeypatch.setattr(Variable, "get", lambda key, default=None, **_: default)
    monkeypatch.setattr(RoleSession, "_make_session", lambda self: session_that_answers(NO_STACK))


def session_that_answers(error: dict[str, str]) -> boto3.Session:
    """Return a session to which AWS answers each call with an error."""
    session = boto3.Session(
        aws_access_key_id="a", aws_secret_access_key="b", region_name="eu-west-1"
    )
    http, answer = SimpleNamespace(status_code=400), {"Error": error, "ResponseMetadata": {}}
    session.events.register("before-call.*", lambda **_: (http, answer))
    return session


def context() -> Any:
    """Return a task's context."""
    run = SimpleNamespace(dag_id="a_dag", run_id="by-hand", conf={})
    return {"params": PARAMS, "run_id": run.run_id, "dag_run": run, "ti": None}


@pytest.mark.parametrize("name", FIRST_TASKS)
def test_it_fails_at_once_and_names_the_dag_to_trigger(name: str) -> None:
    """Airflow does not retry such a failure. Two more tries would only show the cause later."""
    task: BaseOperator = FIRST_TASKS[name]()
    with pytest.raises(EnvironmentNotReadyError) as failed:
        task.execute(context())
    assert isinstance(failed.value, AirflowFailException)
    assert str(failed.value).startswith("environment 'dev': ")
    assert str(failed.value).endswith("; trigger the DAG bootstrap_infrastructure")
    assert "\n" not in str(failed.value)


def test_the_reaper_needs_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads no stack, so that it works in an incomplete environment, too."""

    def refuse(self: RoleSession) -> Any:
        answer: Any = {"Error": {"Code": "AccessDenied", "Message": "is not authorized to"}}
        raise ClientError(answer, "AssumeRole")

    monkeypatch.setattr(RoleSession, "_make_session", refuse)
    with pytest.raises(EnvironmentNotReadyError) as failed:
        Ec2ReapInstancesOperator(task_id="reap_instances").execute(context())
    assert "the role nightshift-dev-reaper cannot be assumed (AccessDenied)" in str(failed.value)


UNREACHABLE = EndpointConnectionError(endpoint_url="https://ec2.eu-west-1.amazonaws.com/")
REFUSED: Any = {"Code": "OptInRequired", "Message": "You are not subscribed to this service"}


@pytest.mark.parametrize("problem", ["Could not connect", "OptInRequired"])
def test_the_reaper_says_in_one_line_that_aws_is_away(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Airflow shows the chain of errors, so botocore's is not in it. Such a task is tried again."""

    def make(self: RoleSession) -> boto3.Session:
        if problem == "OptInRequired":
            return session_that_answers(REFUSED)
        raise UNREACHABLE

    monkeypatch.setattr(RoleSession, "_make_session", make)
    with pytest.raises(MachinesNotCheckedError) as failed:
        Ec2ReapInstancesOperator(task_id="reap_instances").execute(context())
    assert not isinstance(failed.value, AirflowFailException)
    assert problem in str(failed.value)
    assert "this task is tried again" in str(failed.value)
    shown = "".join(traceback.format_exception(failed.value))
    assert "botocore" not in shown
    assert shown.splitlines()[-1].endswith(str(failed.value))


def test_a_stack_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lacks an output that this version needs."""

    def read(*_: Any) -> Any:
        return {}["EvaluatorAliasArn"]

    monkeypatch.setattr("infra_bootstrap.stacks.outputs.read_outputs", read)
    with pytest.raises(EnvironmentNotReadyError, match="lack the output 'EvaluatorAliasArn'"):
        FIRST_TASKS["evaluate_policy"]().execute(context())
