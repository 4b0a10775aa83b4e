"""The recovery table from evidence to state, cause and action, and its invariants."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, AttemptOutcome
from rl_lifecycle.trials.actions import Action, ActionKind, decide_action
from rl_lifecycle.trials.evidence import (
    Evidence,
    InstanceState,
    Machine,
    StepProgress,
    ended_at,
    excuse,
    track_progress,
)
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from rl_lifecycle.trials.states import RELAUNCHED, TrialState, diagnose

START = datetime(2026, 11, 22, 2, tzinfo=UTC)
NOW = START + timedelta(minutes=10)


def attempt(
    number: int = 1,
    *,
    instance_id: str | None = "i-1",
    end: AttemptEnd | None = None,
    **outcome: Any,
) -> Attempt:
    """Build an attempt that was launched at the start with one hour."""
    if instance_id is not None:
        outcome = {
            "instance_id": instance_id,
            "launched_at": START,
            "instance_type": "c6i.large",
            "market": "spot",
            **outcome,
        }
    return Attempt(
        experiment="e",
        run="r",
        trial="seed-0",
        attempt=number,
        token=f"t{number}",
        nonce="n",
        request={},
        created_at=START,
        deadline_at=START + timedelta(hours=1),
        price_reserved_usd=0.1,
        outcome=AttemptOutcome(end=end, **outcome),
    )


def machine(
    state: str = "running", reason_code: str = "", reason: str = "", **more: Any
) -> Machine:
    """Build the machine of attempt 1."""
    return Machine(
        instance_id="i-1",
        attempt=1,
        state=InstanceState(state),
        reason_code=reason_code,
        reason=reason,
        launched_at=START,
        **more,
    )


def beat(
    state: str = "training",
    *,
    step: int = 5000,
    number: int = 1,
    ago_s: float = 1,
    cause: str | None = None,
    message: str = "",
    steps_per_s: float = 1000.0,
    rebalance_at: datetime | None = None,
) -> Heartbeat:
    """Build a heartbeat of an attempt's machine."""
    return Heartbeat(
        attempt=number,
        state=TrainerState(state),
        step=step,
        total_timesteps=100_000,
        steps_per_s=steps_per_s,
        at=NOW - timedelta(seconds=ago_s),
        cause=TrainerCause(cause) if cause else None,
        message=message,
        rebalance_at=rebalance_at,
    )


def evidence(
    *attempts: Attempt, now: datetime = NOW, compute: Compute | None = None, **seen: Any
) -> Evidence:
    """Build the evidence at `now`."""
    return Evidence(
        now=now,
        total_timesteps=100_000,
        segment_timesteps=40_000,
        compute=compute or Compute(),
        attempts=attempts,
        **seen,
    )


GONE = {"machine": machine("terminated")}
TABLE: list[tuple[str, Evidence, TrialState, AttemptEnd | None, ActionKind]] = [
    ("nothing was asked for", evidence(), TrialState.PENDING, None, ActionKind.LAUNCH),
    (
        "the request was not answered yet",
        evidence(attempt(instance_id=None)),
        TrialState.LAUNCHING,
        None,
        ActionKind.ASK,
    ),
    (
        "the request was never answered",
        evidence(attempt(instance_id=None), now=START + timedelta(hours=2)),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "the request was not answered, and the machine is seen",
        evidence(attempt(instance_id=None), machine=machine()),
        TrialState.LAUNCHING,
        None,
        ActionKind.ASK,
    ),
    (
        "the request was not answered, and the machine trains",
        evidence(attempt(instance_id=None), machine=machine(), heartbeat=beat()),
        TrialState.RUNNING,
        None,
        ActionKind.ASK,
    ),
    (
        "EC2 does not show the machine yet",
        evidence(attempt(), now=START + timedelta(seconds=30)),
        TrialState.LAUNCHING,
        None,
        ActionKind.WAIT,
    ),
    (
        "EC2 has forgotten the machine",
        evidence(attempt()),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "the machine boots",
        evidence(attempt(), machine=machine("pending")),
        TrialState.LAUNCHING,
        None,
        ActionKind.WAIT,
    ),
    (
        "the machine never says a word",
        evidence(attempt(), machine=machine(), now=START + timedelta(minutes=20)),
        TrialState.STALLED,
        AttemptEnd.STALLED,
        ActionKind.SETTLE,
    ),
    (
        "it trains",
        evidence(attempt(), machine=machine(), heartbeat=beat()),
        TrialState.RUNNING,
        None,
        ActionKind.WAIT,
    ),
    (
        "it beats, and its step stands still",
        evidence(
            attempt(),
            machine=machine(),
            heartbeat=beat(),
            now=START + timedelta(minutes=30),
            progress=StepProgress(attempt=1, step=5000, since=START + timedelta(minutes=5)),
        ),
        TrialState.STALLED,
        AttemptEnd.STALLED,
        ActionKind.SETTLE,
    ),
    (
        "EC2 does not show it, and its trainer makes steps",
        evidence(
            attempt(),
            heartbeat=beat(),
            progress=StepProgress(attempt=1, step=5000, since=NOW - timedelta(minutes=2)),
        ),
        TrialState.RUNNING,
        None,
        ActionKind.WAIT,
    ),
    (
        "EC2 does not show it, and its step stands still",
        evidence(
            attempt(),
            heartbeat=beat(),
            now=START + timedelta(minutes=30),
            progress=StepProgress(attempt=1, step=5000, since=START + timedelta(minutes=5)),
        ),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "it made no step within its boot time, but AWS did not answer for ten minutes of it",
        evidence(
            attempt(),
            machine=machine(),
            now=START + timedelta(minutes=20),
            progress=StepProgress(attempt=1, step=0, since=START, blind_s=600.0),
        ),
        TrialState.LAUNCHING,
        None,
        ActionKind.WAIT,
    ),
    (
        "its heartbeat became unreadable a minute ago",
        evidence(
            attempt(),
            machine=machine(),
            unreadable="heartbeats/e/r/seed-0.json: is not JSON",
            progress=StepProgress(attempt=1, step=5000, since=NOW - timedelta(minutes=1)),
        ),
        TrialState.RUNNING,
        None,
        ActionKind.WAIT,
    ),
    (
        "no heartbeat can be read",
        evidence(
            attempt(),
            machine=machine(),
            now=START + timedelta(minutes=16),
            unreadable="heartbeats/e/r/seed-0.json: is not JSON",
        ),
        TrialState.STALLED,
        AttemptEnd.STALLED,
        ActionKind.SETTLE,
    ),
    (
        "it is slow, but within its segments",
        evidence(
            attempt(),
            machine=machine(),
            heartbeat=beat(steps_per_s=20),
            now=START + timedelta(minutes=30),
            progress=StepProgress(attempt=1, step=5000, since=START + timedelta(minutes=5)),
        ),
        TrialState.RUNNING,
        None,
        ActionKind.WAIT,
    ),
    (
        "it was given notice",
        evidence(attempt(), heartbeat=beat("interrupted"), **GONE),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.SETTLE,
    ),
    (
        "it was given notice and still uploads",
        evidence(attempt(), machine=machine(), heartbeat=beat("interrupted")),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.WAIT,
    ),
    (
        "it was given notice and hangs",
        evidence(attempt(), machine=machine(), heartbeat=beat("interrupted", ago_s=60)),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.SETTLE,
    ),
    (
        "spot took it without a word",
        evidence(
            attempt(),
            heartbeat=beat(),
            machine=machine("terminated", "Server.SpotInstanceTermination"),
        ),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.SETTLE,
    ),
    (
        "somebody killed it",
        evidence(
            attempt(),
            heartbeat=beat(),
            machine=machine("terminated", "Client.UserInitiatedShutdown"),
        ),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "it was lost after a rebalance recommendation",
        evidence(attempt(), heartbeat=beat(rebalance_at=NOW), **GONE),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.SETTLE,
    ),
    (
        "AWS recommends leaving it, and it trains on",
        evidence(attempt(), heartbeat=beat(rebalance_at=NOW), machine=machine()),
        TrialState.RUNNING,
        None,
        ActionKind.WAIT,
    ),
    (
        "its hardware failed after a recommendation",
        evidence(
            attempt(),
            heartbeat=beat(rebalance_at=NOW),
            machine=machine("terminated", "Server.InternalError"),
        ),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "its hardware failed",
        evidence(
            attempt(), heartbeat=beat(), machine=machine("terminated", "Server.InternalError")
        ),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "capacity went while it was launched",
        evidence(attempt(), machine=machine("terminated", "Server.InsufficientInstanceCapacity")),
        TrialState.WAITING_FOR_CAPACITY,
        AttemptEnd.NO_CAPACITY,
        ActionKind.SETTLE,
    ),
    (
        "its volume cannot be made",
        evidence(attempt(), machine=machine("terminated", "Client.VolumeLimitExceeded")),
        TrialState.FAILED,
        AttemptEnd.REFUSED,
        ActionKind.SETTLE,
    ),
    (
        "its deadline ended it",
        evidence(
            attempt(),
            heartbeat=beat(),
            now=START + timedelta(hours=1, seconds=5),
            machine=machine("terminated", "Client.InstanceInitiatedShutdown"),
        ),
        TrialState.FAILED,
        AttemptEnd.DEADLINE,
        ActionKind.SETTLE,
    ),
    (
        "it outlived its deadline",
        evidence(attempt(), machine=machine(), heartbeat=beat(), now=START + timedelta(hours=2)),
        TrialState.FAILED,
        AttemptEnd.DEADLINE,
        ActionKind.SETTLE,
    ),
    *(
        (
            f"the trainer says {cause}",
            evidence(attempt(), heartbeat=beat("failed", cause=cause), **GONE),
            TrialState.FAILED,
            end,
            ActionKind.SETTLE,
        )
        for cause, end in (
            ("code", AttemptEnd.CODE_FAILED),
            ("environment", AttemptEnd.CODE_FAILED),
            ("spec", AttemptEnd.CODE_FAILED),
            ("diverged", AttemptEnd.DIVERGED),
            ("out_of_memory", AttemptEnd.OUT_OF_MEMORY),
            ("disk_full", AttemptEnd.DISK_FULL),
        )
    ),
    (
        "the store failed the trainer",
        evidence(attempt(), heartbeat=beat("failed", cause="store"), **GONE),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "it was fenced out",
        evidence(attempt(), heartbeat=beat("fenced"), **GONE),
        TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST,
        ActionKind.SETTLE,
    ),
    (
        "it is trained, and its machine is gone",
        evidence(attempt(), heartbeat=beat("finished", step=100_096), **GONE),
        TrialState.FINISHED,
        AttemptEnd.FINISHED,
        ActionKind.SETTLE,
    ),
    (
        "an older machine's word does not count",
        evidence(
            attempt(1, end=AttemptEnd.INTERRUPTED, ended_at=START),
            attempt(2),
            heartbeat=beat("failed", cause="code", number=1),
            machine=machine(),
        ),
        TrialState.LAUNCHING,
        None,
        ActionKind.WAIT,
    ),
    (
        "trained and settled",
        evidence(attempt(end=AttemptEnd.FINISHED), heartbeat=beat("finished", step=100_096)),
        TrialState.FINISHED,
        AttemptEnd.FINISHED,
        ActionKind.FINISH,
    ),
    (
        "interrupted and settled",
        evidence(attempt(end=AttemptEnd.INTERRUPTED, ended_at=NOW)),
        TrialState.INTERRUPTED,
        AttemptEnd.INTERRUPTED,
        ActionKind.LAUNCH,
    ),
    (
        "stalled and settled",
        evidence(attempt(end=AttemptEnd.STALLED, ended_at=NOW)),
        TrialState.STALLED,
        AttemptEnd.STALLED,
        ActionKind.LAUNCH,
    ),
    (
        "refused capacity a moment ago",
        evidence(attempt(instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=NOW)),
        TrialState.WAITING_FOR_CAPACITY,
        AttemptEnd.NO_CAPACITY,
        ActionKind.WAIT,
    ),
    (
        "refused capacity a while ago",
        evidence(attempt(instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=START)),
        TrialState.WAITING_FOR_CAPACITY,
        AttemptEnd.NO_CAPACITY,
        ActionKind.LAUNCH,
    ),
    (
        "the code failed and was settled",
        evidence(attempt(end=AttemptEnd.CODE_FAILED, ended_at=NOW)),
        TrialState.FAILED,
        AttemptEnd.CODE_FAILED,
        ActionKind.FAIL,
    ),
    (
        "the code failed, and a person asks again",
        evidence(attempt(end=AttemptEnd.CODE_FAILED, ended_at=NOW), again=True),
        TrialState.FAILED,
        AttemptEnd.CODE_FAILED,
        ActionKind.LAUNCH,
    ),
    (
        "cancelled while it trained",
        evidence(attempt(), machine=machine(), heartbeat=beat(), cancelled=True),
        TrialState.CANCELLED,
        AttemptEnd.CANCELLED,
        ActionKind.SETTLE,
    ),
    (
        "cancelled before it began",
        evidence(cancelled=True),
        TrialState.CANCELLED,
        AttemptEnd.CANCELLED,
        ActionKind.FAIL,
    ),
    (
        "cancelled while it waited for capacity",
        evidence(
            attempt(instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=START), cancelled=True
        ),
        TrialState.WAITING_FOR_CAPACITY,
        AttemptEnd.NO_CAPACITY,
        ActionKind.FAIL,
    ),
]


@pytest.mark.parametrize(
    ("what", "seen", "state", "cause", "kind"),
    TABLE,
    ids=[row[0].replace(" ", "-") for row in TABLE],
)
def test_each_row_of_the_recovery_table(
    what: str, seen: Evidence, state: TrialState, cause: AttemptEnd | None, kind: ActionKind
) -> None:
    """Each row's evidence gives its state, cause and action."""
    finding = diagnose(seen)
    assert (finding.state, finding.cause, decide_action(seen).kind) == (state, cause, kind), what


STOP = "no better for 5 policies"


@pytest.mark.parametrize(
    ("seen", "state", "cause"),
    [
        (
            evidence(attempt(), machine=machine(), heartbeat=beat(), stop=STOP),
            TrialState.FINISHED,
            AttemptEnd.STOPPED_EARLY,
        ),
        (
            evidence(attempt(end=AttemptEnd.INTERRUPTED, ended_at=NOW), stop=STOP),
            TrialState.FINISHED,
            AttemptEnd.STOPPED_EARLY,
        ),
        (
            evidence(attempt(), heartbeat=beat("failed", cause="store"), stop=STOP, **GONE),
            TrialState.FINISHED,
            AttemptEnd.STOPPED_EARLY,
        ),
        (
            evidence(attempt(), heartbeat=beat("failed", cause="diverged"), stop=STOP, **GONE),
            TrialState.FAILED,
            AttemptEnd.DIVERGED,
        ),
        (
            evidence(attempt(), heartbeat=beat("failed"), stop=STOP, **GONE),
            TrialState.FAILED,
            AttemptEnd.CODE_FAILED,
        ),
        (
            evidence(attempt(end=AttemptEnd.OUT_OF_MEMORY, ended_at=NOW), stop=STOP),
            TrialState.FAILED,
            AttemptEnd.OUT_OF_MEMORY,
        ),
        (
            evidence(attempt(end=AttemptEnd.CANCELLED, ended_at=NOW), stop=STOP),
            TrialState.CANCELLED,
            AttemptEnd.CANCELLED,
        ),
        (
            evidence(attempt(end=AttemptEnd.DEADLINE, ended_at=NOW), stop=STOP),
            TrialState.FAILED,
            AttemptEnd.DEADLINE,
        ),
        (
            evidence(attempt(), machine=machine(), heartbeat=beat(), cancelled=True, stop=STOP),
            TrialState.CANCELLED,
            AttemptEnd.CANCELLED,
        ),
    ],
)
def test_an_early_stop_makes_no_failure_and_no_cancellation_green(
    seen: Evidence, state: TrialState, cause: AttemptEnd
) -> None:
    """It ends only a training that continues, or one whose machine was the problem."""
    finding = diagnose(seen)
    assert (finding.state, finding.cause) == (state, cause)


def test_each_failure_that_needs_a_person_ends_with_advice() -> None:
    """The reason ends with what to do."""
    for end in set(AttemptEnd) - RELAUNCHED - {AttemptEnd.FINISHED, AttemptEnd.STOPPED_EARLY}:
        action = decide_action(evidence(attempt(end=end, ended_at=NOW, reason="because")))
        assert action.kind is ActionKind.FAIL
        assert action.finding.reason.startswith("because; ")


def test_three_machines_in_a_row_without_a_new_checkpoint_end_the_trial() -> None:
    """Three machines without progress end the trial, because the market is not the cause."""
    lost = [
        attempt(n, end=AttemptEnd.MACHINE_LOST, ended_at=NOW, committed_step=40_000)
        for n in range(2, 5)
    ]
    first = attempt(1, end=AttemptEnd.INTERRUPTED, ended_at=NOW, committed_step=40_000)
    assert decide_action(evidence(first, *lost[:2])).kind is ActionKind.LAUNCH
    action = decide_action(evidence(first, *lost))
    assert action.kind is ActionKind.FAIL
    assert "3 machines in a row" in action.finding.reason


def test_a_trial_with_progress_survives_any_number_of_interruptions() -> None:
    """Interruptions with progress are no failure."""
    many = [
        attempt(n, end=AttemptEnd.INTERRUPTED, ended_at=NOW, committed_step=1000 * n, seconds=60.0)
        for n in range(1, 15)
    ]
    assert decide_action(evidence(*many)).kind is ActionKind.LAUNCH


def test_used_up_hours_end_the_trial() -> None:
    """The hours of all attempts count together."""
    used = [
        attempt(n, end=AttemptEnd.INTERRUPTED, ended_at=NOW, committed_step=n, seconds=3600.0)
        for n in range(1, 5)
    ]
    action = decide_action(evidence(*used, compute=Compute(max_hours=4)))
    assert action.kind is ActionKind.FAIL
    assert "compute.max_hours 4 are used up" in action.finding.reason


def test_capacity_is_not_waited_for_beyond_the_hours_allowed() -> None:
    """A trial without capacity ends after its allowed hours."""
    refused = attempt(instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=START)
    action = decide_action(
        evidence(refused, now=START + timedelta(hours=5), compute=Compute(max_hours=4))
    )
    assert (action.kind, action.finding.cause) == (ActionKind.FAIL, AttemptEnd.NO_CAPACITY)


def test_the_stall_clock_restarts_with_a_new_step_or_machine() -> None:
    """A heartbeat with the same step does not restart the clock."""
    first = track_progress(None, beat(step=10), START)
    assert first is not None
    assert track_progress(first, beat(step=10), NOW) == first
    for later in (beat(step=11), beat(step=10, number=2)):
        moved = track_progress(first, later, NOW)
        assert moved is not None
        assert (moved.attempt, moved.step, moved.since) == (later.attempt, later.step, NOW)


def test_a_trainer_that_waits_for_the_store_is_given_longer() -> None:
    """A large buffer may take long to send; the trainer ends itself if the store is gone."""
    for state, minutes, expected in (
        ("training", 11, TrialState.STALLED),
        ("waiting", 59, TrialState.RUNNING),
        ("waiting", 61, TrialState.STALLED),
    ):
        still = StepProgress(attempt=1, step=10, since=NOW - timedelta(minutes=minutes))
        seen = diagnose(
            evidence(attempt(), machine=machine(), heartbeat=beat(state, step=10), progress=still)
        )
        assert seen.state is expected, (state, minutes)


def test_the_first_new_step_is_remembered_for_each_machine() -> None:
    """The first new step is dated to when it was trained, because it ends the recovery."""
    starting = track_progress(None, beat("starting", step=0), START)
    seen = track_progress(
        starting, beat(step=41_960, ago_s=0, number=1), NOW, committed_step=40_960
    )
    assert starting is not None
    assert seen is not None
    assert starting.first_step_at is None
    assert seen.first_step_at == NOW - timedelta(seconds=1)
    later = track_progress(seen, beat(step=60_000), NOW)
    assert later is not None
    assert later.first_step_at == seen.first_step_at


def test_a_machine_ended_when_ec2_reports_or_at_its_last_heartbeat() -> None:
    """The end is not the time of the observation, because it decides the cost."""
    at = START + timedelta(minutes=3)
    assert (
        ended_at(evidence(attempt(), machine=machine("terminated", ended_at=at), heartbeat=beat()))
        == at
    )
    assert ended_at(
        evidence(attempt(), machine=machine("terminated"), heartbeat=beat(ago_s=100))
    ) == NOW - timedelta(seconds=100)
    assert ended_at(evidence(attempt(), machine=machine(), heartbeat=beat(ago_s=100))) == NOW


# ---- what holds for any evidence

ends = st.sampled_from([None, *AttemptEnd])
beats = st.none() | st.builds(
    beat,
    st.sampled_from([str(s) for s in TrainerState]),
    step=st.integers(0, 110_000),
    number=st.integers(1, 4),
    ago_s=st.floats(0, 5000),
    cause=st.sampled_from([None, *(str(c) for c in TrainerCause)]),
)
machines = st.none() | st.builds(
    machine,
    st.sampled_from([str(s) for s in InstanceState]),
    st.sampled_from(
        [
            "",
            "Server.SpotInstanceTermination",
            "Client.UserInitiatedShutdown",
            "Server.InternalError",
            "Something.New",
        ]
    ),
)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    """Generate evidence that reconciling can meet, where only the newest attempt may be open."""
    count = draw(st.integers(0, 4))
    attempts = [
        attempt(
            n,
            end=draw(st.sampled_from(list(AttemptEnd))),
            ended_at=START,
            committed_step=draw(st.integers(0, 5)),
        )
        for n in range(1, count)
    ]
    if count:
        attempts.append(
            attempt(
                count,
                instance_id=draw(st.sampled_from([None, "i-1"])),
                end=draw(ends),
                ended_at=START,
            )
        )
    return evidence(
        *attempts,
        now=START + timedelta(seconds=draw(st.integers(0, 20_000))),
        machine=draw(machines),
        heartbeat=draw(beats),
        cancelled=draw(st.booleans()),
        again=draw(st.booleans()),
    )


@settings(deadline=None)
@given(evidences())
def test_a_new_machine_is_asked_for_only_when_no_attempt_is_open(seen: Evidence) -> None:
    """At most one machine works on a trial: a launch needs that no attempt is open."""
    newest, action = seen.newest, decide_action(seen)
    if action.kind is ActionKind.LAUNCH:
        assert newest is None or newest.outcome.end is not None
    if action.kind in (ActionKind.ASK, ActionKind.SETTLE):
        assert newest is not None
        assert newest.outcome.end is None


@settings(deadline=None)
@given(evidences())
def test_no_trial_is_over_while_an_attempt_is_open(seen: Evidence) -> None:
    """A trial ends only after its attempts are settled, so no machine is left running."""
    if decide_action(seen).kind in (ActionKind.FINISH, ActionKind.FAIL):
        assert seen.newest is None or seen.newest.outcome.end is not None


@settings(deadline=None)
@given(evidences())
def test_what_is_settled_has_a_cause_and_what_fails_a_reason(seen: Evidence) -> None:
    """Every end has a cause, every failure a reason, and the decision is repeatable."""
    action: Action = decide_action(seen)
    if action.kind is ActionKind.SETTLE:
        assert action.finding.cause is not None
    if action.kind is ActionKind.FAIL:
        assert action.finding.reason
    assert decide_action(seen) == action
    assert Evidence.model_validate_json(seen.model_dump_json()) == seen


@settings(deadline=None)
@given(evidences())
def test_a_cancelled_trial_gets_no_new_machine(seen: Evidence) -> None:
    """A cancelled trial gets no new machine."""
    assert (
        decide_action(seen.model_copy(update={"cancelled": True, "again": False})).kind
        is not ActionKind.LAUNCH
    )


def test_another_numeric_class_waits_for_another_machine() -> None:
    """The checkpoint is good, so the trial continues on another machine instead of failing."""
    ended = attempt(
        end=AttemptEnd.OTHER_HARDWARE, ended_at=NOW - timedelta(hours=1), committed_step=40_000
    )
    assert decide_action(evidence(ended)).kind is ActionKind.LAUNCH


def test_waiting_for_a_machine_is_counted_from_the_end_of_the_last_one() -> None:
    """An interrupted trial gets its full waiting time, and ends if there is no capacity."""
    hours = Compute().max_hours
    later = START + timedelta(hours=2 * hours)
    trained = attempt(
        1, end=AttemptEnd.INTERRUPTED, ended_at=later - timedelta(hours=1), committed_step=40_000
    )
    assert decide_action(evidence(trained, now=later)).kind is ActionKind.LAUNCH
    longer = attempt(
        1,
        end=AttemptEnd.INTERRUPTED,
        ended_at=later - timedelta(hours=hours + 1),
        committed_step=40_000,
    )
    refused = attempt(
        2, instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=later - timedelta(minutes=30)
    )
    assert decide_action(evidence(longer, refused, now=later)).kind is ActionKind.FAIL
    assert decide_action(evidence(longer, refused, now=later, again=True)).kind is ActionKind.LAUNCH


def test_time_in_which_aws_did_not_answer_counts_as_no_silence() -> None:
    """The clock of a step stands still, also before the first heartbeat."""
    blind = excuse(None, 1, START, START + timedelta(minutes=8))
    assert (blind.step, blind.blind_s, blind.since) == (0, 480.0, START + timedelta(minutes=8))
    first = track_progress(blind, beat(step=10), NOW)
    assert first is not None
    assert (first.since, first.blind_s) == (NOW, 480.0)
    later = excuse(first, 1, NOW + timedelta(minutes=1), NOW + timedelta(minutes=31))
    assert (later.since, later.blind_s) == (NOW + timedelta(minutes=30), 480.0 + 1800.0)
    assert excuse(later, 2, NOW, NOW).blind_s == 0.0  # another machine's clock
