"""The SB3 classes of the algorithms in :mod:`rl_lifecycle.experiment.algorithms`."""

import importlib
import sys
from typing import Any

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm, algorithm_names
from rl_trainer.errors import BadInputError


def load_class(algorithm: Algorithm) -> Any:
    """Import the class of an algorithm. This also loads torch."""
    block_tensorboard()
    module, _, class_name = algorithm.class_path.partition(":")
    return getattr(importlib.import_module(module), class_name)


def block_tensorboard() -> None:
    """Import SB3 without TensorBoard, because importing TensorBoard makes the start slower.

    The trainer writes its learning curves without SB3's TensorBoard logger. After this call
    TensorBoard can be imported again, for example by an environment that writes its own events. You
    can call this function several times.
    """
    name = "torch.utils.tensorboard"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        importlib.import_module("stable_baselines3")
    finally:
        del sys.modules[name]


def get_algorithm(name: str) -> Algorithm:
    """Look up an algorithm by its name.

    :raises BadInputError: if the table has no algorithm of this name.
    """
    if name not in ALGORITHMS:
        raise BadInputError(f"algo: {name!r} is unknown; known: {', '.join(algorithm_names())}")
    return ALGORITHMS[name]
