"""Lanes play one episode per seed in lock-step, with the same result as each episode alone."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_evaluator.errors import EndlessEpisodeError
from rl_evaluator.playing.environments import Env, environment_maker
from rl_evaluator.playing.episodes import LANES, Episode, run_episodes
from rl_evaluator.playing.policies import Policy, load_policy
from rl_lifecycle.evaluation.requests import EpisodeEnd
from tests.evaluator.environments_for_tests import (
    EndlessEnv,
    NotFiniteEnv,
    RaisingEnv,
    SpacesEnv,
)
from tests.evaluator.policy_files import policy_for, policy_for_id

ACTIONS = {
    "discrete": spaces.Discrete(3),
    "discrete-from-2": spaces.Discrete(3, start=2),
    "box": spaces.Box(-2.0, 2.0, (2,)),
    "box-of-a-matrix": spaces.Box(
        np.full((2, 3), -1.0, np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    ),
    "multi-discrete": spaces.MultiDiscrete([2, 4, 3]),
    "multi-binary": spaces.MultiBinary(4),
}
OBSERVATIONS = {
    "vector": spaces.Box(-1, 1, (4,)),
    "image": spaces.Box(0, 255, (6, 5, 3), np.uint8),
    "discrete": spaces.Discrete(7),
    "dict": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (4, 4, 1), np.uint8),
            "joints": spaces.Box(-1, 1, (3,)),
            "flags": spaces.MultiBinary(2),
        }
    ),
}


def alone(policy: Policy, make: Callable[[], Env], seed: int, deterministic: bool) -> Episode:
    """Play one episode in its own environment and lanes."""
    return run_episodes(policy, make, range(seed, seed + 1), deterministic=deterministic)[seed]


@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "sampled"])
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_lanes_give_every_seed_the_return_it_has_alone(
    observation: str, action: str, recurrent: bool, deterministic: bool
) -> None:
    """An episode's return does not depend on the other lanes, their number or their order."""

    def make() -> Env:
        return SpacesEnv(OBSERVATIONS[observation], ACTIONS[action])

    policy = load_policy(policy_for(make(), recurrent=recurrent))
    together = run_episodes(policy, make, range(100, 170), deterministic=deterministic)
    assert sorted(together) == list(range(100, 170))
    assert all(episode.end is not EpisodeEnd.LOST for episode in together.values())
    for seed in (100, 101, 131, 133, 169):
        assert alone(policy, make, seed, deterministic) == together[seed]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "Pendulum-v1"])
def test_lanes_match_a_plain_loop(env_id: str) -> None:
    """Lanes give the returns of a plain loop over one environment and one observation."""
    policy = load_policy(policy_for_id(env_id))
    together = run_episodes(policy, environment_maker(env_id, {}), range(40))
    for seed in (0, 7, 39):
        env = gymnasium.make(env_id)
        observation, _ = env.reset(seed=seed)
        total, length, over = 0.0, 0, False
        while not over:
            feed = np.asarray(observation, np.float32)[None]
            action = policy.session.run(["action"], {"obs": feed})[0][0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, length, over = total + float(reward), length + 1, terminated or truncated
        assert (together[seed].total, together[seed].length) == (total, length)


def test_long_episodes_are_not_dropped() -> None:
    """Every seed's episode ends, also the longest, when there are more seeds than lanes."""

    def make() -> Env:
        return SpacesEnv(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), longest=200)

    episodes = run_episodes(load_policy(policy_for(make())), make, range(5 * LANES + 3))
    assert len(episodes) == 5 * LANES + 3
    lengths = [episode.length or 0 for episode in episodes.values()]
    assert 8.5 < np.mean(lengths) < 11.5  # geometric, mean 10
    assert max(lengths) >= 30


def test_an_episode_that_raises_is_lost_and_says_why() -> None:
    """An episode that raises is null with a problem, and the other returns stay the same."""
    policy = load_policy(policy_for(RaisingEnv()))
    episodes = run_episodes(policy, RaisingEnv, range(100))
    lost = {seed for seed, episode in episodes.items() if episode.total is None}
    assert {seed for seed in lost if seed % 10 == 3} == set(range(3, 100, 10))
    assert {seed for seed in lost if seed % 10 == 5} == set(range(5, 100, 10))
    assert {seed % 10 for seed in lost} == {3, 5, 7, 9}
    assert episodes[3].problem == "reset raised RuntimeError: no world for seed 3"
    assert episodes[5].problem == "reset raised SystemExit: no licence"
    assert any(
        episode.problem == "step 1 raised ZeroDivisionError: physics"
        for episode in episodes.values()
    )
    assert episodes[4] == run_episodes(policy, RaisingEnv, range(4, 5))[4]


def test_an_action_that_is_not_finite_loses_the_episode() -> None:
    """An episode is lost when the policy answers NaN, and the other episodes are not."""
    space = spaces.Box(-1, 1, (2,))

    class FarAwayEnv(SpacesEnv):
        def _observe(self) -> Any:
            return np.full(2, 3e38, np.float32) if self.far else super()._observe()

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            self.far = seed == 2
            return super().reset(seed=seed)

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return super().step(np.clip(action, -1, 1))

    def make() -> Env:
        return FarAwayEnv(space, space)

    def forget_the_upper_bound(model: Any) -> None:
        (node,) = [node for node in model.graph.node if node.output == ["action"]]
        node.op_type = "Div"

    head = (np.full((2, 2), 1e30, np.float32), np.zeros(2, np.float32))
    policy = load_policy(policy_for(make(), hidden=[], head=head, edit=forget_the_upper_bound))
    episodes = run_episodes(policy, make, range(4))
    assert [episodes[seed].total is None for seed in range(4)] == [False, False, True, False]
    assert episodes[2].problem == "the action was not finite at step 0"


@pytest.mark.parametrize(
    ("what", "at", "problem"),
    [
        ("reward", 4, "the reward in NotFiniteEnv was not finite at step 4"),
        ("observation", 4, "the observation of NotFiniteEnv was not finite after step 4"),
        ("observation", 0, "the observation of NotFiniteEnv was not finite after step 0"),
    ],
)
def test_numbers_that_are_not_finite_lose_their_episode_only(
    what: str, at: int, problem: str
) -> None:
    """The step is named, and the other lanes' returns are those without the broken seeds."""

    def make() -> Env:
        return NotFiniteEnv(what, at)

    policy = load_policy(policy_for(make()))
    episodes = run_episodes(policy, make, range(2 * LANES))
    lost = {seed for seed, episode in episodes.items() if episode.total is None}
    assert lost == set(range(0, 2 * LANES, 3))
    assert {episodes[seed].problem for seed in lost} == {problem}
    assert episodes[40] == run_episodes(policy, make, range(40, 41))[40]


def test_an_episode_without_an_end_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many steps an episode is lost, if the environment has no time limit of its own."""
    monkeypatch.setattr("rl_evaluator.playing.episodes.LONGEST_EPISODE", 50)
    policy = load_policy(policy_for(EndlessEnv()))
    episodes = run_episodes(policy, EndlessEnv, range(3))
    assert {episode.problem for episode in episodes.values()} == {
        "it did not end within 50 steps, and EndlessEnv has no time limit; give it one: "
        "env_kwargs: {max_episode_steps: N}"
    }
    with pytest.raises(EndlessEpisodeError, match="seed 0: it did not end within 50 steps"):
        run_episodes(policy, EndlessEnv, range(3), refuse_endless=True)
    gymnasium.register("Limited-v0", EndlessEnv, max_episode_steps=80)
    try:
        limited = run_episodes(policy, environment_maker("Limited-v0", {}), range(3))
    finally:
        del gymnasium.registry["Limited-v0"]
    assert {(one.length, one.end) for one in limited.values()} == {(80, EpisodeEnd.TRUNCATED)}


def test_stopping_abandons_only_unfinished_episodes() -> None:
    """When time runs out, finished episodes are kept and unfinished ones are dropped."""

    def make() -> Env:
        return SpacesEnv(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))

    policy = load_policy(policy_for(make()))
    whole = run_episodes(policy, make, range(100))
    budget = iter(range(20))
    part = run_episodes(policy, make, range(100), keep_going=lambda: next(budget, None) is not None)
    assert 0 < len(part) < 100
    assert all(part[seed] == whole[seed] for seed in part)


def test_a_return_that_no_statistics_can_hold_loses_its_episode() -> None:
    """The judge squares returns. So the player loses what the judge would have to refuse."""

    class ExplodingEnv(SpacesEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, -1e200, terminated, truncated, info

    def make() -> Env:
        return ExplodingEnv(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))

    episodes = run_episodes(load_policy(policy_for(make())), make, range(2))
    assert {(one.total, one.problem) for one in episodes.values()} == {
        (None, "the return in ExplodingEnv went beyond 1e+100 at step 1")
    }
