"""Play an environment under a scenario's perturbation: noise on what is seen and done, actions that
stick.

Everything is drawn from a generator of the episode's own seed, so a seed's episode is the same
however often and wherever it is played, and both policies meet the same disturbance.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_evaluator.errors import EnvironmentFailedError
from rl_evaluator.playing.environments import Env
from rl_lifecycle.experiment.experiment import Perturbation

#: Tells this stream of a seed from the environment's and from the policy's.
_STREAM = 0x706572


class PerturbedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment with a perturbation; spaces and rewards stay as they are."""

    def __init__(self, env: Env, perturbation: Perturbation) -> None:
        super().__init__(env)
        self.perturbation = perturbation
        self.generator = np.random.default_rng(_STREAM)
        self.before: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and its disturbances."""
        self.generator = np.random.default_rng([_STREAM, seed or 0])
        self.before = None
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Do what arrives of the action, and show what is seen of the answer."""
        observation, reward, terminated, truncated, info = self.env.step(self._done(action))
        return self._seen(observation), reward, terminated, truncated, info

    def _done(self, action: Any) -> Any:
        sticks = (
            self.perturbation.sticky_actions > 0
            and self.generator.random() < self.perturbation.sticky_actions
        )
        action = self.before if sticks and self.before is not None else action
        self.before = action
        space = self.env.action_space
        if self.perturbation.action_noise > 0 and isinstance(space, spaces.Box):
            noisy = action + self.perturbation.action_noise * self.generator.standard_normal(
                space.shape
            )
            return np.clip(noisy, space.low, space.high).astype(space.dtype)
        return action

    def _seen(self, observation: Any) -> Any:
        if self.perturbation.observation_noise == 0:
            return observation
        if isinstance(observation, dict):
            return {name: self._noisy(part) for name, part in observation.items()}
        return self._noisy(observation)

    def _noisy(self, part: Any) -> Any:
        """Add noise to real numbers; counts, flags and pixels stay as they are."""
        values = np.asarray(part)
        if not np.issubdtype(values.dtype, np.floating):
            return part
        return (
            values
            + self.perturbation.observation_noise * self.generator.standard_normal(values.shape)
        ).astype(values.dtype)


def perturb(env: Env, perturbation: Perturbation) -> Env:
    """Put an environment under a perturbation; without one it is returned as it is.

    :raises EnvironmentFailedError: if it cannot be perturbed so: noise on actions that are no real
        numbers.
    """
    if perturbation == Perturbation():
        return env
    if perturbation.action_noise > 0 and not isinstance(env.action_space, spaces.Box):
        raise EnvironmentFailedError(
            env.spec.id if env.spec else "environment",
            "action_noise needs actions that are real "
            f"numbers, and its are {env.action_space}; use sticky_actions",
        )
    return PerturbedEnv(env, perturbation)
