"""Checks that an algorithm and its policy can handle the spaces of an environment."""

from typing import Any

import gymnasium as gym

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluation import trainable_spaces
from rl_lifecycle.evaluation.policies import SpaceForm
from rl_trainer.errors import BadInputError
from rl_trainer.settings.model_settings import ModelSettings


def check_spaces(
    env: gym.Env[Any, Any],
    observation: SpaceForm,
    action: SpaceForm,
    settings: ModelSettings,
    env_id: str,
) -> None:
    """Refuse spaces that the algorithm or the policy cannot handle, before a model is built.

    :raises BadInputError: naming `env_id`, `algo` or the hyper-parameter, and what is allowed.
    """
    name = settings.algorithm.name
    try:
        trainable_spaces.check_spaces(name, settings.values, env_id, observation, action, "spec")
    except InvalidExperimentError as error:
        raise BadInputError(f"{error.key}: {error.problem}") from None
    if settings.algorithm.action_masks and not env.has_wrapper_attr("action_masks"):
        raise BadInputError(
            f"algo: {name} needs an environment with action_masks(); {env_id} does not have this "
            "method: use ppo"
        )
