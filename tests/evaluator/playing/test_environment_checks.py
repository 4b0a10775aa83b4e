"""A check of an environment sees what will be trained, and refuses what cannot be judged."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_evaluator.playing import environment_checks
from rl_evaluator.playing.environment_checks import answer_check_environment
from rl_lifecycle.evaluation.requests import CheckEnvironmentRequest, EnvironmentReport
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.environments_for_tests import (
    EndlessEnv,
    MaskedEnv,
    NotFiniteEnv,
    SpacesEnv,
)


class TextEnv(gymnasium.Env[Any, Any]):
    """Observes a text beside numbers, which the contract has no form for."""

    observation_space = spaces.Dict({"mission": spaces.Text(5), "x": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        """End at random."""
        return self._observe(), 1.0, bool(self.np_random.random() < 0.1), False, {}

    def _observe(self) -> Any:
        return {"mission": "go", "x": self.np_random.uniform(-1, 1, 2).astype(np.float32)}


class OnlyNumbers(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Keeps the numbers of the observation, and drops the text."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = env.observation_space["x"]  # type: ignore[index]

    def observation(self, observation: Any) -> Any:
        """Return the numbers."""
        return observation["x"]


class ArrayRewardEnv(SpacesEnv):
    """Rewards with an array of one number."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))

    def step(self, action: Any) -> Any:
        """Step, and pack the reward."""
        observation, reward, *rest = super().step(action)
        return observation, np.array([reward], np.float32), *rest


class LeavingEnv(SpacesEnv):
    """Calls `sys.exit()` in a method, after a number of good calls."""

    def __init__(self, where: str, good: int = 0) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
        self.where, self.good = where, good

    def step(self, action: Any) -> Any:
        """Step, or leave."""
        self._leave("step")
        return super().step(action)

    def close(self) -> None:
        """Leave, if this is the method."""
        self._leave("close")

    def _leave(self, where: str) -> None:
        self.good -= where == self.where
        if self.good < 0:
            sys.exit("no licence")


class SometimesEndlessEnv(EndlessEnv):
    """Ends an episode only on one action."""

    def step(self, action: Any) -> Any:
        """Step, and end on action 1."""
        observation, reward, _, _, info = super().step(action)
        return observation, reward, bool(action == 1), False, info


ENVIRONMENTS: dict[str, Any] = {
    "Text-v0": TextEnv,
    "ArrayReward-v0": ArrayRewardEnv,
    "NanReward-v0": lambda **_: NotFiniteEnv("reward"),
    "NanObservation-v0": lambda **_: NotFiniteEnv("observation"),
    "NanReset-v0": lambda **_: NotFiniteEnv("observation", at=0),
    "Leaving-v0": LeavingEnv,
    "Endless-v0": EndlessEnv,
    "SometimesEndless-v0": SometimesEndlessEnv,
    "Masked-v0": lambda **_: MaskedEnv(spaces.Discrete(5)),
    "MaskedMany-v0": lambda **_: MaskedEnv(spaces.MultiDiscrete([3, 2])),
    "MaskedBits-v0": lambda **_: MaskedEnv(spaces.MultiBinary(3)),
    "Closed-v0": lambda **_: MaskedEnv(spaces.Discrete(5), closed_at=2),
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the environments and the wrapper known."""
    monkeypatch.setattr(gymnasium.wrappers, "OnlyNumbers", OnlyNumbers, raising=False)
    for env_id, make in ENVIRONMENTS.items():
        limit = None if "Endless" in env_id else 60
        gymnasium.register(env_id, make, max_episode_steps=limit)
    yield
    for env_id in ENVIRONMENTS:
        del gymnasium.registry[env_id]


def check(tmp_path: Path, env_id: str, **fields: Any) -> EnvironmentReport:
    """Check an environment as the function does."""
    request = CheckEnvironmentRequest(env_id=env_id, **fields)
    return answer_check_environment(request, DirectoryStore(tmp_path))


def test_the_wrappers_of_the_training_are_checked(tmp_path: Path) -> None:
    """An environment that only its wrapper makes trainable is refused without it, and not with."""
    wrapper = WrapperForm(name="gymnasium.wrappers.OnlyNumbers")
    assert "Text" in check(tmp_path, "Text-v0").problem
    report = check(tmp_path, "Text-v0", wrappers=(wrapper,))
    assert report.problem == ""
    assert report.observation_space["shape"] == [2]
    assert not any("unwrapped" in warning for warning in report.warnings)
    missing = check(tmp_path, "Text-v0", wrappers=(WrapperForm(name="gymnasium.wrappers.No"),))
    assert "gymnasium.wrappers.No" in missing.problem


@pytest.mark.parametrize("env_id", ["Masked-v0", "MaskedMany-v0", "MaskedBits-v0"])
def test_an_environment_is_checked_under_its_masks(tmp_path: Path, env_id: str) -> None:
    """Impossible moves raise in these environments; the check makes none of them."""
    assert check(tmp_path, env_id, action_masks=True).problem == ""
    assert "is impossible" in check(tmp_path, env_id).problem


def test_masks_that_cannot_be_trained_under_are_refused(tmp_path: Path) -> None:
    """A mask that allows nothing, or no mask at all, is named before a machine is rented."""
    closed = check(tmp_path, "Closed-v0", action_masks=True).problem
    assert closed.startswith("Closed-v0: ")
    assert "action_masks() allows no action" in closed
    assert "no method action_masks()" in check(tmp_path, "CartPole-v1", action_masks=True).problem


@pytest.mark.parametrize(
    ("env_id", "problem"),
    [
        ("NanReward-v0", "the reward is inf at step 4 of an episode"),
        ("NanObservation-v0", "an observation is not finite, after step 4 of an episode"),
        ("NanReset-v0", "an observation is not finite, after step 0 of an episode"),
        ("ArrayReward-v0", "a reward is an array of shape (1,), not a number; return float(…)"),
    ],
)
def test_numbers_that_cannot_be_learned_from_are_refused(
    tmp_path: Path, env_id: str, problem: str
) -> None:
    """The environment, the number and the step are named."""
    assert check(tmp_path, env_id).problem == f"{env_id}: {problem}"


@pytest.mark.parametrize("good", [0, 3])
def test_an_environment_that_leaves_is_refused(tmp_path: Path, good: int) -> None:
    """`sys.exit()` does not end the player."""
    kwargs = {"where": "step", "good": good}
    problem = check(tmp_path, "Leaving-v0", env_kwargs=kwargs).problem
    assert problem.startswith("Leaving-v0: ")
    assert problem.endswith(": SystemExit: no licence")


def test_an_environment_that_cannot_be_closed_gives_a_warning(tmp_path: Path) -> None:
    """Its episodes can be played, so it is not refused."""
    report = check(tmp_path, "Leaving-v0", env_kwargs={"where": "close"})
    assert report.problem == ""
    assert "Leaving-v0 fails when it is closed: SystemExit: no licence" in report.warnings


def test_an_environment_without_an_end_is_refused(tmp_path: Path) -> None:
    """A limit in env_kwargs mends it, but a TimeLimit wrapper does not, as when it is judged."""
    assert (
        "did not end an episode within 10,000 random steps" in check(tmp_path, "Endless-v0").problem
    )
    limited = check(tmp_path, "Endless-v0", env_kwargs={"max_episode_steps": 70})
    assert (limited.problem, limited.max_episode_steps) == ("", 70)
    wrapper = WrapperForm(name="gymnasium.wrappers.TimeLimit", kwargs={"max_episode_steps": 70})
    wrapped = check(tmp_path, "Endless-v0", wrappers=(wrapper,))
    assert "a TimeLimit among the wrappers ends no judged episode" in wrapped.problem


def test_an_environment_that_may_not_end_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random actions end the episode, but a policy need not; a slow environment is not refused."""
    report = check(tmp_path, "SometimesEndless-v0")
    assert report.problem == ""
    assert any("has no time limit" in warning for warning in report.warnings)
    monkeypatch.setattr(environment_checks, "ENDLESS_S", 0.0)
    slow = check(tmp_path, "Endless-v0")
    assert slow.problem == ""
    assert any("has no time limit" in warning for warning in slow.warnings)
