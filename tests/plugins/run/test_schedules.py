"""The first run of a DAG after it was unpaused, as the scheduler computes it from our timetable."""

import runpy
from datetime import UTC, datetime, timedelta

import pendulum
import pytest
from airflow.sdk import DAG
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables import trigger
from airflow.timetables.base import DataInterval, TimeRestriction

from rl_airflow.dag_builders.replay import build_replay_dag
from rl_airflow.dag_builders.retrain import build_retraining_dag
from rl_airflow.run.experiment_files import ExperimentFile
from rl_airflow.run.schedules import LATE, timetable_of
from rl_lifecycle.experiment.experiment import Experiment
from tests.conftest import ROOT
from tests.plugins.worlds import EXPERIMENT

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
NIGHTLY = "0 2 * * *"


def first_run(
    schedule: str, now: datetime, monkeypatch: pytest.MonkeyPatch, last: datetime | None = None
) -> datetime:
    """Return Airflow's next run after `now`, given the last run."""
    monkeypatch.setattr(trigger, "utcnow", lambda: pendulum.instance(now))
    timetable = decode_timetable(encode_timetable(timetable_of(schedule)))
    ran = None if last is None else DataInterval.exact(pendulum.instance(last))
    info = timetable.next_dagrun_info(
        last_automated_data_interval=ran, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert info is not None
    return datetime.fromtimestamp(info.run_after.timestamp(), UTC)


@pytest.mark.parametrize("schedule", [NIGHTLY, "@daily", "@hourly", "@weekly", "0 5 * * 1"])
@pytest.mark.parametrize(
    "late", [LATE + timedelta(seconds=1), timedelta(minutes=27), timedelta(minutes=59)]
)
def test_unpausing_after_its_time_waits_for_the_next(
    schedule: str, late: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own timetable would run immediately within a tenth of the interval."""
    due = first_run(schedule, MIDNIGHT, monkeypatch)
    assert first_run(schedule, due + late, monkeypatch) > due + late


@pytest.mark.parametrize("late", [timedelta(), timedelta(seconds=30), LATE])
def test_a_first_night_is_not_lost_between_its_time_and_the_schedulers_look(
    late: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run stays the same if the file is parsed again before the scheduler's look."""
    due = first_run(NIGHTLY, MIDNIGHT, monkeypatch)
    assert due == MIDNIGHT + timedelta(hours=2)
    assert first_run(NIGHTLY, due + late, monkeypatch) == due


def test_a_night_that_was_missed_while_the_scheduler_was_down_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a downtime only the latest missed run is made, as Airflow does without catchup."""
    now = MIDNIGHT + timedelta(days=3, hours=9)
    assert first_run(NIGHTLY, now, monkeypatch, last=MIDNIGHT) == MIDNIGHT + timedelta(
        days=3, hours=2
    )


def test_every_dag_that_rents_machines_by_schedule_has_such_a_timetable() -> None:
    """The DAGs of retraining, replays and drill use our timetable."""
    experiment = Experiment.model_validate(
        EXPERIMENT | {"name": "cartpole_ppo", "replay_schedule": "0 4 * * 0"}
    )
    file = ExperimentFile(ROOT / "experiments/cartpole_ppo.yaml", experiment, "")
    drill = runpy.run_path(str(ROOT / "dags/drill_interruption.py"))["dag"]
    dags: list[DAG] = [
        build_retraining_dag(file),
        build_replay_dag("replay_cartpole_ppo", file),
        drill,
    ]
    for dag in dags:
        assert encode_timetable(dag.timetable)["__var"]["run_immediately"] == LATE.total_seconds()
