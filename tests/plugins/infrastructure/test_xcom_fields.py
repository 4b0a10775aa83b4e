"""Results of earlier tasks in template fields: what a task uses, and what Airflow stores."""

from typing import Any

from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields

from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from tests.plugins.worlds import World


def rendered(value: Any) -> LambdaJudgeCandidateOperator:
    """Return a task whose fields Airflow has rendered, which is how they get their values."""
    task = LambdaJudgeCandidateOperator(task_id="judge", plan=None, candidate=None)
    task.plan = value
    task.environment, task.candidate = {"steps_per_s": 1000.0}, {"trial": "seed-0"}
    return task


def test_a_task_reads_the_plan_and_airflow_stores_only_where_it_is() -> None:
    """The rendered fields name XCom, where the plan already is."""
    world = World()
    task = rendered(world.plan.to_xcom())
    assert task._plan() == world.plan
    stored = _serialize_rendered_fields(task)
    assert stored["plan"] == stored["environment"] == stored["candidate"]
    assert stored["plan"] == "XCom of an earlier task"


def test_a_result_that_is_missing_stays_missing() -> None:
    """A task that runs in every case asks whether there is a plan."""
    task = rendered(None)
    assert not task.plan
    assert _serialize_rendered_fields(task)["plan"] is None
