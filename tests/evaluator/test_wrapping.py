"""A policy is played in the wrappers that it was trained in, and paid what the environment itself gives."""

import gymnasium
import numpy as np
import pytest

from rl_evaluator.environments import make_environment
from rl_evaluator.errors import EnvironmentFailedError
from rl_evaluator.wrapping import wrap_environment
from rl_lifecycle.policies import WrapperForm


def test_wrappers_change_what_is_seen_and_not_what_is_earned() -> None:
    """A time limit and a scale of observations hold; a clip of rewards does not count."""
    forms = (WrapperForm(name="gymnasium.wrappers.ClipReward", kwargs={"min_reward": 0.0, "max_reward": 0.1}),
             WrapperForm(name="gymnasium.wrappers.FlattenObservation"),
             WrapperForm(name="gymnasium.wrappers.TimeLimit", kwargs={"max_episode_steps": 3}))
    env = wrap_environment(make_environment("CartPole-v1", {}), forms, "CartPole-v1")
    env.reset(seed=1)
    steps = [env.step(np.int64(0)) for _ in range(3)]
    assert [step[1] for step in steps] == [1.0, 1.0, 1.0]
    assert [step[3] for step in steps] == [False, False, True]


class Repeat(gymnasium.Wrapper):  # type: ignore[type-arg]
    """Takes every action twice, and forgets what the first one earned."""

    def step(self, action: object) -> object:
        """Step twice."""
        self.env.step(action)
        return self.env.step(action)


def test_what_a_wrapper_skips_is_earned_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two answers of the outermost wrapper, all rewards of the innermost are summed."""
    monkeypatch.setattr(gymnasium.wrappers, "Repeat", Repeat, raising=False)
    env = wrap_environment(make_environment("CartPole-v1", {}), (WrapperForm(name="gymnasium.wrappers.Repeat"),), "CartPole-v1")
    env.reset(seed=1)
    assert env.step(1)[1] == 2.0


@pytest.mark.parametrize(("name", "kwargs", "said"), [
    ("os.path.join", {}, "cannot be had here: take one of gymnasium.wrappers"),
    ("stable_baselines3.common.monitor.Monitor", {}, "cannot be had here"),
    ("gymnasium.wrappers.NoSuch", {}, "NoSuch"), ("gymnasium.wrappers.TimeLimit", {"foo": 1}, "does not fit into")])
def test_a_wrapper_that_cannot_be_had_is_named(name: str, kwargs: dict[str, int], said: str) -> None:
    """In one line, as an error of the environment."""
    with pytest.raises(EnvironmentFailedError, match=said):
        wrap_environment(make_environment("CartPole-v1", {}), (WrapperForm(name=name, kwargs=kwargs),), "CartPole-v1")
