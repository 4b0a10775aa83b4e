"""Which models take recorded updates, and why the others are left to SB3."""

from collections.abc import Iterator
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.dqn import policies as dqn
from stable_baselines3.sac import policies as sac

#: SB3's classes, and their policies that are covered: for vectors, pictures and dictionaries.
POLICIES: dict[type[Any], tuple[type[Any], type[Any], type[Any]]] = {
    PPO: (ActorCriticPolicy, ActorCriticCnnPolicy, MultiInputActorCriticPolicy),
    DQN: (dqn.DQNPolicy, dqn.CnnPolicy, dqn.MultiInputPolicy),
    SAC: (sac.SACPolicy, sac.CnnPolicy, sac.MultiInputPolicy),
}
#: The features extractor that each of them has by default.
EXTRACTORS = (FlattenExtractor, NatureCNN, CombinedExtractor)


def why_no_graphs(model: Any) -> str:
    """Say why a model's updates are left to SB3; empty if they can be recorded."""
    policies = POLICIES.get(type(model), ())
    if type(model.policy) not in policies:
        return "not PPO, DQN or SAC with MlpPolicy, CnnPolicy or MultiInputPolicy"
    extractor = EXTRACTORS[policies.index(type(model.policy))]
    return next((reason for reason, holds in _reasons(model, extractor) if holds), "")


def _reasons(model: Any, extractor: type[torch.nn.Module]) -> Iterator[tuple[str, bool]]:
    policy = model.policy
    optimizers = [
        part.optimizer
        for part in ((model.actor, model.critic) if isinstance(model, SAC) else (policy,))
    ]
    yield (
        "MultiDiscrete actions that do not start at 0",
        (
            isinstance(model.action_space, spaces.MultiDiscrete)
            and bool(model.action_space.start.any())
        ),
    )
    yield "state-dependent exploration of SAC", isinstance(model, SAC) and model.use_sde
    yield "a features extractor of its own", policy.features_extractor_class is not extractor
    yield (
        "another optimizer than plain Adam or AdamW",
        not all(is_plain_adam(optimizer) for optimizer in optimizers),
    )


def is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimizer is Adam or AdamW in the form in which SB3 makes it."""
    if (
        type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW)
        or len(optimizer.param_groups) != 1
    ):
        return False
    group = optimizer.param_groups[0]
    return not (
        group["capturable"]
        or group["differentiable"]
        or group["fused"]
        or isinstance(group["lr"], torch.Tensor)
    )
