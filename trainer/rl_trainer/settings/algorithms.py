"""SB3's classes of the algorithms in :mod:`rl_lifecycle.experiment.algorithms`. All of them resume
exactly.
"""

import importlib
import sys
from typing import Any

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm, algorithm_names
from rl_trainer.errors import BadInputError


def load_class(algorithm: Algorithm) -> Any:
    """Import the class of an algorithm; this loads torch."""
    block_tensorboard()
    module, _, class_name = algorithm.class_path.partition(":")
    return getattr(importlib.import_module(module), class_name)


def block_tensorboard() -> None:
    """Import SB3 without TensorBoard, which costs start-up time: our curves are written elsewhere.

    Afterwards it can be imported again, by environments that write events of their own. Safe to
    repeat.
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
    """Find an algorithm. :raises BadInputError: if the table has no such row."""
    if name not in ALGORITHMS:
        raise BadInputError(f"algo: {name!r} is unknown; known: {', '.join(algorithm_names())}")
    return ALGORITHMS[name]
