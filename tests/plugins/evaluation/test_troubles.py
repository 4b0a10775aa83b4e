"""Policies that cannot be played, and episodes that are lost: what they cost, and what is said."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from rl_airflow.errors import EvaluationFailedError, EvaluatorBusyError
from rl_airflow.evaluation import lambda_operator, selection_operator
from rl_airflow.evaluation import trigger as triggers
from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import scene_of
from rl_airflow.evaluation.lambda_operator import QUIET_S
from rl_evaluator.errors import FunctionBusyError
from rl_lifecycle.errors import StoreRefusedError, StoreUnavailableError
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.storage.layout import policy_key, shard_key
from tests.plugins.evaluation.test_evaluations import (
    CANDIDATE,
    CHAMPION,
    OURS,
    Judge,
    better,
    first_event,
    hasty,
    money_of,
    policy_record,
    select_task,
    shard,
)
from tests.plugins.fake_lambda import BUSY_S, FakeLambda
from tests.plugins.worlds import World

assert hasty  # a fixture for every test of this module
WAY_OUT = "trigger retrain_cartpole_ppo with new_lineage"


def lossy(lost: dict[str, str]) -> Any:
    """Returns of policies that lose all their episodes. The fake plays a NaN as a lost episode."""
    return lambda name, seed: None if name in lost else better(name, seed)


def test_a_champion_that_cannot_be_played_ends_the_judging_with_a_way_out() -> None:
    """The next nights would fail in the same way, so the result says what a person can do."""
    judge = Judge(better)
    judge.aws.damaged[CHAMPION.policy.sha256] = "the space is Box [4], the policy's is Box [3]"
    result = judge.run()
    assert (result["decision"], result["broken"]) == ("INCONCLUSIVE", True)
    assert result["reason"] == (
        "champion version 3 can no longer be played: the space is Box [4], the policy's is Box [3]"
    )
    assert result["report"] is None
    assert WAY_OUT in result["lost"][-1]


def test_a_candidate_that_cannot_be_played_fails_the_task() -> None:
    """Only the champion has a way out."""
    judge = Judge(better)
    judge.aws.damaged[CANDIDATE.sha256] = "it is not finite"
    with pytest.raises(EvaluationFailedError, match="it is not finite"):
        judge.run()


def test_an_evaluator_that_plays_nothing_is_not_the_champions_fault() -> None:
    """The task fails, and Airflow tries again."""
    judge = Judge(better)
    judge.aws.damaged |= {CHAMPION.policy.sha256: "no module", CANDIDATE.sha256: "no module"}
    with pytest.raises(EvaluationFailedError, match="no module"):
        judge.run()


BUSY = [
    FunctionBusyError("player", "TooManyRequestsException"),
    StoreUnavailableError("player", "S3 answered 503"),
]


@pytest.mark.parametrize("error", BUSY)
def test_a_busy_lambda_or_s3_is_no_fault_of_a_policy(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The probe waits, and every policy is selected from."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0, lose=10_000)
    for step in (100, 200, 300):
        policy_record(world, step)
    with pytest.raises(EvaluatorBusyError, match="a retry or a clear of this task goes on"):
        run_select(world, aws, monkeypatch, [error] * 10_000)
    assert 3600 <= aws.now < 3600 + 2 * BUSY_S
    aws.lose = 0
    result = run_select(world, aws, monkeypatch, [error] * 5)
    assert len(result["ranking"]) == 3
    assert not result["not_evaluated"]


@pytest.mark.parametrize("error", BUSY)
def test_a_champion_is_not_unplayable_while_aws_is_busy(error: Exception) -> None:
    """The check of the champion waits, too; and after an hour the task fails without a verdict."""
    judge = Judge(better)
    judge.aws.damaged[CHAMPION.policy.sha256] = "the space is Box [4], the policy's is Box [3]"
    operator = judge.operator()
    judge.aws.busy = [error] * 3
    problem = operator._why_unplayable(judge.plan, judge.spec, CANDIDATE)
    assert (problem, judge.aws.busy) == ("", [])
    judge.aws.busy = [error] * 10_000
    with pytest.raises(EvaluatorBusyError):
        operator._why_unplayable(judge.plan, judge.spec, CHAMPION.policy)
    with pytest.raises(EvaluatorBusyError):
        judge.run()


class Queue:
    """The selection of ten policies, while Lambda keeps the requests in its queue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.monkeypatch = World(), monkeypatch
        for step in range(100, 1100, 100):
            policy_record(self.world, step)
        self.aws = FakeLambda(self.world.store, lambda name, seed: 100.0, queues=True)
        self.event: dict[str, Any] | None = None

    def defer(self) -> triggers.LambdaEvaluationTrigger:
        """Continue the task until it defers. :return: the trigger that waits."""
        task = select_task(self.world, self.monkeypatch)
        self.monkeypatch.setattr(task, "_evaluator", lambda plan: self.aws.evaluator())
        with pytest.raises(TaskDeferred) as waiting:
            task.execute_complete({}, self.event) if self.event else task.execute({})  # type: ignore[typeddict-item]
        trigger = triggers.LambdaEvaluationTrigger(**waiting.value.trigger.serialize()[1])
        trigger._files = lambda: EvaluationFiles(self.world.store, scene_of(self.world.spec))  # type: ignore[method-assign]
        return trigger

    def round(self, busy: Sequence[Exception] = (), arrive: int = 0) -> tuple[int, int]:
        """Continue the task until it defers, and wait with the real trigger until it is quiet.

        :param busy: how the function answers the probe at first.
        :param arrive: how many of the queued requests are played meanwhile.
        :return: how many requests were sent so far, and how many lost invocations were counted.
        """
        self.aws.busy = list(busy)
        trigger = self.defer()
        for _ in range(arrive):
            self.aws._play(self.aws.queue.pop())
        self.event = asyncio.run(first_event(trigger))
        assert self.event["quiet"]
        entry = money_of(self.world).ledger.read().evaluation
        return len(self.aws.events), entry.calls if entry else 0


@pytest.mark.parametrize("error", BUSY)
def test_while_lambda_is_busy_nothing_is_lost_and_nothing_is_requested_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A throttled Lambda has run nothing, and its queue still holds the requests."""
    queue = Queue(monkeypatch)
    assert [queue.round([error]) for _ in range(7)] == [(20, 0)] * 7


def test_a_queue_that_is_worked_through_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One shard at a time, as in an account with few executions: nothing is requested again."""
    queue = Queue(monkeypatch)
    assert [queue.round(arrive=1) for _ in range(7)] == [(20, 0)] * 7


def test_silent_shards_are_requested_again_and_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three probes ran at once without other news, so Lambda's queue does not hold the others."""
    assert QUIET_S * lambda_operator.PROBES > 300
    queue = Queue(monkeypatch)
    told = [queue.round() for _ in range(7)]
    # The probes show that episodes are fast. The eight policies that are left get one shard each.
    assert told == [(20, 0)] * 3 + [(28, 3 * 16)] * 3 + [(33, 3 * 16)]


def test_a_store_that_refuses_is_not_waited_for() -> None:
    """Waiting does not change a refusal."""
    judge = Judge(better)
    judge.aws.busy = [StoreRefusedError("player", "S3 answered 403")]
    with pytest.raises(EvaluationFailedError, match="S3 answered 403"):
        judge.aws.evaluator().check_policy(scene_of(judge.spec), CANDIDATE)
    assert judge.aws.now == BUSY_S


@pytest.mark.parametrize(
    ("losing", "has_way_out"), [(["gate-champion"], True), ([OURS], False), (["both"], False)]
)
def test_lost_episodes_are_told_with_whose_they_are_their_seeds_and_the_reason(
    losing: list[str], has_way_out: bool
) -> None:
    """Only a champion that alone loses its episodes has a way out."""
    names = {"gate-champion": "champion", OURS: "candidate"}
    lost = names if losing == ["both"] else {name: names[name] for name in losing}
    judge = Judge(lossy(lost))
    result = judge.run()
    assert (result["decision"], result["broken"]) == ("INCONCLUSIVE", True)
    first = judge.spec.gate_first_seed
    for policy in lost.values():
        told = next(line for line in result["lost"] if line.startswith(f"{policy}: "))
        assert "50 of 50 episodes lost" in told or "250 of 250 episodes lost" in told
        assert f"seeds {first}, {first + 1}" in told
        assert f"seed {first}: the reward is not finite" in told
    assert (WAY_OUT in result["lost"][-1]) == has_way_out
    assert result["candidate"] == "candidate"


def test_a_sound_verdict_has_no_trouble() -> None:
    """The keys of the trouble are absent."""
    result = Judge(better).run()
    assert result["candidate"] == "candidate"
    assert not {"broken", "lost"} & set(result)


def run_select(
    world: World,
    aws: FakeLambda,
    monkeypatch: pytest.MonkeyPatch,
    busy: Sequence[Exception] = (),
) -> dict[str, Any]:
    """Run the selection to its end, with the real trigger whenever it defers.

    :param busy: how the function answers the next calls that wait for it.
    """
    aws.busy = list(busy)

    def task() -> selection_operator.LambdaSelectCandidateOperator:
        made = select_task(world, monkeypatch)
        monkeypatch.setattr(made, "_evaluator", lambda plan: aws.evaluator())
        return made

    event = None
    for _ in range(20):
        try:
            return (
                task().execute({})  # type: ignore[typeddict-item]
                if event is None
                else task().execute_complete({}, event)  # type: ignore[typeddict-item]
            )
        except TaskDeferred as waiting:
            trigger = triggers.LambdaEvaluationTrigger(**waiting.trigger.serialize()[1])
            trigger._files = lambda: EvaluationFiles(world.store, scene_of(world.spec))  # type: ignore[method-assign]
            event = asyncio.run(first_event(trigger))
    raise AssertionError("the selection did not come to an end")


def test_a_policy_that_cannot_be_evaluated_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others are selected from, and the result names it."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0)
    for step in (100, 200, 300):
        policy_record(world, step)
    aws.damaged[f"{200:064d}"] = "EpisodeTooLongError: seed 5 took 1,000,000 steps"
    result = run_select(world, aws, monkeypatch)
    assert result["step"] != 200
    assert len(result["ranking"]) == 2
    assert len(result["not_evaluated"]) == 1
    assert "EpisodeTooLongError: seed 5 took 1,000,000 steps" in result["not_evaluated"][0]
    assert result["not_evaluated"][0].startswith("seed-0 at step 200: ")
    assert result["trials"] == ["seed-0"]


def damage(world: World, kind: str) -> None:
    """Write the shards of step 200 as a wheel could."""
    first, name = world.spec.selection_first_seed, "select-seed-0-200"
    if kind == "overlapping":
        other = shard(first + 50, 50).model_copy(update={"returns": (2.0,) * 50})
        shards = {0: shard(first, 60).to_json(), 50: other.to_json()}
    else:
        shards = {0: {"no JSON": b"no JSON", "newer": b'{"schema_version": 99}'}[kind]}
    for offset, data in shards.items():
        world.store.put(shard_key("cartpole_ppo", world.spec.run, name, offset), data)


@pytest.mark.parametrize("kind", ["no JSON", "newer", "overlapping"])
def test_a_shard_that_cannot_be_used_costs_only_its_own_policy(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A wheel may write any bytes to the shard that it was asked for."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0)
    for step in (100, 200, 300):
        policy_record(world, step)
    damage(world, kind)
    result = run_select(world, aws, monkeypatch)
    assert len(result["ranking"]) == 2
    (told,) = result["not_evaluated"]
    assert told.startswith("seed-0 at step 200: ")
    assert "to play these episodes again, delete the job's shards" in told


def test_a_trigger_lets_the_task_decide_about_a_shard_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Looking again would not change it."""
    queue = Queue(monkeypatch)
    trigger = queue.defer()
    damage(queue.world, "no JSON")
    event = asyncio.run(asyncio.wait_for(first_event(trigger), 10))
    assert (event["quiet"], len(event["asked"])) == (False, 20)


def test_when_no_policy_can_be_evaluated_the_selection_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is nothing to select from."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0, broken="no such wheel")
    for step in (100, 200):
        policy_record(world, step)
    with pytest.raises(EvaluationFailedError, match="no such wheel"):
        run_select(world, aws, monkeypatch)


@pytest.mark.parametrize("trouble", ["wrappers", "unreadable record", "another trial's files"])
def test_a_trial_with_a_wrong_policy_costs_only_its_own_policies(
    monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The other trial is selected from."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0)
    wrappers = (WrapperForm(name="gymnasium.wrappers.FlattenObservation"),)
    good = policy_record(world, 100)
    policy_record(world, 100, wrappers, trial="seed-1")
    wrong = {
        "unreadable record": b"{",
        "another trial's files": good.model_copy(update={"trial": "seed-1"}).to_json(),
    }
    if trouble in wrong:
        key = policy_key(world.spec.trial_id("seed-1"), 100, "json")
        world.store.put(key, wrong[trouble])
    task = select_task(world, monkeypatch)
    ends = selection_operator.ends_of_trials({}, "await")  # type: ignore[arg-type]
    both = [ends[0], ends[0].model_copy(update={"trial": "seed-1"})]
    monkeypatch.setattr(selection_operator, "ends_of_trials", lambda *_: both)
    monkeypatch.setattr(task, "_evaluator", lambda plan: aws.evaluator())
    result = task.execute({})  # type: ignore[typeddict-item]
    assert result["trial"] == "seed-0"
    assert result["not_evaluated"][0].startswith("seed-1: ")
    assert result["trials"] == ["seed-0", "seed-1"]


def test_without_a_plan_nothing_is_selected() -> None:
    """Airflow starts the task even if `freeze_spec` failed."""
    task = selection_operator.LambdaSelectCandidateOperator(
        task_id="select", plan=None, awaited_task_id="await"
    )
    with pytest.raises(AirflowFailException, match="no trial finished its training"):
        task.execute({})  # type: ignore[typeddict-item]
