"""Replay buffers in chunks are restored exactly and stored unchanged."""

import dataclasses
import gc
import io
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.pieces import Pieces
from rl_trainer.attempts import trials
from rl_trainer.attempts.trials import TrialJob, train_trial
from rl_trainer.checkpointing import replay_memory
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.checkpointing.replay_memory import (
    COLUMNS,
    Chunk,
    ReplayMemory,
    close_episodes,
    fill,
    grow,
)
from rl_trainer.reporting.journal import Journal
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.watch import Room, TrainingWatch
from tests.trainer.chains import make_trainer, train_chain, whole_digest
from tests.trainer.conftest import TINY_PPO, frozen

BOX = spaces.Box(-1, 1, (2,), np.float32)
GOAL = spaces.Dict(dict.fromkeys(("achieved_goal", "desired_goal", "observation"), BOX))
HER: dict[str, Any] = {
    "policy": "MultiInputPolicy",
    "replay_buffer_class": "HerReplayBuffer",
    "learning_starts": 100,
    "batch_size": 8,
    "train_freq": 20,
    "gradient_steps": 1,
    "policy_kwargs": "dict(net_arch=[8])",
}
DQN: dict[str, Any] = {
    "learning_starts": 10**6,
    "batch_size": 4,
    "policy_kwargs": "dict(net_arch=[4])",
}


class Ragged(gym.Env[Any, Any]):
    """An environment without a time limit, with many short and a few very long episodes."""

    observation_space, action_space = BOX, spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Choose the episode's length."""
        super().reset(seed=seed, options=options)
        self.left = int(self.np_random.choice([10, 500], p=[0.9, 0.1]))
        return self._observe(), {}

    def step(self, _action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step."""
        self.left -= 1
        return self._observe(), 1.0, self.left <= 0, False, {}

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


gym.register("Ragged-v0", Ragged)


def add(buffer: Any, steps: int, episode: int, rng: np.random.Generator) -> None:
    """Add random transitions with episodes of random length."""
    her = isinstance(buffer, HerReplayBuffer)

    def observed() -> Any:
        return (
            {name: rng.standard_normal((1, 2)) for name in GOAL.spaces}
            if her
            else rng.standard_normal((1, 2))
        )

    for step in range(steps):
        ends = (step + 1) % episode == 0
        numbers = rng.standard_normal((1, 2)), rng.standard_normal(1)
        buffer.add(
            observed(), observed(), *numbers, np.full(1, ends), [{"TimeLimit.truncated": ends}]
        )


def columns(buffer: Any) -> dict[str, Any]:
    """Return a buffer's arrays by name."""
    return {name: column for name in COLUMNS if (column := getattr(buffer, name, None)) is not None}


@pytest.mark.parametrize("size", [100, 105, 253, 257, 311, 320])
@pytest.mark.parametrize("her", [True, False])
def test_a_buffer_is_restored_from_any_position(
    monkeypatch: pytest.MonkeyPatch, size: int, her: bool
) -> None:
    """Also in an overwritten episode, or in one that wraps around the buffer's end."""
    monkeypatch.setattr(replay_memory, "CHUNK_BYTES", 1500)  # a segment makes several chunks
    make = (
        partial(HerReplayBuffer, size, GOAL, BOX, env=None)
        if her
        else partial(ReplayBuffer, size, BOX, BOX)
    )
    buffer, rng, memory, stored = make(), np.random.default_rng(0), None, dict[str, bytes]()
    for _ in range(30):
        add(buffer, 100, 10, rng)
        close_episodes(buffer)
        memory = grow(memory, buffer, 100)
        stored |= {chunk.sha256: b"".join(chunk.pieces) for chunk in memory.chunks if chunk.pieces}
        assert max(chunk.rows for chunk in memory.chunks) < 100
        chunks = [
            (chunk.sha256, partial(lambda data, into: into(io.BytesIO(data)), stored[chunk.sha256]))
            for chunk in memory.chunks
        ]
        again = make()
        fill(again, ReplayMemory.from_values(memory.to_values(), chunks))
        assert (again.pos, again.full) == (buffer.pos, buffer.full)
        for name, column in columns(buffer).items():
            np.testing.assert_equal(getattr(again, name), column, err_msg=f"{name} at {buffer.pos}")


def test_hers_training_is_the_same_from_files() -> None:
    """Segments resume anywhere in the buffer, also in an episode that wraps around its end."""
    trainer = partial(
        make_trainer,
        "sac",
        HER | {"buffer_size": 295},
        env_kwargs={"observation": "goal", "action": "box"},
        total=800,
    )
    assert whole_digest(train_chain(trainer(), through_files=True)) == whole_digest(
        train_chain(trainer(), through_files=False)
    )


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (700, {"train_freq": [1, "episode"]}),
        (300, {"train_freq": [1, "episode"]}),
        (700, {}),
        (401, {}),
        (400, {}),
        (399, {}),
        (150, {}),
        (310, {"train_freq": 150}),
        (500, {"train_freq": 150}),
        (700, {"train_freq": 150, "n_envs": 2}),
    ],
)
def test_a_chunk_stays_unchanged_while_it_is_stored(size: int, changes: dict[str, Any]) -> None:
    """The next segment trains meanwhile and waits only before it would overwrite the chunk."""
    trainer = make_trainer(
        "dqn", DQN | {"buffer_size": size} | changes, env_id="Ragged-v0", segment=200, total=6000
    )
    state, memory, before, n_envs = None, None, 0, changes.get("n_envs", 1)
    for segment in range(trainer.plan.n_segments):
        waited = Waited(memory)
        room = (
            None
            if memory is None or memory.free_rows is None
            else Room(memory.free_rows * n_envs, waited)
        )
        trained = trainer.train(segment, state, TrainingWatch(Interruption(), room=room))
        added = trained.model.num_timesteps // n_envs - before
        if memory is not None:
            assert waited.whole or not waited.called, f"segment {segment} waited too late"
            assert waited.called == (not waited.are_whole()), (
                f"segment {segment} waited for nothing, or overwrote a chunk"
            )
            assert waited.called == (memory.free_rows is not None and added > memory.free_rows)
        memory, before = trained.state.memory, trained.model.num_timesteps // n_envs
        assert memory is not None
        assert shares(memory.chunks, trained.model.replay_buffer) or not added
        state = dataclasses.replace(trained.state, memory=memory.without_data())


class Waited:
    """Records whether a segment waited, and whether the chunks were unchanged then."""

    def __init__(self, memory: ReplayMemory | None) -> None:
        self.chunks = (
            [chunk for chunk in memory.chunks if chunk.pieces] if memory is not None else []
        )
        self.called = self.whole = False

    def __call__(self) -> None:
        """Compare the chunks."""
        self.called, self.whole = True, self.are_whole()

    def are_whole(self) -> bool:
        """Return whether all chunks are unchanged."""
        return all(sha256_hex(b"".join(chunk.pieces)) == chunk.sha256 for chunk in self.chunks)


@pytest.mark.parametrize(("size", "n_envs", "steps"), [(1_500, 1, 0), (7_000, 2, 2_000)])
def test_a_segment_waits_for_a_slow_store_and_ends_at_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, n_envs: int, steps: int
) -> None:
    """Commits take longer than the training between them, and the log says what it waits for.

    :param steps: the length of a segment, which must not overwrite the rows of the previous one
    """
    document = {
        **TINY_PPO,
        "algo": "dqn",
        "total_timesteps": 12_000,
        "checkpoint_every": 5_000,
        "env_id": "CartPole-v1",
        "hyperparameters": DQN | {"buffer_size": size, "n_envs": n_envs},
    }
    monkeypatch.setattr(trials, "REPORT_WAITING_EVERY_S", 0.1)
    spec, written, rooms, lines = frozen(document), [], list[int](), list[str]()

    def room(steps: int, wait: Any) -> Room:
        rooms.append(steps)
        return Room(steps, wait)

    monkeypatch.setattr(trials, "Room", room)
    for delay in (0.0, 0.6):
        store = FakeSlowStore(tmp_path / str(delay), delay)
        chain = CheckpointChain(
            store,
            spec.trial_id("seed-0"),
            1,
            spec.sha256,
            spec.trial("seed-0").seed,
            on_problem=print,
        )
        chain.take_over()
        journal = Journal(chain.trial, 1, quiet=True)
        train_trial(
            TrialJob(
                spec,
                "seed-0",
                store,
                chain,
                journal,
                Interruption(),
                lambda *_: None,
                lines.append,
            )
        )
        written.append({info.key for info in store.list("buffers/")})
    assert len(written[0]) == 2
    assert written[0] == written[1]
    assert rooms == [steps, 0] * 2, (
        "the last segment is longer and would overwrite the rows at once"
    )
    assert "is being stored, and training waits for it" in lines[0]


def test_a_models_buffers_go_when_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers are freed without the garbage collector, because with images they have gigabytes."""
    made: list[Any] = []
    original = ModelBuilder._construct

    def constructed(self: Any, *arguments: Any, **named: Any) -> Any:
        alive.append(sum(rollout() is not None for rollout in made))
        model = original(self, *arguments, **named)
        made.append(weakref.ref(model.rollout_buffer))
        return model

    alive: list[int] = []
    monkeypatch.setattr(ModelBuilder, "_construct", constructed)
    store = DirectoryStore(tmp_path)
    spec = frozen({**TINY_PPO, "total_timesteps": 2048 * 8})
    chain = CheckpointChain(
        store, spec.trial_id("seed-0"), 1, spec.sha256, spec.trial("seed-0").seed, on_problem=print
    )
    chain.take_over()
    gc.collect()
    gc.disable()
    try:
        train_trial(
            TrialJob(
                spec,
                "seed-0",
                store,
                chain,
                Journal(chain.trial, 1, quiet=True),
                Interruption(),
                lambda *_: None,
                print,
            )
        )
    finally:
        gc.enable()
    assert len(made) > 6
    assert max(alive) <= 2, (
        "the one that is being committed, and the one before, whose commit the training waited for"
    )


def test_hers_dictionaries_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment with the live buffer makes no dictionaries, and the model's size stays."""
    sizes: list[int] = []
    original = HerReplayBuffer.__init__

    def counted(self: Any, buffer_size: int, *arguments: Any, **named: Any) -> None:
        sizes.append(buffer_size)
        original(self, buffer_size, *arguments, **named)

    monkeypatch.setattr(HerReplayBuffer, "__init__", counted)
    trainer = make_trainer(
        "sac",
        HER | {"buffer_size": 295, "n_envs": 2},
        env_kwargs={"observation": "goal", "action": "box"},
        total=400,
    )
    trainer.builder.choose(env := trainer.factory.make(1, 0))
    env.close()
    sizes.clear()
    trained = train_chain(trainer, through_files=False)
    assert sizes == [295, *[2] * (trainer.plan.n_segments - 1)]
    assert trained.model.buffer_size == 295
    assert trained.model.replay_buffer.buffer_size == 295 // 2


class FakeSlowStore(DirectoryStore):
    """Waits before it reads the bytes of a large object."""

    def __init__(self, root: Path, delay_s: float) -> None:
        super().__init__(root)
        self.delay_s = delay_s

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Wait, then write."""
        time.sleep(self.delay_s)
        super().put_pieces(key, pieces, sha256)


def shares(chunks: tuple[Chunk, ...], buffer: ReplayBuffer) -> bool:
    """Return whether chunks are views of a buffer's memory."""
    return any(
        np.shares_memory(np.asarray(piece), buffer.observations)
        for chunk in chunks
        for piece in chunk.pieces
    )
