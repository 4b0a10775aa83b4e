"""Stop SB3's `learn` at the end of a segment: between two rollouts, or two iterations of ARS.

`learn` is called as if it trained to the end of the whole training, so that its schedules run over
the whole training.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutReturn

from rl_lifecycle.experiment.algorithms import Algorithm, Family


class _SegmentEndedError(Exception):
    """Ends the loop of ARS, which offers no other way to stop it."""


def learn_until(
    model: Any,
    algorithm: Algorithm,
    step: int,
    total_timesteps: int,
    callback: BaseCallback,
    collect: Callable[..., Any] | None = None,
) -> None:
    """Train a model to the end of a segment.

    :param step: the end, counted from the beginning of the training.
    :param collect: collects a rollout in place of the model's own method; None: the model does.
    """
    try:
        if algorithm.family is Family.EPISODES:
            _learn_in_iterations(model, step, total_timesteps, callback)
        else:
            on_policy = algorithm.family is Family.ON_POLICY
            collect = model.collect_rollouts if collect is None else collect
            with _stopping_at(model, step, collect, on_policy=on_policy):
                model.learn(
                    total_timesteps - model.num_timesteps,
                    callback=callback,
                    reset_num_timesteps=False,
                )
    finally:
        # SB3 leaves the variables of its loop here, which would keep the rollout in memory.
        callback.locals = {}
        callback.globals = {}


def _learn_in_iterations(
    model: Any, step: int, total_timesteps: int, callback: BaseCallback
) -> None:
    """Train ARS. Each iteration plays whole episodes, so nothing is unfinished between two of them.

    ARS computes its progress from the steps that `learn` was asked for. So every segment asks for
    the whole training.
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
def _stopping_at(
    model: Any, step: int, collect: Callable[..., Any], *, on_policy: bool
) -> Iterator[None]:
    """Make `learn` end between two rollouts once the model has reached a step."""
    stopped = False if on_policy else RolloutReturn(0, 0, continue_training=False)

    def collect_or_stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        return collect(*args, **kwargs) if self.num_timesteps < step else stopped

    model.collect_rollouts = types.MethodType(collect_or_stop, model)
    try:
        yield
    finally:
        del model.collect_rollouts
