"""The time and the steps that an interruption cost."""

from datetime import UTC, datetime, timedelta
from typing import Any

from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, AttemptOutcome
from rl_lifecycle.trials.recoveries import Recovery, find_recoveries

START = datetime(2026, 11, 22, 2, tzinfo=UTC)


def attempt(number: int, **outcome: Any) -> Attempt:
    """Build an ended attempt."""
    return Attempt(
        experiment="e",
        run="r",
        trial="t",
        attempt=number,
        token="t",
        nonce="n",
        request={},
        created_at=START,
        deadline_at=START,
        price_reserved_usd=0,
        outcome=AttemptOutcome(**outcome),
    )


def at(seconds: float) -> datetime:
    """Return a time so many minutes after the start."""
    return START + timedelta(seconds=seconds)


def test_an_undisturbed_trial_has_no_recovery() -> None:
    """A trial without interruptions has no recovery."""
    assert find_recoveries([attempt(1, instance_id="i-1", end=AttemptEnd.FINISHED)]) == ()


def test_a_recovery_runs_from_the_notice_to_the_first_new_step() -> None:
    """A recovery includes refused capacity and the steps after the last checkpoint."""
    found = find_recoveries(
        [
            attempt(
                1,
                instance_id="i-1",
                end=AttemptEnd.INTERRUPTED,
                notice_at=at(10),
                ended_at=at(40),
                reached_step=50_000,
                committed_step=40_960,
            ),
            attempt(2, end=AttemptEnd.NO_CAPACITY),
            attempt(
                3,
                instance_id="i-3",
                launched_at=at(70),
                first_step_at=at(90),
                end=AttemptEnd.FINISHED,
            ),
        ]
    )
    assert found == (
        Recovery(
            attempt=1,
            end=AttemptEnd.INTERRUPTED,
            steps_lost=9040,
            seconds_to_new_machine=60,
            seconds_to_first_step=80,
        ),
    )


def test_unknown_values_are_not_invented() -> None:
    """A machine that vanished gave no notice and no step."""
    found = find_recoveries(
        [
            attempt(1, instance_id="i-1", end=AttemptEnd.MACHINE_LOST),
            attempt(2, instance_id="i-2", launched_at=at(70)),
        ]
    )
    assert found == (
        Recovery(
            attempt=1,
            end=AttemptEnd.MACHINE_LOST,
            steps_lost=None,
            seconds_to_new_machine=None,
            seconds_to_first_step=None,
        ),
    )
