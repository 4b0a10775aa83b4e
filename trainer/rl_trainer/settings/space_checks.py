"""Checks that an algorithm and its policy can handle the spaces of an environment."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_trainer.errors import BadInputError
from rl_trainer.settings.algorithm_classes import load_class
from rl_trainer.settings.model_settings import ModelSettings

OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
#: The keys of the observations that HerReplayBuffer needs.
GOALS = ("observation", "achieved_goal", "desired_goal")


def check_spaces(env: gym.Env[Any, Any], settings: ModelSettings, env_id: str) -> None:
    """Refuse spaces that the algorithm or the policy cannot handle, before a model is built.

    :raises BadInputError: naming `env_id`, `algo` or the hyper-parameter, and what is allowed.
    """
    _check_observations(env.observation_space, env_id)
    _check_actions(env.action_space, settings, env_id)
    _check_policy(env.observation_space, settings, env_id)
    if "HerReplayBuffer" in str(settings.model_kwargs.get("replay_buffer_class")):
        parts = (
            env.observation_space.spaces if isinstance(env.observation_space, spaces.Dict) else {}
        )
        if not set(GOALS) <= set(parts):
            raise BadInputError(
                "hyperparameters.replay_buffer_class: HerReplayBuffer needs observations that "
                f"are a Dict of {', '.join(GOALS)}, but {env_id} has {env.observation_space}"
            )
    if settings.algorithm.action_masks and not env.has_wrapper_attr("action_masks"):
        raise BadInputError(
            f"algo: {settings.algorithm.name} needs an environment with action_masks(); "
            f"{env_id} does not have this method: use ppo"
        )


def _check_observations(space: spaces.Space[Any], env_id: str) -> None:
    parts = tuple(space.spaces.values()) if isinstance(space, spaces.Dict) else (space,)
    allowed = ", ".join(kind.__name__ for kind in OBSERVATIONS)
    for part in parts:
        if not isinstance(part, OBSERVATIONS):
            raise BadInputError(
                f"env_id: no policy takes the observations of {env_id}, {space}; wrap the "
                f"environment, so that they are {allowed} or a Dict of these"
            )
        if isinstance(part, spaces.Discrete) and part.start != 0:
            raise BadInputError(
                f"env_id: the observations of {env_id} start at {part.start}; wrap the "
                "environment, so that they start at 0"
            )


def _check_actions(space: spaces.Space[Any], settings: ModelSettings, env_id: str) -> None:
    kind, algorithm = type(space).__name__, settings.algorithm
    if kind not in algorithm.actions:
        fitting = (
            ", ".join(sorted(other.name for other in ALGORITHMS.values() if kind in other.actions))
            or "none"
        )
        raise BadInputError(
            f"algo: {algorithm.name} cannot handle the actions of {env_id}, {space}; it needs "
            f"{' or '.join(algorithm.actions)}; algorithms for {kind}: {fitting}"
        )
    if isinstance(space, spaces.Discrete) and space.start != 0:
        raise BadInputError(
            f"env_id: the actions of {env_id} start at {space.start}; wrap the environment, so "
            "that they start at 0"
        )
    if isinstance(space, spaces.Box) and not (space.is_bounded("both") and len(space.shape) > 0):
        raise BadInputError(
            f"env_id: the actions of {env_id}, {space}, are unbounded; wrap the environment, so "
            "that they have bounds"
        )


def _check_policy(space: spaces.Space[Any], settings: ModelSettings, env_id: str) -> None:
    policy, several = settings.policy, isinstance(space, spaces.Dict)
    if several != policy.startswith("MultiInput"):
        allowed = [
            name
            for name in sorted(load_class(settings.algorithm).policy_aliases)
            if name.startswith("MultiInput") == several
        ]
        hint = f"allowed: {', '.join(allowed)}"
        if not allowed:
            hint = f"no policy of {settings.algorithm.name} takes them: use another algorithm"
        raise BadInputError(
            f"hyperparameters.policy: {policy} does not take the observations of {env_id}, "
            f"{space}; {hint}"
        )
    scaled = settings.model_kwargs.get("policy_kwargs", {}).get("normalize_images", True)
    if policy.startswith("Cnn") and not is_image_space(
        space, check_channels=False, normalized_image=not scaled
    ):
        raise BadInputError(
            f"hyperparameters.policy: {policy} needs images (uint8, 0 to 255, three axes), but "
            f"{env_id} has {space}; use {policy.replace('Cnn', 'Mlp')}"
        )
