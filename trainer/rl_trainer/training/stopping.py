"""Stopping SB3's `learn` at a segment's end: between two rollouts, or for ARS between two
iterations.

`learn` is called as if it were to train to the end of the whole training, so that its schedules run
over all of it.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutReturn

from rl_lifecycle.experiment.algorithms import Algorithm, Family


class _SegmentEndedError(Exception):
    """Leaves ARS's loop, which asks nobody whether to go on."""


def learn_until(
    model: Any, algorithm: Algorithm, step: int, total_timesteps: int, callback: BaseCallback
) -> None:
    """Train a model to a segment's end.
    :param step: where that is, counted from the beginning of the training.
    """
    try:
        if algorithm.family is Family.EPISODES:
            _learn_in_iterations(model, step, total_timesteps, callback)
        else:
            with _stopping_at(model, step, on_policy=algorithm.family is Family.ON_POLICY):
                model.learn(
                    total_timesteps - model.num_timesteps,
                    callback=callback,
                    reset_num_timesteps=False,
                )
    finally:
        callback.locals, callback.globals = (
            {},
            {},
        )  # SB3 leaves the loop's variables there, the rollout's memory among them


def _learn_in_iterations(
    model: Any, step: int, total_timesteps: int, callback: BaseCallback
) -> None:
    """ARS: an iteration plays whole episodes with every candidate, so between two of them nothing
    is unfinished.

    Its progress is the share of what `learn` was asked for, so it is asked for the whole training
    in every segment.
    """
    update = model._do_one_update

    def update_or_stop(self: Any, *args: Any) -> None:
        if self.num_timesteps >= step:
            raise _SegmentEndedError
        update(*args)

    model._do_one_update = types.MethodType(update_or_stop, model)
    try:
        model.learn(total_timesteps, callback=callback, reset_num_timesteps=False)
    except _SegmentEndedError:
        pass
    finally:
        del model._do_one_update


@contextmanager
def _stopping_at(model: Any, step: int, *, on_policy: bool) -> Iterator[None]:
    """Make `learn` end, between two rollouts, once the model is at a step."""
    collect = model.collect_rollouts
    stopped = False if on_policy else RolloutReturn(0, 0, continue_training=False)

    def collect_or_stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        return collect(*args, **kwargs) if self.num_timesteps < step else stopped

    model.collect_rollouts = types.MethodType(collect_or_stop, model)
    try:
        yield
    finally:
        del model.collect_rollouts
