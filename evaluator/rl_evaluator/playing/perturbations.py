"""Disturb an environment as a scenario asks: noisy observations and actions, repeated actions.

All random numbers come from a generator with the episode's seed. So a seed has the same episode on
every machine, and both policies get the same disturbance.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_evaluator.errors import EnvironmentFailedError
from rl_evaluator.playing.spaces import is_allowed
from rl_lifecycle.evaluation.action_masks import METHOD
from rl_lifecycle.experiment.evaluation_settings import Perturbation

#: Separates these random numbers of a seed from the environment's and from the policy's.
_STREAM = 0x706572


class PerturbedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment with a perturbation. Its spaces and rewards do not change."""

    def __init__(self, env: gymnasium.Env[Any, Any], perturbation: Perturbation) -> None:
        super().__init__(env)
        self.perturbation = perturbation
        self.generator = np.random.default_rng(_STREAM)
        self.last_action: Any = None
        self.masked = perturbation.sticky_actions > 0 and env.has_wrapper_attr(METHOD)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, and seed its disturbance."""
        self.generator = np.random.default_rng([_STREAM, seed or 0])
        self.last_action = None
        observation, info = self.env.reset(seed=seed, options=options)
        return self._disturb_observation(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step with the disturbed action, and return the disturbed observation."""
        disturbed = self._disturb_action(action)
        observation, reward, terminated, truncated, info = self.env.step(disturbed)
        return self._disturb_observation(observation), reward, terminated, truncated, info

    def _disturb_action(self, action: Any) -> Any:
        sticks = (
            self.perturbation.sticky_actions > 0
            and self.generator.random() < self.perturbation.sticky_actions
        )
        if sticks and self.last_action is not None and self._is_allowed(self.last_action):
            action = self.last_action
        self.last_action = action

        space = self.env.action_space
        if self.perturbation.action_noise > 0 and isinstance(space, spaces.Box):
            noisy = action + self.perturbation.action_noise * self.generator.standard_normal(
                space.shape
            )
            return np.clip(noisy, space.low, space.high).astype(space.dtype)
        return action

    def _is_allowed(self, action: Any) -> bool:
        if not self.masked:
            return True
        mask = np.asarray(self.env.get_wrapper_attr(METHOD)(), bool).reshape(-1)
        return is_allowed(self.env.action_space, action, mask)

    def _disturb_observation(self, observation: Any) -> Any:
        if self.perturbation.observation_noise == 0:
            return observation
        if isinstance(observation, dict):
            return {name: self._noisy(part) for name, part in observation.items()}
        return self._noisy(observation)

    def _noisy(self, part: Any) -> Any:
        """Add noise to floating-point values. Integers, flags and pixels do not change."""
        values = np.asarray(part)
        if not np.issubdtype(values.dtype, np.floating):
            return part
        return (
            values
            + self.perturbation.observation_noise * self.generator.standard_normal(values.shape)
        ).astype(values.dtype)


def perturb(env: gymnasium.Env[Any, Any], perturbation: Perturbation) -> gymnasium.Env[Any, Any]:
    """Wrap an environment in a perturbation. An empty perturbation changes nothing.

    :raises EnvironmentFailedError: if the perturbation has action noise, but the environment's
        actions are not a Box.
    """
    if perturbation == Perturbation():
        return env
    if perturbation.action_noise > 0 and not isinstance(env.action_space, spaces.Box):
        raise EnvironmentFailedError(
            env.spec.id if env.spec else "environment",
            f"action_noise needs a Box action space, but it has {env.action_space}; "
            "use sticky_actions",
        )
    return PerturbedEnv(env, perturbation)
