"""Which models the NumPy path can train, and why it leaves the others to SB3."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor

from rl_trainer.numpy_path.optimizers import flat_optimizer_for

#: Wider networks spend their time in BLAS anyway, where NumPy and torch are level.
WIDEST = 512


def why_not_covered(model: Any) -> str:
    """Say why a model is left to SB3; empty if the NumPy path trains it."""
    for reason, holds in _reasons(model):
        if holds:
            return reason
    return ""


def _reasons(model: Any) -> list[tuple[str, bool]]:
    policy = model.policy
    if not isinstance(model, PPO | A2C) or type(policy) is not ActorCriticPolicy:
        return [("not PPO or A2C with MlpPolicy", True)]
    return [
        (f"runs on {model.device}", model.device.type != "cpu"),
        ("state-dependent exploration", bool(model.use_sde)),
        (f"observation space {model.observation_space}", not _flat_floats(model.observation_space)),
        (f"action space {model.action_space}", not _plain_actions(model.action_space)),
        ("a features extractor of its own", type(policy.features_extractor) is not FlattenExtractor),
        (f"activation {policy.activation_fn.__name__}", policy.activation_fn not in (torch.nn.Tanh, torch.nn.ReLU)),
        ("another optimizer than plain Adam or RMSprop", flat_optimizer_for(policy.optimizer) is None),
        (f"layers wider than {WIDEST}", _widest(policy) > WIDEST),
    ]


def _flat_floats(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def _plain_actions(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and len(space.shape) == 1)


def _widest(policy: ActorCriticPolicy) -> int:
    return max((int(parameter.shape[0]) for parameter in policy.mlp_extractor.parameters()), default=0)
