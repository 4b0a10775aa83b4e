"""Train chains of segments in the test's process, with or without checkpoints between them."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from rl_lifecycle.storage.pieces import Reader
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import ModelState
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer, TrainedSegment
from rl_trainer.training.watch import TrainingWatch
from tests.trainer import toy_envs

TOY = f"{toy_envs.__name__}:Toy-v0"


def make_trainer(
    algo: str,
    hyperparameters: dict[str, Any],
    *,
    env_id: str = TOY,
    env_kwargs: dict[str, Any] | None = None,
    segment: int = 200,
    total: int = 600,
    seed: int = 1,
    fast: bool = True,
) -> SegmentTrainer:
    """Make a trainer with short segments."""
    settings = read_settings(algo, hyperparameters)
    plan = SegmentPlan(seed, segment, total, max(1, total // segment))
    builder = ModelBuilder(settings, fast=fast)
    return SegmentTrainer(plan, EnvironmentFactory(env_id, env_kwargs or {}, settings), builder)


def train_chain(trainer: SegmentTrainer, *, through_files: bool) -> TrainedSegment:
    """Train to the end.

    :param through_files: whether to write and read every checkpoint, as after a kill
    """
    state: ModelState | None = None
    stored: dict[str, bytes] = {}
    for segment in range(trainer.plan.n_segments):
        trained = trainer.train(segment, state, TrainingWatch(Interruption()))
        state = reread(trained.state, stored) if through_files else trained.state
    return trained


def reread(state: ModelState, stored: dict[str, bytes]) -> ModelState:
    """Return the checkpoint as a new machine reads it.

    :param stored: chunks by name, as the store keeps them
    """
    chunks = state.memory.chunks if state.memory else ()
    stored |= {chunk.sha256: b"".join(chunk.pieces) for chunk in chunks if chunk.pieces}
    return ModelState.from_files(
        state.to_files(), [(chunk.sha256, partial(_read, stored, chunk.sha256)) for chunk in chunks]
    )


def _read(stored: dict[str, bytes], sha256: str, into: Callable[[Reader], None]) -> None:
    into(io.BytesIO(stored[sha256]))


def whole_digest(trained: TrainedSegment) -> str:
    """Return the digest of parameters, optimizers and statistics."""
    return digest_arrays(trained.state.arrays)
