"""A policy plays in its training wrappers, and its return counts the environment's own rewards."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from rl_evaluator.errors import EnvironmentFailedError
from rl_evaluator.playing.environments import Env, make_environment
from rl_evaluator.playing.episodes import LANES, run_episodes
from rl_evaluator.playing.policies import Policy, load_policy
from rl_evaluator.playing.wrappers import wrap_environment
from rl_lifecycle.experiment.wrappers import WrapperForm
from tests.evaluator.policy_files import policy_for_id


def pendulum() -> Env:
    """An environment with a negative reward at every step."""
    return make_environment("Pendulum-v1", {})


def trained_in(policy: Policy, *wrappers: WrapperForm) -> Policy:
    """Return the policy as if it had been trained in wrappers."""
    return replace(policy, metadata=policy.metadata.model_copy(update={"wrappers": wrappers}))


def test_wrappers_change_observations_but_not_returns() -> None:
    """Wrapped observations count; clipped rewards and a wrapper's time limit do not."""
    forms = (
        WrapperForm(
            name="gymnasium.wrappers.ClipReward", kwargs={"min_reward": 0.0, "max_reward": 0.1}
        ),
        WrapperForm(name="gymnasium.wrappers.FlattenObservation"),
        WrapperForm(name="gymnasium.wrappers.TimeLimit", kwargs={"max_episode_steps": 3}),
    )
    env = wrap_environment(make_environment("CartPole-v1", {}), forms, "CartPole-v1")
    env.reset(seed=1)
    steps = [env.step(np.int64(0)) for _ in range(3)]
    assert [step[1] for step in steps] == [1.0, 1.0, 1.0]
    assert [step[3] for step in steps] == [False, False, False]


def test_an_episode_ends_when_the_environment_ends_it() -> None:
    """A wrapper's early end does not end the episode, because it would hide bad steps."""
    policy = load_policy(policy_for_id("Pendulum-v1"))
    limited = trained_in(
        policy, WrapperForm(name="gymnasium.wrappers.TimeLimit", kwargs={"max_episode_steps": 20})
    )
    assert run_episodes(limited, pendulum, range(3)) == run_episodes(policy, pendulum, range(3))


def test_a_wrapped_episode_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper's memory ends with the episode, so shards may be cut anywhere."""
    monkeypatch.setattr(gymnasium.wrappers, "Remembering", Remembering, raising=False)
    policy = trained_in(
        load_policy(policy_for_id("Pendulum-v1")),
        WrapperForm(name="gymnasium.wrappers.Remembering"),
    )
    together = run_episodes(policy, pendulum, range(LANES + 2))
    for seed in (LANES, LANES + 1):
        assert run_episodes(policy, pendulum, range(seed, seed + 1))[seed] == together[seed]


class Remembering(gymnasium.ObservationWrapper):  # type: ignore[type-arg]
    """A wrapper whose observations shrink with every step since it was made."""

    seen = 0

    def observation(self, observation: Any) -> Any:
        """Shrink the observation."""
        self.seen += 1
        return (observation / self.seen).astype(np.float32)


class Restart(gymnasium.Wrapper):  # type: ignore[type-arg]
    """A wrapper that resets the environment during an episode."""

    def step(self, action: object) -> object:
        """Reset, then step."""
        self.env.reset()
        return self.env.step(action)


def test_a_wrapper_cannot_begin_an_episode_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper may not reset the environment during an episode, which could hide a bad end."""
    monkeypatch.setattr(gymnasium.wrappers, "Restart", Restart, raising=False)
    env = wrap_environment(
        make_environment("CartPole-v1", {}),
        (WrapperForm(name="gymnasium.wrappers.Restart"),),
        "CartPole-v1",
    )
    env.reset(seed=1)
    with pytest.raises(RuntimeError, match="reset the environment within an episode"):
        env.step(1)


class Repeat(gymnasium.Wrapper):  # type: ignore[type-arg]
    """A wrapper that repeats every action and drops the first reward."""

    def step(self, action: object) -> object:
        """Step twice."""
        self.env.step(action)
        return self.env.step(action)


def test_what_a_wrapper_skips_is_earned_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewards of all inner steps count, also of steps that a wrapper skips."""
    monkeypatch.setattr(gymnasium.wrappers, "Repeat", Repeat, raising=False)
    env = wrap_environment(
        make_environment("CartPole-v1", {}),
        (WrapperForm(name="gymnasium.wrappers.Repeat"),),
        "CartPole-v1",
    )
    env.reset(seed=1)
    assert env.step(1)[1] == 2.0


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("os.path.join", {}, "is not available here; use a wrapper of gymnasium.wrappers"),
        ("stable_baselines3.common.monitor.Monitor", {}, "is not available here"),
        ("gymnasium.wrappers.NormalizeObservation", {}, "train it with `normalize:`"),
        ("gymnasium.wrappers.NoSuch", {}, "NoSuch"),
        ("gymnasium.wrappers.TimeLimit", {"foo": 1}, "TimeLimit does not accept this environment"),
    ],
)
def test_a_wrapper_that_cannot_be_had_is_named(
    name: str, kwargs: dict[str, int], message: str
) -> None:
    """A wrapper that cannot be imported is named in a one-line environment error."""
    with pytest.raises(EnvironmentFailedError, match=message):
        wrap_environment(
            make_environment("CartPole-v1", {}),
            (WrapperForm(name=name, kwargs=kwargs),),
            "CartPole-v1",
        )
