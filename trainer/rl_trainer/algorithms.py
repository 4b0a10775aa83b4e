"""The algorithms by the names that experiments use. All of them resume exactly."""

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from rl_trainer.errors import BadInputError


@dataclass(frozen=True)
class Algorithm:
    """One algorithm of SB3 or sb3-contrib.

    :param module: where its class is. :param on_policy: whether it learns from rollouts that it then throws away.
    :param by_episodes: whether it evaluates whole episodes, one environment at a time, and has no rollouts: ARS.
    :param actions: the kinds of action spaces that it handles.
    """

    name: str
    module: str
    class_name: str
    on_policy: bool
    default_policy: str = "MlpPolicy"
    by_episodes: bool = False
    actions: tuple[str, ...] = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")

    def load(self) -> Any:
        """Import the class; this loads torch."""
        block_tensorboard()
        return getattr(importlib.import_module(self.module), self.class_name)


def block_tensorboard() -> None:
    """Import SB3 without TensorBoard, which costs start-up time: our curves are written elsewhere.

    Afterwards it can be imported again, by environments that write events of their own. Safe to repeat.
    """
    name = "torch.utils.tensorboard"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        importlib.import_module("stable_baselines3")
    finally:
        del sys.modules[name]


def _sb3(name: str, class_name: str, *, on_policy: bool, **more: Any) -> Algorithm:
    return Algorithm(name, f"stable_baselines3.{name}.{name}", class_name, on_policy, **more)


def _contrib(
    name: str, class_name: str, *, on_policy: bool, module: str | None = None, **more: Any
) -> Algorithm:
    return Algorithm(
        name, f"sb3_contrib.{module or name}.{module or name}", class_name, on_policy, **more
    )


BOX, DISCRETE = ("Box",), ("Discrete",)
ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        _sb3("ppo", "PPO", on_policy=True),
        _sb3("a2c", "A2C", on_policy=True),
        _sb3("dqn", "DQN", on_policy=False, actions=DISCRETE),
        _sb3("sac", "SAC", on_policy=False, actions=BOX),
        _sb3("td3", "TD3", on_policy=False, actions=BOX),
        _sb3("ddpg", "DDPG", on_policy=False, actions=BOX),
        _contrib("tqc", "TQC", on_policy=False, actions=BOX),
        _contrib("qrdqn", "QRDQN", on_policy=False, actions=DISCRETE),
        _contrib("crossq", "CrossQ", on_policy=False, actions=BOX),
        _contrib("trpo", "TRPO", on_policy=True),
        _contrib(
            "ppo_lstm",
            "RecurrentPPO",
            on_policy=True,
            module="ppo_recurrent",
            default_policy="MlpLstmPolicy",
        ),
        _contrib(
            "maskable_ppo",
            "MaskablePPO",
            on_policy=True,
            module="ppo_mask",
            actions=("Discrete", "MultiDiscrete", "MultiBinary"),
        ),
        _contrib(
            "ars",
            "ARS",
            on_policy=True,
            default_policy="LinearPolicy",
            by_episodes=True,
            actions=("Box", "Discrete"),
        ),
    )
}


def get_algorithm(name: str) -> Algorithm:
    """Find an algorithm. :raises BadInputError: if the trainer does not know it."""
    if name not in ALGORITHMS:
        raise BadInputError(f"algo: {name!r} is unknown; known: {', '.join(sorted(ALGORITHMS))}")
    return ALGORITHMS[name]
