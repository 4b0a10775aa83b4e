"""One segment of a training: a pure function of the state before it, the spec and its index.

The environments and the model are new. Every generator is seeded from the trial's seed and the
segment's index. Schedules run over the whole training: SB3's `learn` is called as if it trained to
the end, and is stopped at the end of the segment.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rl_trainer.checkpointing.model_state import ModelState, capture, first_not_finite, restore
from rl_trainer.checkpointing.replay_memory import close_episodes, grow
from rl_trainer.environments.factory import (
    EnvironmentFactory,
    check_generators,
    ended_episodes,
)
from rl_trainer.errors import DivergedError, EnvironmentFailedError, TrainerError
from rl_trainer.onnx_export.reference import Observations
from rl_trainer.onnx_export.visited import visited_observations
from rl_trainer.reporting.curves import Curves, episode_statistics
from rl_trainer.shards.collecting import ShardWork
from rl_trainer.shards.generators import seed_generators
from rl_trainer.shards.learning import LocalCollectors, RolloutSource, ShardedRollouts
from rl_trainer.training.divergence import check_divergence
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.stopping import learn_until
from rl_trainer.training.warm_start import WarmStart, begin_with
from rl_trainer.training.watch import check_deviation, check_finite


@dataclass(frozen=True)
class SegmentPlan:
    """How a training is divided into segments, and its environments into shards.

    Lengths are environment steps.
    """

    trial_seed: int
    segment_timesteps: int
    total_timesteps: int
    n_segments: int
    n_shards: int = 1

    def end(self, segment: int) -> int:
        """Return the step at which a segment ends. As in SB3, the last rollout may go beyond it."""
        return (
            self.total_timesteps
            if segment + 1 == self.n_segments
            else (segment + 1) * self.segment_timesteps
        )


@dataclass(frozen=True)
class TrainedSegment:
    """A model at the end of a segment.

    It is not trained further, so another thread may export it while the next segment trains.
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
    """Trains the segments of one trial.

    :param initial: a champion's parameters to begin with; None for new parameters.

    `collectors` collects the shards, if there are more than one. It may be replaced between two
    segments.
    """

    def __init__(
        self,
        plan: SegmentPlan,
        factory: EnvironmentFactory,
        builder: ModelBuilder,
        initial: WarmStart | None = None,
    ) -> None:
        self.plan, self.factory, self.builder, self.initial = plan, factory, builder, initial
        self.work = ShardWork(plan.trial_seed, plan.n_shards, factory, builder.build_collector)
        self.collectors: RolloutSource = LocalCollectors(self.work)

    def prepare(self, segment: int, state: ModelState | None) -> Any:
        """Build the model as it is at the beginning of a segment.

        :param state: the state at the end of the segment before; None at the beginning.
        """
        # Making the environments and building the model use seeds of their own, so that they
        # draw no random numbers of the training.
        seed_generators(self.plan.trial_seed, segment, purpose="-env")
        env = (
            self.factory.make(self.plan.trial_seed, segment)
            if self.plan.n_shards == 1
            else self.factory.make_sharded()
        )
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

        :raises DivergedError: if a number in the model is not finite, or is far too large.
        :raises OneProcessNeededError: if the result is not that of one process.
        """
        model, curves = self.prepare(segment, state), Curves()
        before = dataclasses.replace(state, arrays={}) if state is not None else None
        del state  # the model has the arrays now; this frees the copy while it trains
        model.set_logger(curves.logger())
        self._learn(model, segment, callback)
        check_generators(model.env)
        curves.add(model.num_timesteps, episode_statistics(*ended_episodes(model.env)))

        trained = TrainedSegment(
            model, _state_at_end(model, before), curves, visited_observations(model)
        )
        if (name := first_not_finite(trained.state.arrays)) is not None:
            raise DivergedError(
                f"{name} is not finite at step {trained.step}: lower the learning rate, or check "
                "the rewards"
            )
        check_divergence(model)
        return trained

    def _learn(self, model: Any, segment: int, callback: BaseCallback) -> None:
        """Train to the end of a segment.

        :raises DivergedError: if an error occurs and the model's parameters are not finite.
        """
        collect: ShardedRollouts | None = None
        try:
            if self.plan.n_shards > 1:
                collect = ShardedRollouts(model, self.collectors)
                self.collectors.begin(segment)
            learn_until(
                model,
                self.builder.settings.algorithm,
                self.plan.end(segment),
                self.plan.total_timesteps,
                callback,
                collect,
            )
        except TrainerError as error:
            if isinstance(error, EnvironmentFailedError) or type(error) is TrainerError:
                check_finite(model)
            if type(error) is TrainerError:  # an unexpected error of a collector
                check_deviation(model)
            raise
        except Exception:  # raised again; torch raises many types for values that are not finite
            check_finite(model)
            check_deviation(model)
            raise
        finally:
            if collect is not None:
                self.collectors.end()


def _state_at_end(model: Any, before: ModelState | None) -> ModelState:
    """Capture the state of a model, including the segment's new rows of the replay buffer."""
    state = capture(model)
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return state
    close_episodes(buffer)
    trained_before = before.values["counters"]["num_timesteps"] if before else 0
    steps = (model.num_timesteps - trained_before) // model.n_envs
    return dataclasses.replace(state, memory=grow(before.memory if before else None, buffer, steps))
