"""The drill interrupts once and fails if the recovery is slower than its objective."""

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.trials.drill_operators import Ec2InterruptTrialOperator, S3MeasureRecoveryOperator
from tests.plugins.trials.test_trials import Stage
from tests.plugins.worlds import World


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage with its own sessions."""
    stage = Stage(monkeypatch)
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    return stage


def interrupt(stage: Stage, **arguments: Any) -> Any:
    """Run the interrupting task."""
    return Ec2InterruptTrialOperator(
        task_id="interrupt", plan=stage.world.plan.to_xcom(), trial="seed-0", **arguments
    ).execute(stage.context)


def measure(stage: Stage, objective_s: float) -> Any:
    """Run the measuring task."""
    context = {**stage.context, "params": {"objective_s": objective_s}}
    return S3MeasureRecoveryOperator(
        task_id="measure", plan=stage.world.plan.to_xcom(), trial="seed-0"
    ).execute(context)  # type: ignore[arg-type]


def recover(world: World, after_s: float) -> None:
    """Let the next machine train its first new step so long after the first machine's end."""
    world.look()
    world.pass_time(after_s)
    world.beat(step=42_000)
    world.look()
    world.pass_time(60)
    world.finish()
    world.look()


def test_the_machine_is_ended_once_it_has_a_checkpoint_and_never_a_second_time(
    stage: Stage,
) -> None:
    """A retry finds that the machine was already ended."""
    stage.launch()
    with pytest.raises(AirflowFailException, match="no checkpoint within 0 s"):
        interrupt(stage, waiter_max_seconds=0)
    stage.world.commit(40_960)
    assert interrupt(stage)["instance_id"] is not None
    stage.world.look()
    assert interrupt(stage)["instance_id"] is None
    assert len(stage.world.machines_of()) == 1


@pytest.mark.parametrize(("objective_s", "good"), [(300.0, True), (30.0, False)])
def test_a_recovery_slower_than_its_objective_is_red(
    stage: Stage, objective_s: float, good: bool
) -> None:
    """The recovery takes 40 s from the termination to the first new step, with two objectives."""
    stage.launch()
    stage.world.pass_time(60)
    stage.world.commit(40_960)
    stage.world.beat(step=41_000)
    stage.world.look()
    interrupt(stage)
    recover(stage.world, 40)
    if good:
        result = measure(stage, objective_s)
        assert (result["steps_lost"], result["objective_s"]) == (40, 300.0)
        assert result["seconds_to_first_step"] == pytest.approx(
            40, abs=timedelta(seconds=3).total_seconds()
        )
    else:
        with pytest.raises(
            AirflowFailException, match=r"recovery took 38\.96 s, and the objective is 30 s"
        ):
            measure(stage, objective_s)


def test_a_drill_in_which_nothing_was_lost_is_red(stage: Stage) -> None:
    """A drill in which no step was lost shows nothing, so it fails."""
    stage.launch()
    stage.world.finish()
    stage.world.look()
    with pytest.raises(
        AirflowFailException, match="no machine was lost, so there is no recovery to measure"
    ):
        measure(stage, 300.0)
