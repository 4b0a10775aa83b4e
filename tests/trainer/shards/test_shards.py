"""A shard's rollout is a function of its own inputs, whatever else its process collects."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.running_mean_std import RunningMeanStd

from rl_trainer.checkpointing.model_state import Arrays, capture_normalisation, capture_policy
from rl_trainer.errors import BadInputError
from rl_trainer.shards.collecting import LARGEST_REWARD, ShardCollector
from rl_trainer.shards.episodes import EPISODES
from rl_trainer.shards.moments import NEW_DATA, add_new_data
from rl_trainer.training.preparation import make_trainer as make_trial_trainer
from rl_trainer.training.segments import SegmentTrainer
from tests.trainer.chains import TOY, make_trainer, train_chain, whole_digest
from tests.trainer.conftest import TINY_PPO, Trainer, frozen, merged
from tests.trainer.shards.cases import sharded_spec

SMALL: dict[str, Any] = {
    "n_envs": 6,
    "n_steps": 20,
    "batch_size": 40,
    "n_epochs": 2,
    "policy_kwargs": "dict(net_arch=[8])",
}
DRAWING = "tests.trainer.shards.cases:Drawing-v0"
#: Algorithm, hyper-parameters beside SMALL, environment and its arguments.
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "ppo": ("ppo", {}, TOY, {}),
    "ppo normalized": ("ppo", {"normalize": True}, TOY, {"action": "box"}),
    "ppo on a dictionary": (
        "ppo",
        {"policy": "MultiInputPolicy", "normalize": True},
        TOY,
        {"observation": "dict"},
    ),
    "ppo on stacked images": (
        "ppo",
        {"policy": "CnnPolicy", "frame_stack": 2, "normalize": "dict(norm_obs=False)"},
        TOY,
        {"observation": "image"},
    ),
    "ppo with gSDE": (
        "ppo",
        {"use_sde": True, "sde_sample_freq": 4},
        TOY,
        {"action": "box"},
    ),
    "ppo on global generators": ("ppo", {"normalize": True}, DRAWING, {}),
    "a2c": ("a2c", {"normalize": True}, TOY, {"action": "box"}),
    "trpo": ("trpo", {}, TOY, {}),
    "ppo_lstm": (
        "ppo_lstm",
        {"policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=8)"},
        TOY,
        {},
    ),
    "maskable_ppo": ("maskable_ppo", {"normalize": True}, TOY, {}),
}
#: Keys of SMALL that an algorithm does not have.
MISSING = {"a2c": ("batch_size", "n_epochs"), "trpo": ("n_epochs",)}


def sharded(case: str, n_shards: int) -> SegmentTrainer:
    """Make a trainer of a case, with segments of two rollouts."""
    algo, changes, env_id, env_kwargs = CASES[case]
    small = {key: value for key, value in SMALL.items() if key not in MISSING.get(algo, ())}
    made = make_trainer(
        algo, {**small, **changes}, env_id=env_id, env_kwargs=env_kwargs, segment=240, total=480
    )
    return SegmentTrainer(
        dataclasses.replace(made.plan, n_shards=n_shards), made.factory, made.builder
    )


def two_rollouts(trainer: SegmentTrainer, shards: list[int], base: Arrays) -> list[Arrays]:
    """Collect two rollouts, the second one with other parameters."""
    collector = ShardCollector(trainer.work, 1, shards)
    moved = {key: array * array.dtype.type(0.9) for key, array in base.items()}
    rollouts = []
    for parameters in (base, moved):
        found = collector.collect(parameters, lambda n_steps: None)
        rollouts += [{key: array.copy() for key, array in found[shard].items()} for shard in shards]
    collector.close()
    return rollouts


def same_bytes(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of arrays that differ in a type, a shape or a byte."""
    return [
        name
        for name in {*one, *other}
        if name not in one
        or name not in other
        or (one[name].dtype, one[name].shape) != (other[name].dtype, other[name].shape)
        or one[name].tobytes() != other[name].tobytes()
    ]


@pytest.mark.parametrize("case", CASES)
def test_a_shard_gives_the_same_bytes_alone_and_beside_others(case: str) -> None:
    """The other shards of its process, their number and their order do not matter."""
    trainer = sharded(case, 3)
    model = trainer.prepare(0, None)
    base = capture_policy(model) | capture_normalisation(model.get_vec_normalize_env())
    together = two_rollouts(trainer, [0, 1, 2], base)
    backwards = two_rollouts(trainer, [2, 0], base)
    alone = two_rollouts(sharded(case, 3), [1], base)
    assert same_bytes(together[0], backwards[1]) == []
    assert same_bytes(together[5], backwards[2]) == []
    assert same_bytes(together[1], alone[0]) == []
    assert same_bytes(together[4], alone[1]) == []
    # The comparison itself sees differences.
    assert "actions" in same_bytes(together[0], together[1])
    assert "values" in same_bytes(together[0], together[3])


@pytest.mark.parametrize("case", CASES)
def test_a_training_in_shards_resumes_exactly(case: str) -> None:
    """Every segment through the files of a checkpoint ends at the same parameters and moments."""
    whole = train_chain(sharded(case, 3), through_files=False)
    resumed = train_chain(sharded(case, 3), through_files=True)
    assert whole_digest(whole) == whole_digest(resumed)
    assert whole.step == resumed.step == 480


@pytest.mark.parametrize("case", ["ppo normalized", "ppo on a dictionary"])
def test_the_number_of_shards_decides_the_bytes(case: str) -> None:
    """One, two and three shards are three different trainings of the same length."""
    trained = [train_chain(sharded(case, n), through_files=False) for n in (1, 2, 3)]
    assert len({whole_digest(one) for one in trained}) == 3
    assert {one.step for one in trained} == {480}


class _Untouched:
    """Collectors that may not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the collectors was used")


def test_one_shard_is_a_training_without_shards() -> None:
    """The model collects by itself, on environments of its own, as in earlier releases."""
    trainer = sharded("ppo normalized", 1)
    trainer.collectors = _Untouched()
    before = make_trainer(
        "ppo",
        {**SMALL, "normalize": True},
        env_kwargs={"action": "box"},
        segment=240,
        total=480,
    )
    assert whole_digest(train_chain(trainer, through_files=False)) == whole_digest(
        train_chain(before, through_files=False)
    )


def test_statistics_count_each_observation_once() -> None:
    """The learner's statistics are those of all shards' data, and the first ones are in it once."""
    trainer = sharded("ppo normalized", 3)
    model = trainer.prepare(0, None)
    statistics = model.get_vec_normalize_env()
    base = capture_policy(model) | capture_normalisation(statistics)
    collector = ShardCollector(trainer.work, 0, [0, 1, 2])
    for _ in range(2):
        rollouts = collector.collect(base, lambda n_steps: None)
        for rollout in rollouts.values():
            add_new_data(statistics, rollout)
        base |= capture_normalisation(statistics)
    collector.close()
    # 6 environments take 2 × 20 steps; the observations of their resets count, too.
    assert statistics.obs_rms.count == pytest.approx(RunningMeanStd().count + 6 * (2 * 20 + 1))
    assert statistics.ret_rms.count == pytest.approx(RunningMeanStd().count + 6 * 2 * 20)
    assert [float(one[f"{NEW_DATA}obs/count"]) for one in rollouts.values()] == [40.0] * 3
    assert np.all(np.abs(statistics.obs_rms.mean) < 0.5)


def test_episodes_are_logged_in_the_order_of_steps_and_environments() -> None:
    """The curves have every episode of the segment, as they do without shards."""
    trainer = sharded("ppo", 3)
    model = trainer.prepare(0, None)
    collector = ShardCollector(trainer.work, 0, [0, 1, 2])
    rollouts = collector.collect(capture_policy(model), lambda n_steps: None)
    collector.close()
    environments = np.concatenate([one[f"{EPISODES}env"] for one in rollouts.values()])
    assert set(environments) == set(range(6))
    last = trainer.train(0, None, _no_watch()).curves.to_json_lines().decode().splitlines()[-1]
    assert '"episodes/n":' in last
    assert '"episodes/length_max": 20.0' in last


def test_the_largest_reward_of_all_shards_reaches_the_learner() -> None:
    """The divergence check compares value errors with it."""
    trainer = sharded("ppo", 3)
    trained = trainer.train(0, None, _no_watch())
    seen = trained.model.env.unwrapped.largest_reward
    collector = ShardCollector(trainer.work, 0, [0, 1, 2])
    rollouts = collector.collect(capture_policy(trainer.prepare(0, None)), lambda n_steps: None)
    collector.close()
    assert 0 < max(float(one[LARGEST_REWARD]) for one in rollouts.values()) <= seen <= 2


def _no_watch() -> Any:
    from rl_trainer.training.interruptions import Interruption
    from rl_trainer.training.watch import TrainingWatch

    return TrainingWatch(Interruption())


@pytest.mark.parametrize(
    ("shards", "algo", "message"),
    [
        (3, "ppo", r"shards: 3 does not divide hyperparameters\.n_envs = 10; allowed: 1, 2, 5, 10"),
        (2, "dqn", r"shards: 2 is not possible with dqn, which is not on-policy: remove this key"),
    ],
)
def test_a_spec_with_impossible_shards_is_refused(shards: int, algo: str, message: str) -> None:
    """The trainer checks a spec again, because another program may have frozen it."""
    spec = sharded_spec("ppo", "CartPole", normalize=False)
    if algo == "dqn":
        spec = frozen(
            {**TINY_PPO, "algo": "dqn", "hyperparameters": {"n_envs": 2, "buffer_size": 1_000}}
        )
    wrong = spec.model_copy(update={"shards": shards})
    with pytest.raises(BadInputError, match=message):
        make_trial_trainer(wrong, "seed-0", None)


def test_wrong_numbers_end_the_command_with_one_line(
    trainer: Trainer, tmp_path: Any, write_spec: Any
) -> None:
    """Exit code 2 and one line, for a spec that was changed by hand."""
    spec = write_spec(merged(TINY_PPO, shards=2, compute={"machines": 2}))
    whole = spec.read_bytes()
    for before, after, words in (
        (b'"machines":2', b'"machines":3', "compute.machines: is 3, but there are only 2 shards"),
        (b'"machines":2', b'"workers":3', "compute.workers: is 3, but a trial has only 2 shards"),
    ):
        assert before in whole
        spec.write_bytes(whole.replace(before, after))
        asked = trainer("train", "--spec", str(spec), "--store", str(tmp_path / "a"), "--quiet")
        assert asked.returncode == 2
        assert asked.stderr.startswith(f"rl_trainer train: spec: {words}")
        assert asked.stderr.count("\n") == 1
    one = whole.replace(b'"shards":2', b'"shards":1')
    spec.write_bytes(one)
    asked = trainer("train", "--spec", str(spec), "--store", str(tmp_path / "a"), "--quiet")
    assert "is 2, but there is only 1 shard to collect: set it to at most 1" in asked.stderr
    spec.write_bytes(whole.replace(b'"machines":2', b'"machines":1'))
    spec.write_bytes(spec.read_bytes().replace(b'"shards":2', b'"shards":3'))
    wrong = trainer("train", "--spec", str(spec), "--store", str(tmp_path / "b"), "--quiet")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "rl_trainer train: spec: shards: 3 does not divide hyperparameters.n_envs = 2; allowed: "
        "1, 2\n"
    )
