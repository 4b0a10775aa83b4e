"""When nights begin, as Airflow's own scheduler decides. docs/guide.md has the same rules."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.exceptions import DagRunTypeNotAllowed

from tests.dags.real_scheduler import ScheduledExperiment, night_before, run_id_of

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_numbers = itertools.count()
#: Make an experiment whose last night was due so long ago. Returned with the time of that night.
Make = Callable[[timedelta], tuple[ScheduledExperiment, datetime]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make experiments with names of their own. The scheduler forgets them after the test."""
    experiments: list[ScheduledExperiment] = []

    def made(late: timedelta) -> tuple[ScheduledExperiment, datetime]:
        schedule, at = night_before(datetime.now(UTC), late)
        experiments.append(ScheduledExperiment(tmp_path, f"night_{next(_numbers)}", schedule))
        return experiments[-1], at

    yield made
    for one in experiments:
        one.pause()


def test_the_first_night_is_at_the_next_time(make: Make) -> None:
    """An hour after its time, a DAG that is unpaused for the first time begins no night."""
    experiment, at = make(HOUR)
    experiment.pause(False)
    experiment.schedule()
    assert experiment.runs() == {}
    assert experiment.next_night() == at + DAY


def test_a_first_night_may_begin_a_few_minutes_late(make: Make) -> None:
    """So no night is lost between its time and the scheduler's next look."""
    experiment, at = make(5 * MINUTE)
    experiment.pause(False)
    experiment.schedule()
    assert experiment.runs() == {run_id_of(at): "running"}
    assert experiment.begun(run_id_of(at)) == {"freeze_spec"}
    assert experiment.next_night() == at + DAY


def test_of_missed_nights_only_the_last_is_made_up_for(make: Make) -> None:
    """After days without a scheduler, one night begins at once, and the next one is on time."""
    experiment, at = make(9 * HOUR)
    experiment.add_night(at - 4 * DAY)
    experiment.pause(False)
    experiment.schedule()
    assert experiment.runs() == {run_id_of(at - 4 * DAY): "success", run_id_of(at): "running"}
    assert experiment.next_night() == at + DAY


def test_a_paused_dag_begins_no_night_and_unpausing_makes_up_for_the_last(make: Make) -> None:
    """A DAG that has had a night by schedule begins one at once when it is unpaused."""
    experiment, at = make(9 * HOUR)
    experiment.add_night(at - 4 * DAY)
    experiment.pause()
    experiment.schedule()
    assert set(experiment.runs()) == {run_id_of(at - 4 * DAY)}
    experiment.pause(False)
    experiment.schedule()
    assert experiment.runs()[run_id_of(at)] == "running"


def test_a_paused_dag_starts_no_further_task_of_a_run(make: Make) -> None:
    """The run goes on when the DAG is unpaused."""
    experiment, _ = make(HOUR)
    experiment.pause(False)
    experiment.trigger("by-hand")
    experiment.pause()
    experiment.schedule()
    assert experiment.begun("by-hand") == set()
    experiment.pause(False)
    experiment.schedule()
    assert experiment.begun("by-hand") == {"freeze_spec"}


def test_the_first_unpausing_by_a_trigger_begins_only_the_run_by_hand(make: Make) -> None:
    """The first night by schedule is at the next time."""
    experiment, at = make(HOUR)
    experiment.trigger("by-hand")
    experiment.pause(False)
    experiment.schedule()
    assert experiment.runs() == {"by-hand": "running"}
    experiment.end("by-hand")
    experiment.parse()
    experiment.schedule()
    assert experiment.runs() == {"by-hand": "success"}
    assert experiment.next_night() == at + DAY


def test_a_night_and_a_run_by_hand_never_train_side_by_side(make: Make) -> None:
    """The later one begins when the other has ended."""
    experiment, at = make(5 * MINUTE)
    experiment.trigger("by-hand")
    experiment.pause(False)
    experiment.schedule()
    states = experiment.runs()
    assert sorted(states.values()) in (["queued", "running"], ["running"])
    first = next(run_id for run_id, state in states.items() if state == "running")
    experiment.end(first)
    experiment.schedule()
    states = experiment.runs()
    assert set(states) == {"by-hand", run_id_of(at)}
    assert states.pop(first) == "success"
    assert list(states.values()) == ["running"]


def test_clearing_an_old_run_repeats_only_that_run(make: Make) -> None:
    """It moves no night, and the night that is due waits until the cleared run has ended."""
    experiment, at = make(HOUR)
    old = experiment.add_night(at - 3 * DAY)
    experiment.add_night(at)
    experiment.pause(False)
    experiment.clear(old)
    experiment.schedule()
    assert experiment.runs() == {old: "running", run_id_of(at): "success"}
    experiment.trigger("by-hand")
    experiment.schedule()
    assert experiment.runs()["by-hand"] == "queued"
    experiment.end(old)
    experiment.schedule()
    assert experiment.runs() == {
        old: "success",
        run_id_of(at): "success",
        "by-hand": "running",
    }
    assert experiment.next_night() == at + DAY


def test_a_backfill_is_refused_and_moves_no_night(make: Make) -> None:
    """Airflow's command and API answer with this sentence, and the UI offers no backfill."""
    from airflow.models.backfill import ReprocessBehavior, _create_backfill

    experiment, at = make(HOUR)
    experiment.pause(False)
    with pytest.raises(
        DagRunTypeNotAllowed, match=f"'{experiment.dag_id}' does not allow backfill"
    ):
        _create_backfill(
            dag_id=experiment.dag_id,
            from_date=at - 3 * DAY,
            to_date=at,
            max_active_runs=10,
            reverse=False,
            triggering_user_name="ada",
            dag_run_conf=None,
            reprocess_behavior=ReprocessBehavior.NONE,
        )
    experiment.schedule()
    assert experiment.runs() == {}
    assert experiment.next_night() == at + DAY
