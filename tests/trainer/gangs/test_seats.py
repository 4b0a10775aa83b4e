"""A machine that only collects: when it ends without ever having been called."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, gang_key, head_key, heartbeat_key
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.gangs import LOOPBACK, Announcement, Generation
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.attempts.seat import Seat
from rl_trainer.attempts.seat_reports import SeatReporter
from rl_trainer.errors import InterruptedTrainingError, OtherHardwareError
from rl_trainer.reporting.heartbeat import HeartbeatThread
from rl_trainer.reporting.journal import Journal
from rl_trainer.training.interruptions import Interruption
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.gangs.stage import PACED, Stage, document
from tests.trainer.shards.cases import sharded_spec

SPEC = sharded_spec("ppo", "CartPole", normalize=False)
TRIAL = SPEC.trial_id("seed-0")


def seat_of(store: DirectoryStore, interruption: Interruption) -> Seat:
    """Make the first machine that only collects, of the class `ours`."""
    place: TrialId = TRIAL.at_seat(1)
    reporter = SeatReporter(HeartbeatThread(store, place, 1), 1, 100)
    announcement = Announcement(nonce="n", address=LOOPBACK, processes=1, numeric_class="ours")
    journal = Journal(place, 1, quiet=True)
    return Seat(SPEC, place, store, announcement, journal, reporter, interruption)


def learner_ends(store: DirectoryStore, attempt: int, state: TrainerState) -> None:
    """Write the last heartbeat of a learner."""
    beat = Heartbeat(
        attempt=attempt,
        state=state,
        step=100,
        total_timesteps=100,
        steps_per_s=1.0,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    store.put(heartbeat_key(TRIAL), beat.to_json())


def test_a_machine_of_a_trained_trial_ends_at_once(tmp_path: Path) -> None:
    """The learner ended before the machine began to look."""
    store = DirectoryStore(tmp_path)
    learner_ends(store, 1, TrainerState.FINISHED)
    seat_of(store, Interruption()).run()


def test_a_failure_from_before_does_not_end_a_machine(tmp_path: Path) -> None:
    """The learner may be starting again. A later failure ends it."""
    store, interruption = DirectoryStore(tmp_path), Interruption()
    learner_ends(store, 1, TrainerState.FAILED)
    seat = seat_of(store, interruption)
    interruption.give_notice("SIGTERM")
    with pytest.raises(InterruptedTrainingError, match="SIGTERM, between two generations"):
        seat.run()
    interruption.close()
    other = seat_of(store, Interruption())
    learner_ends(store, 2, TrainerState.FAILED)
    other.run()


def test_a_machine_of_another_numeric_class_ends(tmp_path: Path) -> None:
    """With exit status 77, and with what to do."""
    store = DirectoryStore(tmp_path)
    head = Head(attempt=1, step=0, manifest_key=None, manifest_sha256=None, nonce="n")
    store.put(head_key(TRIAL), head.to_json())
    generation = Generation(
        attempt=1,
        generation=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        address=LOOPBACK,
        port=4000,
        collectors_class="theirs",
        segment=0,
        members=(),
        shards=(0,),
    )
    store.put(gang_key(TRIAL, 1, 1), generation.to_json())
    with pytest.raises(OtherHardwareError, match="class ours, and the trial's collectors are of"):
        seat_of(store, Interruption()).run()


def test_a_killed_collecting_process_is_a_lack_of_memory(stage: Stage) -> None:
    """The machine ends with exit status 71, and the others go on until it is replaced."""
    machines = stage.machines(document(**PACED), 2)
    machines.boot(range(2))
    machines.until(lambda: machines.seats_now() == {0, 1})
    machines.away.add(1)
    assert machines.kill_part(1, Random(0))
    done = machines.processes[1].finish()
    assert done.returncode == 71
    assert "collector 1 (process " in done.stderr
    assert "was killed (SIGKILL)" in done.stderr


def test_an_environment_that_ends_its_process_fails_the_trial(stage: Stage) -> None:
    """The machine ends with exit status 72. It is not only lost, because it would be lost again.

    The steps are so slow that the comparison at the start does not come that far.
    """
    odd = {"env_id": ODD, "env_kwargs": {"odd": "crash_apart", "after": 100, "step_s": 0.02}}
    long = {"total_timesteps": 6_000, "checkpoint_every": 3_000}
    machines = stage.machines(document(normalize=False, **odd, **long), 2)
    machines.boot(range(2))
    machines.away |= {1}
    done = machines.processes[1].finish()
    assert done.returncode == 72, done.stderr
    assert "ended with signal SIGSEGV: the environment has ended its process" in done.stderr
