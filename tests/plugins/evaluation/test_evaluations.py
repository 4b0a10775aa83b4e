"""The judge requests only missing episodes, none twice, and recovers lost events."""

import asyncio
import random
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_airflow.errors import EvaluationFailedError
from rl_airflow.evaluation import (
    environment_operator,
    lambda_operator,
    selection_operator,
)
from rl_airflow.evaluation import trigger as triggers
from rl_airflow.evaluation.evaluation_files import EvaluationFiles, plan_shard_episodes, split_gaps
from rl_airflow.evaluation.evaluator import Evaluator, Gap, Job, Scene, scene_of
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator, candidate_evaluation
from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.run.evaluation_money import EvaluationMoney
from rl_airflow.run.notes import NOTE_KEY
from rl_airflow.run.trial_ends import TrialEnd
from rl_lifecycle.aws_errors import WAITING
from rl_lifecycle.evaluation.policies import PolicyMetadata, PolicyRecord
from rl_lifecycle.evaluation.requests import EnvironmentReport, EpisodeEnd, Shard
from rl_lifecycle.evaluation.verdicts import gate_of
from rl_lifecycle.experiment.spec import Artifact, Champion
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.machines.service_prices import TABLE
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import checkpoint_key, policy_key, shard_key
from rl_lifecycle.trials.states import TrialState
from tests.lifecycle.registry.test_promotion import SPACE
from tests.plugins.fake_lambda import FakeLambda
from tests.plugins.worlds import World

CANDIDATE = Artifact(key="policies/c.onnx", sha256="c" * 64)
OURS = candidate_evaluation(CANDIDATE)
CHAMPION = Champion(
    version=3,
    etag="e",
    digest="champion",
    policy=Artifact(key="registry/p.onnx", sha256="d" * 64),
    parameters=Artifact(key="registry/p.safetensors", sha256="e" * 64),
)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all waiting times."""
    monkeypatch.setattr(lambda_operator, "LOOK_HERE_S", 0.0)
    monkeypatch.setattr(lambda_operator, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(lambda_operator, "QUIET_S", 0.0)
    monkeypatch.setattr(triggers, "FIRST_LOOK_S", 0.0)


def shard(first_seed: int, count: int) -> Shard:
    """Build a shard of so many episodes."""
    return Shard(
        env_id="E",
        policy_sha256="p",
        first_seed=first_seed,
        returns=(1.0,) * count,
        lengths=(1,) * count,
        ends=(EpisodeEnd.TERMINATED,) * count,
        steps=count,
        seconds=1.0,
    )


def job(count: int = 120) -> Job:
    """Build a job whose first seed is 1000."""
    return Job(name=OURS, policy=CANDIDATE, first_seed=1000, n_episodes=count)


def test_a_job_without_shards_is_cut_into_shards() -> None:
    """Shards begin at multiples of the shard size."""
    assert [(gap.offset, gap.n_episodes) for gap in split_gaps(job(), [], 50)] == [
        (0, 50),
        (50, 50),
        (100, 20),
    ]


def test_a_shard_that_ran_out_of_time_leaves_a_gap_with_its_own_number() -> None:
    """The missing rest becomes a shard whose number is the offset of its first seed."""
    assert split_gaps(job(100), [shard(1000, 20), shard(1050, 50)], 50) == [Gap(OURS, 20, 30)]


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(1, 30), st.randoms(use_true_random=False))
def test_filling_the_gaps_in_any_order_gives_every_seed_once(
    count: int, most: int, rng: random.Random
) -> None:
    """Every seed is played once, however short the shards are."""
    wanted, shards = job(count), []
    for _ in range(10 * count):
        gaps = split_gaps(wanted, shards, most)
        if not gaps:
            break
        gap = rng.choice(gaps)
        shards.append(shard(1000 + gap.offset, rng.randint(1, gap.n_episodes)))
    seeds = sorted(
        seed for one in shards for seed in range(one.first_seed, one.first_seed + len(one.returns))
    )
    assert seeds == list(range(1000, 1000 + count))
    assert len({one.first_seed for one in shards}) == len(shards)


@pytest.mark.parametrize(
    ("seconds", "episodes", "size"),
    [(0.0, 0, 50), (1.0, 100, 250), (100.0, 100, 60), (600.0, 3, 1)],
)
def test_shards_are_sized_by_what_episodes_took(seconds: float, episodes: int, size: int) -> None:
    """Fast episodes still get several shards, and slow ones stay far below Lambda's time limit.

    Before the first episode the duration is unknown.
    """
    measured = [shard(1000, episodes).model_copy(update={"seconds": seconds})] if episodes else []
    assert plan_shard_episodes(measured) == size


def money_of(world: World) -> EvaluationMoney:
    """The money of a world's evaluations, at the prices of the table."""
    return EvaluationMoney(world.plan, world.spec, world.store, lambda: TABLE.prices)


class NotedTask:
    """What Airflow gives the task for XCom: it keeps the run's note."""

    def __init__(self) -> None:
        self.note = ""

    def xcom_push(self, key: str, value: str) -> None:
        """Keep the note. The task has no other key."""
        assert key == NOTE_KEY
        self.note = value


class Judge:
    """A judging task in a world with an evaluator."""

    def __init__(
        self, returns: Any, champion: Champion | None = CHAMPION, digest: str = "candidate"
    ) -> None:
        self.world = World(gate={"crash_margin": 0.3})
        spec = self.world.spec.model_copy(update={"champion": champion})
        key, data = self.world.plan.spec.key, spec.to_json()
        self.world.store.objects[key] = data
        self.plan = self.world.plan.model_copy(
            update={"spec": Artifact(key=key, sha256=sha256_hex(data))}
        )
        self.spec = spec
        self.asked: list[LambdaJudgeCandidateOperator] = []
        self.aws = FakeLambda(self.world.store, returns)
        self.noted = NotedTask()
        self.candidate = Candidate(
            trial="seed-0",
            step=1,
            digest=digest,
            policy=CANDIDATE,
            record=CANDIDATE,
            mean_return=0.0,
        )

    def operator(self) -> LambdaJudgeCandidateOperator:
        """Return a new task, as after a retry or a clear."""
        operator = LambdaJudgeCandidateOperator(
            task_id="judge",
            plan=self.plan.to_xcom(),
            candidate=self.candidate.model_dump(mode="json"),
        )
        operator._store = lambda plan: self.world.store  # type: ignore[method-assign]
        operator._evaluator = lambda plan: self.aws.evaluator()  # type: ignore[method-assign]
        operator._money = lambda plan: money_of(self.world)  # type: ignore[method-assign]
        self.asked.append(operator)
        return operator

    def run(self, most_deferrals: int = 20) -> dict[str, Any]:
        """Run to the end, with the real trigger whenever the task defers."""
        context: Any = {"ti": self.noted}
        try:
            return self.operator().execute(context)
        except TaskDeferred as deferred:
            waiting = deferred
        for _ in range(most_deferrals):
            trigger = triggers.LambdaEvaluationTrigger(**waiting.trigger.serialize()[1])
            trigger._files = lambda: EvaluationFiles(self.world.store, scene_of(self.spec))  # type: ignore[method-assign]
            event = asyncio.run(first_event(trigger))
            try:
                return self.operator().execute_complete(context, event)
            except TaskDeferred as again:
                waiting = again
        raise AssertionError("the judge did not come to an end")


async def first_event(trigger: triggers.LambdaEvaluationTrigger) -> dict[str, Any]:
    """Return the trigger's first event."""
    payload: dict[str, Any] = (await anext(trigger.run())).payload
    return payload


def better(name: str, seed: int) -> float:
    """Returns with which the candidate is clearly better."""
    return 450.0 if name == OURS else 150.0 + seed % 3


def test_a_clearly_better_candidate_is_promoted_at_the_first_look() -> None:
    """No episode beyond the first look is played."""
    judge = Judge(better)
    result = judge.run()
    look = gate_of(judge.spec.experiment).schedule()[0][0]
    assert result["decision"] == "PROMOTE"
    assert result["report"]["key"].endswith(f"{OURS}.json")
    assert sum(event.n_episodes for event in judge.aws.events) == 2 * look
    page = f"plugin/nightshift/retrain_{judge.spec.experiment.name}/report"
    assert judge.asked[-1].links == {"S3ReportLink": f"{page}?run_id={judge.spec.run_id}"}


def test_candidate_and_champion_play_the_same_seeds_on_the_same_environment() -> None:
    """The gate's pairs need the same seeds and the same environment."""
    judge = Judge(better)
    judge.run()
    seeds = {
        name: sorted(
            (event.first_seed, event.n_episodes, event.env_id)
            for event in judge.aws.events
            if event.name == name
        )
        for name in (OURS, "gate-champion")
    }
    assert seeds[OURS] == seeds["gate-champion"]
    assert {event.policy for event in judge.aws.events} == {CANDIDATE, CHAMPION.policy}


def test_an_unclear_look_is_followed_by_the_next() -> None:
    """The second look is requested only after an unclear first look."""
    judge = Judge(
        lambda name, seed: (
            250
            + random.Random(seed).uniform(-100, 100)
            + (12 if name == OURS else 0)
            + random.Random(f"{name}{seed}").uniform(-60, 60)
        )
    )
    result = judge.run()
    assert result["n_pairs"] > gate_of(judge.spec.experiment).schedule()[0][0]


def test_the_gates_shards_are_as_long_as_the_selection_was_slow() -> None:
    """At ten seconds per episode, a shard has six episodes."""
    judge = Judge(better)
    slow = shard(judge.spec.selection_first_seed, 100).model_copy(update={"seconds": 1000.0})
    judge.world.store.put(
        shard_key("cartpole_ppo", judge.spec.run, "select-seed-0-1", 0), slow.to_json()
    )
    assert judge.run()["decision"] == "PROMOTE"
    assert {event.n_episodes for event in judge.aws.events} <= {6, 4}


def test_a_first_champion_is_judged_alone() -> None:
    """The first candidate is compared with the absolute bar, so only it plays."""
    judge = Judge(better, champion=None)
    assert judge.run()["decision"] == "PROMOTE"
    assert {event.name for event in judge.aws.events} == {OURS}


def test_a_champion_of_another_lineage_is_no_measure() -> None:
    """The other lineage's champion stays in service until a candidate clears the bar."""
    judge = Judge(
        better, champion=CHAMPION.model_copy(update={"new_lineage": "another return range"})
    )
    judge.run()
    assert {event.name for event in judge.aws.events} == {OURS}


def test_equal_digests_are_unchanged_without_an_episode() -> None:
    """Equal digests are UNCHANGED without an episode."""
    judge = Judge(better, digest="champion")
    assert judge.run() == {
        "decision": "UNCHANGED",
        "reason": "the candidate is champion version 3, byte for byte",
        "n_pairs": 0,
        "report": None,
    }
    assert judge.aws.asked == []


def test_a_cleared_task_plays_nothing_again() -> None:
    """The shards are stored, and the decision stays."""
    judge = Judge(better)
    first = judge.run()
    judge.aws.events.clear()
    assert judge.run() == first
    assert judge.aws.events == []


def test_lost_events_are_noticed_and_asked_for_again() -> None:
    """Events that Lambda's queue or EventBridge lost are sent again."""
    judge = Judge(better)
    judge.aws.lose = 3
    assert judge.run()["decision"] == "PROMOTE"
    assert "evaluate RequestResponse" in judge.aws.asked


@pytest.mark.parametrize("throttle", [4, 10_000])
def test_a_throttled_call_is_repeated(throttle: int) -> None:
    """A throttled call ran nothing, so repeating it is safe; after an hour the task fails.

    The task's retry continues.
    """
    judge = Judge(better)
    judge.aws.throttle = throttle
    if throttle > 5:
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            judge.run()
        assert judge.aws.asked == []
        assert judge.aws.now == WAITING["lambda"].most_s
        judge.aws.throttle = 0
    assert judge.run()["decision"] == "PROMOTE"


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://lambda.eu-west-1.amazonaws.com"),
        ClientError(
            {"Error": {"Code": "NewError"}, "ResponseMetadata": {"HTTPStatusCode": 503}},  # type: ignore[typeddict-item]
            "Invoke",
        ),
    ],
)
def test_a_lambda_that_does_not_answer_is_waited_for(error: Exception) -> None:
    """No answer, and an unknown error of the 500s, may pass as well as a throttle."""
    judge = Judge(better)
    judge.aws.outage = [error] * 20
    assert judge.run()["decision"] == "PROMOTE"
    assert 300 < judge.aws.now < WAITING["lambda"].most_s


def test_a_refusal_of_lambda_is_not_waited_for() -> None:
    """A missing permission does not appear by waiting."""
    judge = Judge(better)
    denied = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
    judge.aws.outage = [ClientError(denied, "Invoke")]  # type: ignore[arg-type]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        judge.run()
    assert judge.aws.now == 0


def test_the_time_of_a_call_has_no_pauses_in_it() -> None:
    """A function that was refused has run nothing, so its pauses are not paid for."""
    world, took = World(), list[float]()
    aws = FakeLambda(world.store, better, throttle=5)
    asking = Evaluator(aws, "evaluator:live", took.append, sleep=aws.sleep, clock=lambda: aws.now)
    asking.check_policy(scene_of(world.spec), CANDIDATE)
    assert (aws.now, took) == (31.0, [0.0])


def test_shards_that_run_out_of_time_are_completed() -> None:
    """A slow environment plays a few episodes per invocation."""
    judge = Judge(better)
    judge.aws.at_most = 30
    assert judge.run()["decision"] == "PROMOTE"


@pytest.mark.parametrize("blind", [False, True])
def test_a_failing_page_does_not_lose_the_verdict(blind: bool) -> None:
    """The page is requested with films, then without; the verdict exists before."""
    judge = Judge(better)
    judge.aws.blind = blind
    assert judge.run()["decision"] == "PROMOTE"
    assert judge.aws.asked.count("render_report RequestResponse") == 1 + blind


def test_the_verdict_is_summarised_in_a_few_lines() -> None:
    """The lines are for the log, for the run's note, and for the person who approves."""
    judge = Judge(better)
    result = judge.run()
    assert judge.noted.note == result["summary"]
    assert result["summary"].startswith("PROMOTE: after")
    assert "crashes (below 100)" in result["summary"]


def test_the_evaluators_error_fails_the_task() -> None:
    """The task fails with the evaluator's message instead of waiting for ever."""
    judge = Judge(better)
    judge.aws.broken = "policies/c.onnx: is not an ONNX file"
    with pytest.raises(EvaluationFailedError, match="is not an ONNX file"):
        judge.run()


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"perturbation": {"action_noise": 0.1}}, "evaluation.scenarios.odd: "),
        (
            {"env_kwargs": {"wnd": 1}},
            "evaluation.scenarios.odd: .*unexpected keyword argument 'wnd'",
        ),
    ],
)
def test_a_scenario_that_cannot_be_played_is_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, scenario: dict[str, Any], message: str
) -> None:
    """A bad scenario is refused before the training is paid, and a good one passes.

    Then the machines are compared at the speed that was measured.
    """
    speeds: list[float] = []
    monkeypatch.setattr(
        environment_operator,
        "log_machines",
        lambda spec, store, session, speed: speeds.append(speed),
    )
    limits = {"return_range": [0, 500], "crash_below": 100}

    def check(scenarios: dict[str, Any]) -> Any:
        world = World(evaluation={**limits, "scenarios": scenarios}, checkpoint_every=50_000)
        aws = FakeLambda(world.store, lambda name, seed: 0.0)
        monkeypatch.setattr(type(world.plan), "store", lambda plan, session: world.store)
        monkeypatch.setattr(type(world.plan), "session", lambda plan, role, conn=None: None)
        task = environment_operator.LambdaCheckEnvironmentOperator(
            task_id="check_environment", plan=world.plan.to_xcom()
        )
        monkeypatch.setattr(task, "_evaluator", lambda plan: aws.evaluator())
        return task.execute({})

    report = check({"sticky": {"perturbation": {"sticky_actions": 0.2}}})
    assert report["problem"] == ""
    with pytest.raises(AirflowFailException, match=message):
        check({"odd": scenario})
    assert speeds == [report["steps_per_s"]]


def policy_record(
    world: World, step: int, wrappers: tuple[WrapperForm, ...] = (), trial: str = "seed-0"
) -> PolicyRecord:
    """Build a policy's record as the world's trainer writes it."""
    metadata = PolicyMetadata(
        algo="ppo",
        env_id="CartPole-v1",
        observation_space=SPACE,
        action_space=SPACE,
        digest="d",
        versions={},
        equality={},
        wrappers=wrappers,
    )
    place, sha256 = world.spec.trial_id(trial), f"{step:064d}"
    record = PolicyRecord(
        experiment="cartpole_ppo",
        run=world.spec.run,
        trial=trial,
        attempt=1,
        step=step,
        final=True,
        digest="d",
        spec_sha256=world.spec.sha256,
        policy=Artifact(key=policy_key(place, step, "onnx"), sha256=sha256),
        parameters=Artifact(key=policy_key(place, step, "safetensors"), sha256=sha256),
        manifest=Artifact(key=checkpoint_key(place, step, 1, "manifest.json"), sha256=sha256),
        metadata=metadata,
    )
    world.store.put(policy_key(place, step, "json"), record.to_json())
    return record


def select_task(
    world: World, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> selection_operator.LambdaSelectCandidateOperator:
    """The task that selects a policy of the world's finished trial."""
    monkeypatch.setattr(lambda_operator, "ARRIVAL_GRACE_S", 0.0)
    monkeypatch.setattr(
        selection_operator,
        "ends_of_trials",
        lambda context, task_id: [
            TrialEnd(
                trial="seed-0",
                state=TrialState.FINISHED,
                steps=100,
                attempts=1,
                seconds=1.0,
                usd=0.1,
            )
        ],
    )
    task = selection_operator.LambdaSelectCandidateOperator(
        task_id="select", plan=world.plan.to_xcom(), awaited_task_id="await", **arguments
    )
    monkeypatch.setattr(task, "_store", lambda plan: world.store)
    monkeypatch.setattr(task, "_money", lambda plan: money_of(world))
    return task


@pytest.mark.parametrize("known_from", ["another policy", "the environment"])
def test_the_selections_shards_are_as_long_as_the_environment_is_slow(
    monkeypatch: pytest.MonkeyPatch, known_from: str
) -> None:
    """At ten seconds per episode, a shard has six episodes.

    The duration is that of another policy, or of the longest episode at the environment's own
    speed.
    """
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0)
    policy_record(world, 200)
    other = known_from == "another policy"
    if other:
        played = policy_record(world, 100).policy.sha256
        slow = shard(world.spec.selection_first_seed, 100).model_copy(
            update={"seconds": 1000.0, "policy_sha256": played}
        )
        world.store.put(
            shard_key("cartpole_ppo", world.spec.run, "select-seed-0-100", 0), slow.to_json()
        )
    checked = EnvironmentReport(max_episode_steps=500, steps_per_s=50.0).model_dump(mode="json")
    task = select_task(world, monkeypatch, environment=None if other else checked)
    monkeypatch.setattr(task, "_evaluator", lambda plan: aws.evaluator())
    assert task.execute({})["step"] == 200  # type: ignore[typeddict-item]
    assert {event.n_episodes for event in aws.events} == {6, 4}
    assert (
        sum(event.n_episodes for event in aws.events)
        == world.spec.experiment.evaluation.selection_episodes
    )


def test_a_slow_shard_does_not_repeat_running_shards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the five missing episodes of the slow shard are requested, in pieces of a minute."""
    world = World()
    aws = FakeLambda(world.store, lambda name, seed: 100.0, lose=10_000)
    for step in range(100, 1100, 100):
        policy_record(world, step)

    def run(event: dict[str, Any] | None) -> dict[str, Any]:
        task = select_task(world, monkeypatch)
        monkeypatch.setattr(task, "_evaluator", lambda plan: aws.evaluator())
        with pytest.raises(TaskDeferred) as deferred:
            task.execute_complete({}, event) if event else task.execute({})  # type: ignore[typeddict-item]
        return dict(deferred.value.trigger.serialize()[1])

    waiting = run(None)
    slow, *others = aws.events
    aws.events.clear()
    world.store.put(
        shard_key("cartpole_ppo", world.spec.run, slow.name, 0),
        shard(slow.first_seed, 45)
        .model_copy(
            update={"seconds": 850.0, "env_id": slow.env_id, "policy_sha256": slow.policy.sha256}
        )
        .to_json(),
    )
    trigger = triggers.LambdaEvaluationTrigger(**waiting)
    monkeypatch.setattr(
        trigger, "_files", lambda: EvaluationFiles(world.store, scene_of(world.spec))
    )
    again = run(asyncio.run(first_event(trigger)))
    assert [(event.name, event.shard, event.n_episodes) for event in aws.events] == [
        (slow.name, 45, 3),
        (slow.name, 48, 2),
    ]
    assert len(again["asked"]) == len(others) + 2
    aws.lose = 0
    for event in [*others, *aws.events]:
        aws._play(event)
    aws.events.clear()
    task = select_task(world, monkeypatch)
    monkeypatch.setattr(task, "_evaluator", lambda plan: aws.evaluator())
    assert task.execute_complete({}, {"asked": again["asked"]})["step"]  # type: ignore[typeddict-item]
    assert aws.events == []


@settings(deadline=None)
@given(st.integers(1, 80), st.randoms(use_true_random=False))
def test_however_the_cut_changes_every_seed_is_asked_for_once(
    count: int, rng: random.Random
) -> None:
    """Running shards are not requested again, and the rest of a shard has its own offset."""
    store = World().store
    files, in_flight, played = (
        EvaluationFiles(store, Scene(experiment="e", run="r", env_id="E")),
        set[Gap](),
        list[int](),
    )
    while (
        missing := files.find_missing(
            [sized := job(count).model_copy(update={"shard_episodes": rng.randint(1, 30)})],
            in_flight,
        )
    ).gaps:
        assert missing.in_flight == in_flight
        in_flight |= set(missing.unasked)
        answered = rng.choice(sorted(in_flight))
        came = rng.randint(1, answered.n_episodes)
        store.put(
            shard_key("e", "r", OURS, answered.offset),
            shard(sized.first_seed + answered.offset, came).to_json(),
        )
        played.extend(range(answered.offset, answered.offset + came))
        in_flight.discard(answered)
    assert sorted(played) == list(range(count))
    assert not in_flight


@pytest.mark.parametrize(
    ("steps", "steps_per_s", "size"),
    [(500, 50.0, 6), (500, 1e6, 50), (10**6, 1.0, 1), (None, 1.0, 50), (500, None, 50)],
)
def test_without_an_episode_the_environments_own_speed_bounds_a_shard(
    steps: int | None, steps_per_s: float | None, size: int
) -> None:
    """The environment's speed makes shards smaller, never larger."""
    assert (
        plan_shard_episodes([], EnvironmentReport(max_episode_steps=steps, steps_per_s=steps_per_s))
        == size
    )


def test_the_slowest_policy_sizes_the_shards() -> None:
    """The slowest policy sets the shard size, because a policy that falls at once is quick."""
    quick, slow = (
        shard(1000, 100).model_copy(update={"policy_sha256": name, "seconds": seconds})
        for name, seconds in (("quick", 1.0), ("slow", 1000.0))
    )
    assert plan_shard_episodes([quick, slow]) == 6


def test_policies_with_other_wrappers_than_the_spec_are_not_selected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The spec sets the wrappers, so that a trainer cannot choose how its policy is judged."""
    world = World()
    policy_record(world, 100, (WrapperForm(name="gymnasium.wrappers.FlattenObservation"),))
    with pytest.raises(
        AirflowFailException,
        match=r"000100\.json names other wrappers than the experiment's env_wrapper",
    ):
        select_task(world, monkeypatch).execute({})  # type: ignore[typeddict-item]
