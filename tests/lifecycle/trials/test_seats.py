"""What each machine of a trial with several machines does next, and its invariants."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.experiment.compute_settings import Collectors, Compute
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.trials.actions import ActionKind, decide_action
from rl_lifecycle.trials.evidence import Evidence, SeatEvidence, track_progress
from rl_lifecycle.trials.heartbeats import TrainerState
from rl_lifecycle.trials.launch_plans import OWN_ZONE, plan_launch
from rl_lifecycle.trials.seats import FATAL, SeatAction, decide_seats, needs_worker
from rl_lifecycle.trials.states import LAST_WORDS, TrialState
from tests.lifecycle.trials.test_states import NOW, START, attempt, beat, evidence, machine

GANG = Compute(machines=2, max_hours=8)


def trial(
    *attempts: Attempt, collectors: tuple[SeatEvidence, ...] = (SeatEvidence(),), **seen: Any
) -> Evidence:
    """Build the evidence of a trial with one machine beside the learner's."""
    seen = {"compute": GANG, **seen}
    return evidence(*attempts, **seen).model_copy(update={"collectors": collectors})


def collector(*attempts: Attempt, **seen: Any) -> SeatEvidence:
    """Build the evidence of a machine that only collects."""
    return SeatEvidence(attempts=attempts, **seen)


def of_seat(actions: tuple[SeatAction, ...], seat: int = 1) -> tuple[ActionKind, AttemptEnd | None]:
    """Return what a seat does next, and why it ended."""
    return actions[seat].action.kind, actions[seat].action.finding.cause


TRAINS: dict[str, Any] = {"machine": machine(), "heartbeat": beat()}
COLLECTS: dict[str, Any] = {"machine": machine(), "heartbeat": beat(step=900)}
DONE = attempt(end=AttemptEnd.FINISHED, ended_at=NOW, reason="trained")
FAILED = attempt(end=AttemptEnd.CODE_FAILED, ended_at=NOW, reason="ValueError: boom")
TABLE: list[tuple[str, Evidence, ActionKind, AttemptEnd | None]] = [
    ("the learner has no machine yet", trial(), ActionKind.WAIT, None),
    ("its machine is asked for", trial(attempt(instance_id=None)), ActionKind.WAIT, None),
    ("the learner boots", trial(attempt(), machine=machine("pending")), ActionKind.LAUNCH, None),
    ("the learner trains", trial(attempt(), **TRAINS), ActionKind.LAUNCH, None),
    (
        "the learner is about to end",
        trial(attempt(), machine=machine(), heartbeat=beat("interrupted")),
        ActionKind.WAIT,
        None,
    ),
    (
        "it was asked for",
        trial(attempt(), collectors=(collector(attempt(instance_id=None)),), **TRAINS),
        ActionKind.ASK,
        None,
    ),
    (
        "it collects",
        trial(attempt(), collectors=(collector(attempt(), **COLLECTS),), **TRAINS),
        ActionKind.WAIT,
        None,
    ),
    (
        "it collected more steps than the trial has",
        trial(
            attempt(),
            collectors=(collector(attempt(), machine=machine(), heartbeat=beat(step=10**6)),),
            **TRAINS,
        ),
        ActionKind.WAIT,
        None,
    ),
    (
        "it was interrupted",
        trial(
            attempt(),
            collectors=(
                collector(attempt(), machine=machine("terminated"), heartbeat=beat("interrupted")),
            ),
            **TRAINS,
        ),
        ActionKind.SETTLE,
        AttemptEnd.INTERRUPTED,
    ),
    (
        "it was interrupted, and is settled",
        trial(
            attempt(),
            collectors=(collector(attempt(end=AttemptEnd.INTERRUPTED, ended_at=NOW)),),
            **TRAINS,
        ),
        ActionKind.LAUNCH,
        AttemptEnd.INTERRUPTED,
    ),
    (
        "its deadline was that of the learner's earlier machine",
        trial(
            attempt(),
            collectors=(collector(attempt(end=AttemptEnd.DEADLINE, ended_at=NOW)),),
            **TRAINS,
        ),
        ActionKind.LAUNCH,
        AttemptEnd.DEADLINE,
    ),
    (
        "it was refused a moment ago",
        trial(
            attempt(),
            collectors=(
                collector(attempt(instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=NOW)),
            ),
            **TRAINS,
        ),
        ActionKind.WAIT,
        AttemptEnd.NO_CAPACITY,
    ),
    (
        "it says that the trial is trained",
        trial(
            attempt(),
            collectors=(
                collector(attempt(), machine=machine("terminated"), heartbeat=beat("finished")),
            ),
            **TRAINS,
        ),
        ActionKind.SETTLE,
        AttemptEnd.FINISHED,
    ),
    (
        "it said that the trial is trained",
        trial(attempt(), collectors=(collector(DONE),), **TRAINS),
        ActionKind.WAIT,
        AttemptEnd.FINISHED,
    ),
    (
        "it ended with the learner's earlier machine, which failed",
        trial(
            FAILED,
            attempt(number=2).model_copy(update={"created_at": NOW}),
            collectors=(collector(DONE),),
            machine=machine("pending"),
        ),
        ActionKind.LAUNCH,
        AttemptEnd.FINISHED,
    ),
    (
        "the trial is trained",
        trial(DONE, collectors=(collector(attempt(), **COLLECTS),)),
        ActionKind.SETTLE,
        AttemptEnd.FINISHED,
    ),
    (
        "the trial is trained, and it was lost at the same time",
        trial(DONE, collectors=(collector(attempt(), machine=machine("terminated")),)),
        ActionKind.SETTLE,
        AttemptEnd.FINISHED,
    ),
    (
        "the trial is trained before it was answered",
        trial(DONE, collectors=(collector(attempt(instance_id=None)),)),
        ActionKind.SETTLE,
        AttemptEnd.FINISHED,
    ),
    (
        "the trial has failed",
        trial(FAILED, collectors=(collector(attempt(), **COLLECTS),)),
        ActionKind.SETTLE,
        AttemptEnd.CANCELLED,
    ),
    (
        "the learner was interrupted a minute ago",
        trial(
            attempt(end=AttemptEnd.INTERRUPTED, ended_at=NOW - timedelta(minutes=1)),
            collectors=(collector(attempt(), **COLLECTS),),
        ),
        ActionKind.WAIT,
        None,
    ),
    (
        "the learner has waited for a machine for long",
        trial(
            attempt(end=AttemptEnd.INTERRUPTED, ended_at=START),
            attempt(2, instance_id=None, end=AttemptEnd.NO_CAPACITY, ended_at=NOW),
            collectors=(collector(attempt(), **COLLECTS),),
            now=NOW + timedelta(minutes=1),
        ),
        ActionKind.SETTLE,
        AttemptEnd.CANCELLED,
    ),
    (
        "the checks refused its next machine",
        trial(attempt(), collectors=(collector(held=True),), **TRAINS),
        ActionKind.WAIT,
        None,
    ),
    (
        "the run has as many machines as it may have",
        trial(attempt(), collectors=(collector(no_place=True),), **TRAINS),
        ActionKind.WAIT,
        None,
    ),
    (
        "three machines ended without having collected",
        trial(
            attempt(),
            collectors=(
                collector(
                    *(
                        attempt(n, end=AttemptEnd.MACHINE_LOST, ended_at=NOW, reached_step=0)
                        for n in (1, 2, 3)
                    )
                ),
            ),
            **TRAINS,
        ),
        ActionKind.WAIT,
        AttemptEnd.MACHINE_LOST,
    ),
    (
        "one of three machines has collected",
        trial(
            attempt(),
            collectors=(
                collector(
                    *(
                        attempt(n, end=AttemptEnd.MACHINE_LOST, ended_at=NOW, reached_step=n % 2)
                        for n in (2, 3, 4)
                    )
                ),
            ),
            **TRAINS,
        ),
        ActionKind.LAUNCH,
        AttemptEnd.MACHINE_LOST,
    ),
]


@pytest.mark.parametrize(
    ("seen", "kind", "cause"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_table_of_a_machine_that_only_collects(
    seen: Evidence, kind: ActionKind, cause: AttemptEnd | None
) -> None:
    """The next action of the machine at seat 1."""
    assert of_seat(decide_seats(seen)) == (kind, cause)


@pytest.mark.parametrize("cause", ["spec", "environment", "code", "out_of_memory", "disk_full"])
def test_a_collectors_own_failure_fails_the_trial_with_its_reason(cause: str) -> None:
    """The learner runs the same code, so another machine would not help."""
    said = beat("failed", cause=cause, message="boom")
    failing = collector(attempt(), machine=machine("terminated"), heartbeat=said)
    (learner, other) = decide_seats(trial(attempt(), collectors=(failing,), **TRAINS))
    assert (learner.action.kind, other.action.kind) == (ActionKind.WAIT, ActionKind.SETTLE)
    end = other.action.finding.cause
    assert end in FATAL
    settled = collector(attempt(end=end, ended_at=NOW, reason="boom"))
    (learner, _) = decide_seats(trial(attempt(), collectors=(settled,), **TRAINS))
    assert of_seat((learner,), 0) == (ActionKind.SETTLE, end)
    over = attempt(end=end, ended_at=NOW, reason=learner.action.finding.reason)
    (learner, _) = decide_seats(trial(over, collectors=(settled,)))
    assert learner.action.kind is ActionKind.FAIL
    assert learner.action.finding.reason.startswith("machine 1: boom; ")


def test_a_failure_of_other_hardware_replaces_the_collector() -> None:
    """It is the machine's class, and not the code."""
    said = beat("failed", cause="other_hardware")
    failing = collector(attempt(), machine=machine("terminated"), heartbeat=said)
    actions = decide_seats(trial(attempt(), collectors=(failing,), **TRAINS))
    assert of_seat(actions) == (ActionKind.SETTLE, AttemptEnd.OTHER_HARDWARE)
    assert actions[0].action.kind is ActionKind.WAIT


def test_a_clear_after_a_collectors_failure_gives_both_another_machine() -> None:
    """The earlier failure does not count against the learner's next machine."""
    failed = collector(FAILED)
    again = trial(FAILED, collectors=(failed,), again=True)
    assert of_seat(decide_seats(again), 0)[0] is ActionKind.LAUNCH
    later = attempt(2).model_copy(update={"created_at": NOW + timedelta(minutes=1)})
    now = NOW + timedelta(minutes=2)
    seen = trial(FAILED, later, collectors=(failed,), now=now, machine=machine())
    assert of_seat(decide_seats(seen))[0] is ActionKind.LAUNCH


def test_a_trial_ends_only_when_all_its_machines_have_ended() -> None:
    """A collector that still uploads its log may do so."""
    last = beat("finished", step=900)
    working = collector(attempt(), machine=machine(), heartbeat=last)
    seen = trial(DONE, collectors=(working,))
    assert not needs_worker(seen)
    assert [one.action.finding.state for one in decide_seats(seen)] == [TrialState.FINISHED] * 2
    ended = trial(DONE, collectors=(collector(DONE),))
    assert decide_seats(ended)[0].action.kind is ActionKind.FINISH


def test_a_trainer_that_waited_gets_its_time_again() -> None:
    """The learner was away for longer than a step may stay the same."""
    first = track_progress(None, beat("training"), START)
    waits = track_progress(first, beat("waiting"), START + timedelta(minutes=9))
    assert waits is not None
    assert (waits.since, waits.waiting) == (START, True)
    resumed = track_progress(waits, beat("training"), NOW)
    assert resumed is not None
    assert (resumed.since, resumed.waiting) == (NOW, False)


def refused(number: int, after: timedelta) -> Attempt:
    """Build an attempt that every pool refused."""
    request = {"TargetCapacitySpecification": {"DefaultTargetCapacityType": "spot"}}
    return attempt(number, instance_id=None, end=AttemptEnd.NO_CAPACITY).model_copy(
        update={"created_at": START + after, "request": request}
    )


def test_a_collector_is_requested_in_the_learners_zone_and_later_in_all() -> None:
    """Refusals of one zone do not move it to on-demand machines."""
    learner = attempt(zone="eu-west-1b")
    own = tuple(refused(n, timedelta(seconds=20 * n)) for n in range(1, 5))
    early = trial(learner, collectors=(collector(*own),), now=START + OWN_ZONE)
    assert plan_launch(early, 1)[1:] == ("spot", learner.deadline_at, "eu-west-1b")
    late = trial(learner, collectors=(collector(*own),), now=START + 2 * OWN_ZONE)
    assert plan_launch(late, 1)[1:] == ("spot", learner.deadline_at, None)
    everywhere = (*own, *(refused(5 + n, 2 * OWN_ZONE) for n in range(3)))
    later = trial(learner, collectors=(collector(*everywhere),), now=START + 3 * OWN_ZONE)
    assert plan_launch(later, 1).market == "on-demand"


@pytest.mark.parametrize(
    ("compute", "learner", "types"),
    [
        ({}, "c6i.large", ("c6i.large", "m6i.large")),
        ({"instance_types": ("g5.xlarge", "c7i.large")}, "g5.xlarge", ("c7i.large",)),
        ({"instance_types": ("c7i.large",)}, "c7i.large", ("c7i.large",)),
        (
            {"collectors": Collectors(instance_types=("c7a.large", "m7a.large"))},
            "c6i.large",
            ("c7a.large", "m7a.large"),
        ),
    ],
)
def test_collectors_have_the_learners_processor_if_they_may(
    compute: dict[str, Any], learner: str, types: tuple[str, ...]
) -> None:
    """All that collect are of one numeric class, and a GPU collects nothing."""
    settings_of = Compute(machines=2, **compute)
    seen = trial(attempt(instance_type=learner), compute=settings_of)
    assert plan_launch(seen, 1).types == types


def test_a_collector_that_has_collected_decides_the_processor() -> None:
    """Its rollouts are in the training, so the others must be of its class."""
    compute = Compute(
        machines=3, collectors=Collectors(instance_types=("c7a.large", "c7i.large", "m7i.large"))
    )
    first = collector(
        attempt(end=AttemptEnd.INTERRUPTED, instance_type="c7i.large", reached_step=9)
    )
    seats = (first, collector(attempt(instance_type="c7a.large")))
    seen = trial(attempt(), compute=compute, collectors=seats)
    assert plan_launch(seen, 1).types == ("c7i.large", "m7i.large")
    free = compute.model_copy(update={"on_other_hardware": "continue"})
    assert len(plan_launch(seen.model_copy(update={"compute": free}), 1).types) == 3


ends = st.sampled_from([None, *AttemptEnd])
minutes = st.integers(0, 20).map(lambda n: timedelta(minutes=n))


@st.composite
def seats_of(draw: st.DrawFn) -> SeatEvidence:
    """Draw what is known of a seat: closed attempts, and perhaps an open one."""
    count = draw(st.integers(0, 4))
    attempts = []
    for number in range(1, count + 1):
        end = draw(ends) if number == count else draw(st.sampled_from(AttemptEnd))
        made = attempt(
            number,
            instance_id=draw(st.sampled_from([None, f"i-{number}"])),
            end=end,
            ended_at=START + draw(minutes) if end else None,
            reached_step=draw(st.sampled_from([None, 0, 900])),
        )
        attempts.append(made.model_copy(update={"created_at": START + draw(minutes)}))
    said = draw(st.none() | st.sampled_from(list(TrainerState)))
    return SeatEvidence(
        attempts=tuple(attempts),
        machine=draw(st.sampled_from([None, machine(), machine("terminated")])),
        heartbeat=beat(said.value, number=max(1, count)) if said else None,
        no_place=draw(st.booleans()),
        held=draw(st.booleans()),
    )


@settings(max_examples=400, deadline=None)
@given(learner=seats_of(), others=st.lists(seats_of(), min_size=1, max_size=3), after=minutes)
def test_whatever_is_seen_the_rules_of_a_gang_hold(
    learner: SeatEvidence, others: list[SeatEvidence], after: timedelta
) -> None:
    """For any learner and any collectors."""
    compute = Compute(machines=1 + len(others))
    alone = evidence(compute=compute).with_look(learner, NOW + after)
    seen = alone.model_copy(update={"collectors": tuple(others)})
    actions = decide_seats(seen)
    trial_action, newest = actions[0].action, seen.newest
    works = newest is not None and newest.outcome.end is None and newest.outcome.instance_id
    assert [one.seat for one in actions] == list(seen.seats)
    for seat, action in actions[1:]:
        own = seen.at_seat(seat)
        is_open = own.newest is not None and own.newest.outcome.end is None
        if action.kind is ActionKind.LAUNCH:
            assert works, "a collector without a learner"
            assert not is_open, "two machines at one seat"
            assert not own.no_place
            assert not own.held
        assert action.kind not in (ActionKind.FINISH, ActionKind.FAIL), "it decides the trial"
        assert is_open or action.kind in (ActionKind.WAIT, ActionKind.LAUNCH)
        if trial_action.kind in (ActionKind.FINISH, ActionKind.FAIL):
            assert not is_open, "a machine works on after its trial"
        if is_open and decide_action(alone).kind in (ActionKind.FINISH, ActionKind.FAIL):
            speaks = own.beat is not None and own.beat.state in LAST_WORDS
            assert action.kind is ActionKind.SETTLE or speaks
    fatal = any(one.attempts and one.attempts[-1].outcome.end in FATAL for one in others)
    if not fatal and trial_action.kind is not ActionKind.WAIT:
        assert trial_action == decide_action(alone), "a collector changed the learner's action"
