"""Decide whether the NumPy path can train a model, and name the reason if it cannot."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from rl_trainer.numpy_path.optimizers import flat_optimizer_for

#: The greatest width of a layer. Wider networks spend their time in BLAS, where NumPy is not faster
#: than torch.
WIDEST = 512
#: SB3's classes (DDPG is a TD3) → the policy class that is covered, and the policy's parts that
#: have an optimizer. The empty part is the policy itself.
COVERED: dict[tuple[type[Any], ...], tuple[type[torch.nn.Module], tuple[str, ...]]] = {
    (PPO, A2C): (ActorCriticPolicy, ("",)),
    (SAC,): (SACPolicy, ("actor", "critic")),
    (TD3,): (TD3Policy, ("actor", "critic")),
    (DQN,): (DQNPolicy, ("",)),
}


def why_not_covered(model: Any) -> str:
    """Return the reason why SB3 must train a model; empty if the NumPy path can train it."""
    for classes, (policy_class, parts) in COVERED.items():
        if isinstance(model, classes) and type(model.policy) is policy_class:
            trained = [getattr(model.policy, part) if part else model.policy for part in parts]
            return next((reason for reason, holds in _reasons(model, trained) if holds), "")
    return "not PPO, A2C, SAC, TD3, DDPG or DQN with MlpPolicy"


def _reasons(model: Any, trained: list[Any]) -> Iterator[tuple[str, bool]]:
    policy = model.policy
    yield f"runs on {model.device}", model.device.type != "cpu"
    yield "state-dependent exploration", bool(model.use_sde)
    yield f"observation space {model.observation_space}", not _flat_floats(model.observation_space)
    yield f"action space {model.action_space}", not _plain_actions(model.action_space)
    yield "a custom features extractor", policy.features_extractor_class is not FlattenExtractor
    yield (
        f"activation {policy.activation_fn.__name__}",
        policy.activation_fn not in (torch.nn.Tanh, torch.nn.ReLU),
    )
    yield (
        "another optimizer than plain Adam or RMSprop",
        any(flat_optimizer_for(part.optimizer) is None for part in trained),
    )
    yield f"layers wider than {WIDEST}", max(_widths(policy), default=0) > WIDEST


def _flat_floats(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def _plain_actions(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Discrete) or (
        isinstance(space, spaces.Box) and len(space.shape) == 1
    )


def _widths(policy: torch.nn.Module) -> Iterator[int]:
    return (
        module.out_features for module in policy.modules() if isinstance(module, torch.nn.Linear)
    )
