"""One segment of a training: a pure function of the state before it, the spec and its index.

Environments and model are new, every generator is seeded from (trial seed, segment), and the
schedules run on over the whole training: SB3's own `learn` is called as if it were to train to the
end, and stopped at the segment's.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rl_trainer.checkpointing.model_state import ModelState, capture, first_not_finite, restore
from rl_trainer.checkpointing.replay_memory import close_episodes, grow
from rl_trainer.environments.factory import EnvironmentFactory, ended_episodes
from rl_trainer.errors import DivergedError, EnvironmentFailedError, TrainerError
from rl_trainer.onnx_export.reference import Observations
from rl_trainer.onnx_export.visited import visited_observations
from rl_trainer.reporting.curves import Curves, episode_statistics
from rl_trainer.training.divergence import check_sane
from rl_trainer.training.models import ModelBuilder, seed_generators
from rl_trainer.training.stopping import learn_until
from rl_trainer.training.warm_start import WarmStart, begin_with
from rl_trainer.training.watch import check_deviation, check_finite


@dataclass(frozen=True)
class SegmentPlan:
    """How a training is cut: the segments' length in environment steps, and the whole."""

    trial_seed: int
    segment_timesteps: int
    total_timesteps: int
    n_segments: int

    def end(self, segment: int) -> int:
        """The step that a segment trains to; a last rollout may go beyond, as in SB3."""
        return (
            self.total_timesteps
            if segment + 1 == self.n_segments
            else (segment + 1) * self.segment_timesteps
        )


@dataclass(frozen=True)
class TrainedSegment:
    """A model at the end of a segment; nobody trains it on, so it may be exported beside the next
    one.
    """

    model: Any
    state: ModelState
    curves: Curves
    visited: Observations | None

    @property
    def step(self) -> int:
        """Environment steps since the beginning of the training."""
        return int(self.model.num_timesteps)


class SegmentTrainer:
    """Trains segments of one trial.

    :param initial: what to begin with, a champion's parameters; None: fresh ones.
    """

    def __init__(
        self,
        plan: SegmentPlan,
        factory: EnvironmentFactory,
        builder: ModelBuilder,
        initial: WarmStart | None = None,
    ) -> None:
        self.plan, self.factory, self.builder, self.initial = plan, factory, builder, initial

    def prepare(self, segment: int, state: ModelState | None) -> Any:
        """Build the model as it is at the beginning of a segment.

        :param state: what the segment before left; None: the beginning of the training.
        """
        seed_generators(self.plan.trial_seed, segment, purpose="-env")
        env = self.factory.make(self.plan.trial_seed, segment)
        self.builder.choose(env)
        seed_generators(self.plan.trial_seed, segment, purpose="-build")
        live = state.memory.live if state is not None and state.memory is not None else None
        model = self.builder.build(env, with_buffer=live is None)
        if state is not None:
            restore(model, state)
        elif self.initial is not None:
            begin_with(model, self.initial)
        seed_generators(self.plan.trial_seed, segment)
        return model

    def train(
        self, segment: int, state: ModelState | None, callback: BaseCallback
    ) -> TrainedSegment:
        """Train one segment.
        :raises DivergedError: if anything in the model is no longer finite, or has grown beyond all
            bounds.
        """
        model, curves = self.prepare(segment, state), Curves()
        before = dataclasses.replace(state, arrays={}) if state is not None else None
        del state  # the model has its arrays, and nobody else needs to hold them while it trains
        model.set_logger(curves.logger())
        self._learn(model, self.plan.end(segment), callback)
        curves.add(model.num_timesteps, episode_statistics(*ended_episodes(model.env)))
        trained = TrainedSegment(
            model, _state_at_end(model, before), curves, visited_observations(model)
        )
        if (name := first_not_finite(trained.state.arrays)) is not None:
            raise DivergedError(
                f"{name} is not finite at step {trained.step}: lower the learning rate, or look "
                "at the rewards"
            )
        check_sane(model)
        return trained

    def _learn(self, model: Any, step: int, callback: BaseCallback) -> None:
        """Learn to a step. An error that a model which is no longer finite led to is called by that
        name.
        """
        try:
            learn_until(
                model, self.builder.settings.algorithm, step, self.plan.total_timesteps, callback
            )
        except TrainerError as error:
            if isinstance(error, EnvironmentFailedError):
                check_finite(model)
            raise
        except Exception:
            check_finite(model)
            check_deviation(model)
            raise


def _state_at_end(model: Any, before: ModelState | None) -> ModelState:
    """Capture a model, its replay buffer closed and grown by the segment's rows."""
    state = capture(model)
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return state
    close_episodes(buffer)
    trained_before = before.values["counters"]["num_timesteps"] if before else 0
    steps = (model.num_timesteps - trained_before) // model.n_envs
    return dataclasses.replace(state, memory=grow(before.memory if before else None, buffer, steps))
