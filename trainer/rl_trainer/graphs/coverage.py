"""Which models take recorded updates, and why the others are left to SB3."""

from collections.abc import Iterator
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

#: The policies that are covered, with the features extractor that each has by default.
EXTRACTORS: dict[type[ActorCriticPolicy], type[torch.nn.Module]] = {
    ActorCriticPolicy: FlattenExtractor, ActorCriticCnnPolicy: NatureCNN, MultiInputActorCriticPolicy: CombinedExtractor}


def why_no_graphs(model: Any) -> str:
    """Say why a model's updates are left to SB3; empty if they can be recorded."""
    if not isinstance(model, PPO) or type(model.policy) not in EXTRACTORS:
        return "not PPO with MlpPolicy, CnnPolicy or MultiInputPolicy"
    return next((reason for reason, holds in _reasons(model) if holds), "")


def _reasons(model: Any) -> Iterator[tuple[str, bool]]:
    policy = model.policy
    yield "a features extractor of its own", policy.features_extractor_class is not EXTRACTORS[type(policy)]
    yield "another optimizer than plain Adam or AdamW", not is_plain_adam(policy.optimizer)


def is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimizer is Adam or AdamW in the form in which SB3 makes it."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    return not (group["capturable"] or group["differentiable"] or group["fused"] or isinstance(group["lr"], torch.Tensor))
