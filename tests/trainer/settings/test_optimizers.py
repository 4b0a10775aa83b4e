"""torch's optimizers take every argument that is frozen."""

import itertools
from typing import Any

import pytest
import torch

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.settings import keys
from rl_lifecycle.experiment.settings.hyperparameter_checks import freeze_hyperparameters
from rl_trainer.settings.model_settings import read_settings

VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 0.5, 1e9, "1e-3", True, False, "x", None),
    *([], [0.9], [0, 0.5], [0.9, 0.999], [1, 1], [-0.1, 0.9], [0.9, 0.999, 0.9]),
)


@pytest.mark.parametrize("name", keys.OPTIMIZER_KEYS)
def test_an_optimizer_takes_what_is_frozen(name: str) -> None:
    """Each value of each argument, and each two arguments together."""
    arguments = keys.OPTIMIZER_KEYS[name]
    frozen = 0
    for (one, other), values in itertools.product(
        itertools.combinations(arguments, 2), itertools.product(VALUES, VALUES)
    ):
        given = dict(zip((one, other), values, strict=True))
        hyperparameters = {"policy_kwargs": {"optimizer_class": name, "optimizer_kwargs": given}}
        try:
            values_read = freeze_hyperparameters("ppo", hyperparameters, "a.yaml")
        except InvalidExperimentError:
            continue
        kwargs = read_settings("ppo", values_read).model_kwargs["policy_kwargs"]
        kind, arguments_read = kwargs["optimizer_class"], kwargs["optimizer_kwargs"]
        weight = torch.nn.Parameter(torch.ones(2))
        optimizer = kind([weight], lr=1e-3, **arguments_read)
        weight.sum().backward()
        optimizer.step()
        frozen += 1
    assert frozen > 50
