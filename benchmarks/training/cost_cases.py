"""The experiments that `trainer_costs` measures, with full replay buffers and their stores.

Buffers hold a million transitions. BipedalWalker's observations have 24 numbers, so its buffer
takes as much memory as the rest of the process. Its policy is rarely updated here, so its segments
are short for the size of their checkpoints.
"""

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.experiment.tuned import TUNED
from rl_lifecycle.storage.layout import spec_key
from rl_lifecycle.storage.pieces import Pieces
from rl_trainer.checkpointing.chain import CheckpointChain, Contents
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import ModelState, capture, final_parameters
from rl_trainer.checkpointing.numeric_class import numeric_class
from rl_trainer.checkpointing.replay_memory import ReplayMemory, grow
from rl_trainer.checkpointing.stores import open_store
from rl_trainer.settings.model_settings import LinearDecay, read_settings
from rl_trainer.training.preparation import make_trainer

ROWS = 1_000_000
CHUNKS = 10
RUN, TRIAL = "costs", "seed-0"


@dataclass(frozen=True)
class Case:
    """One experiment.

    :param segment: environment steps of a segment.
    :param changes: hyper-parameters that are not rl_zoo3's.
    """

    algo: str
    env_id: str
    segment: int
    return_range: tuple[float, float]
    changes: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """Name of the row in the table."""
        return f"{self.algo} {self.env_id}"

    @property
    def buffered(self) -> bool:
        """Whether it has a replay buffer."""
        return self.algo != "ppo"

    @property
    def step(self) -> int:
        """Where the training stands that is gone on with: the buffer has just been filled."""
        return -(-ROWS // self.segment) * self.segment if self.buffered else self.segment

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """rl_zoo3's, with a buffer for a million transitions."""
        chosen = {
            key: value
            for key, value in TUNED[self.algo][self.env_id].items()
            if key != "n_timesteps"
        }
        return chosen | dict(self.changes) | ({"buffer_size": ROWS} if self.buffered else {})

    @property
    def seldom_updated(self) -> "Case":
        """The same case with few gradient steps, because they take time but no memory."""
        return (
            dataclasses.replace(self, changes=(("train_freq", 8),)) if self.algo == "sac" else self
        )

    @property
    def stock(self) -> dict[str, Any]:
        """The same for stock SB3, as `stock_memory` takes it; schedules are held at their first
        value.
        """
        settings = read_settings(self.algo, self.hyperparameters)
        kwargs = {
            key: value.initial if isinstance(value, LinearDecay) else value
            for key, value in settings.model_kwargs.items()
        }
        return {
            "class": settings.algorithm.class_path.rpartition(":")[2],
            "env_id": self.env_id,
            "n_envs": settings.n_envs,
            "kwargs": kwargs,
            "steps": min(self.segment, 2_048),
        }

    def spec(self, segments: int) -> Spec:
        """Freeze an experiment that has the given number of segments after :attr:`step`."""
        document = {
            "env_id": self.env_id,
            "algo": self.algo,
            "total_timesteps": self.step + segments * self.segment,
            "checkpoint_every": self.segment,
            "trials": 1,
            "hyperparameters": self.hyperparameters,
            "compute": {"on_other_hardware": "continue"},
            "evaluation": {
                "return_range": list(self.return_range),
                "crash_below": self.return_range[0],
            },
        }
        return freeze_spec(
            read_experiment(json.loads(json.dumps(document)), "costs"),
            run_id=RUN,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


CASES = (
    Case("ppo", "CartPole-v1", 51_200, (0, 500)),
    Case("dqn", "CartPole-v1", 10_240, (0, 500)),
    Case("sac", "Pendulum-v1", 2_000, (-2000, 0)),
    Case(
        "td3", "BipedalWalker-v3", 50_000, (-200, 350), (("train_freq", 256), ("gradient_steps", 1))
    ),
)


def fill_buffer(buffer: Any) -> None:
    """Write made-up transitions to every row of SB3's replay buffer, so that its memory is really
    used.
    """
    rng = np.random.default_rng(0)
    for name in ("observations", "next_observations", "rewards"):
        column = getattr(buffer, name)
        column[...] = rng.standard_normal(column.shape, dtype=np.float32)
    for name in ("dones", "timeouts"):
        getattr(buffer, name)[...] = 0
    buffer.actions[...] = rng.integers(0, 2, buffer.actions.shape)
    buffer.pos, buffer.full = 0, True


def full_state(case: Case, model: Any) -> tuple[ModelState, dict[str, Pieces]]:
    """A model's state as if it had just filled its buffer, and the chunks that a checkpoint of it
    consists of.
    """
    model.num_timesteps = case.step
    if not case.buffered:
        return capture(model), {}
    buffer, memory = model.replay_buffer, None
    data: dict[str, Pieces] = {}
    fill_buffer(buffer)
    for index in range(CHUNKS):
        buffer.pos, buffer.full = (index + 1) * ROWS // CHUNKS % ROWS, index + 1 == CHUNKS
        memory = grow(memory, buffer, ROWS // CHUNKS)
        data |= {chunk.sha256: chunk.pieces for chunk in memory.chunks if chunk.pieces}
    assert isinstance(memory, ReplayMemory)  # noqa: S101  there is at least one chunk
    return dataclasses.replace(capture(model), memory=memory), data


def write_store(case: Case, uri: str, segments: int) -> str:
    """Commit a checkpoint with a full buffer, as an attempt would have. :return: the spec's key."""
    spec, store = case.spec(segments), open_store(uri)
    trainer = make_trainer(spec, TRIAL, store)
    state, chunks = full_state(case, trainer.prepare(0, None))
    chain = CheckpointChain(store, spec.trial_id(TRIAL), 1, spec.sha256, spec.trial(TRIAL).seed)
    chain.take_over()
    chain.commit(
        Contents(
            step=case.step,
            segment=case.step // case.segment,
            digest=digest_arrays(final_parameters(state)),
            files=state.to_files(),
            numeric_class=numeric_class("cpu", trainer.builder.path),
            buffer_chunks=tuple(chunks),
            new_chunks=chunks,
        )
    )
    key = spec_key("costs", spec.run)
    store.put(key, spec.to_json())
    return key
