"""Models whose updates are recorded, and stock ones beside them, equal and equally seeded."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.captures import PlainCalls
from rl_trainer.interruptions import Interruption
from rl_trainer.models import seed_generators
from rl_trainer.watch import Watch
from tests.trainer.chains import make_trainer

#: The last minibatch of 120 rows is shorter, and is not replayed.
HYPERPARAMETERS: dict[str, Any] = {
    "n_envs": 3,
    "n_steps": 40,
    "batch_size": 32,
    "n_epochs": 2,
    "learning_rate": "lin_0.003",
    "clip_range": "lin_0.2",
    "ent_coef": 0.01,
}
PICTURES = {"policy": "CnnPolicy", "n_steps": 8, "batch_size": 8}


def models(hyperparameters: dict[str, Any], env_kwargs: dict[str, Any]) -> tuple[GraphPPO, PPO]:
    """The model whose updates are recorded and the stock one, with equal weights and equally seeded environments."""
    made = []
    for capturer in (PlainCalls(), None):
        trainer = make_trainer(
            "ppo",
            HYPERPARAMETERS | hyperparameters,
            env_kwargs=env_kwargs,
            fast=False,
            capturer=capturer,
        )
        model = trainer.prepare(0, None)
        model.set_logger(Logger(None, []))
        model._setup_learn(1000, None, reset_num_timesteps=False)
        made.append(model)
    ours, stock = made
    assert type(ours) is GraphPPO
    assert type(stock) is PPO
    return ours, stock


def collect(model: PPO) -> None:
    """Fill a model's rollout buffer."""
    callback = Watch(Interruption())
    callback.init_callback(model)
    model.rollout_buffer.reset()
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def train(model: PPO, turn: int) -> dict[str, Any]:
    """Collect and train from a seed, the third at the end of the schedules. :return: what was logged."""
    seed_generators(turn, 0)
    collect(model)
    model._current_progress_remaining = 1 - turn / 2
    model.train()
    return dict(model.logger.name_to_value) | {"drawn after": np.random.random()}


class RefusesToRecord(PlainCalls):
    """Cannot record."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Raise what torch raises."""
        raise RuntimeError(
            "CUDA error: operation not permitted when stream is capturing\nSearch for it"
        )


class PlainInAnotherProcess(PlainCalls):
    """Is tried like CUDA graphs, in a process of its own."""

    may_do_harm = True


class DiesRecording(PlainInAnotherProcess):
    """Takes its process with it, as a failed assertion within a library does."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Abort."""
        os.abort()


class RecordsNothing(PlainInAnotherProcess):
    """Gives calls that do nothing."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Forget the call."""
        return lambda: None
