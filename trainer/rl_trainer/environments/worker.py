"""A worker: a process that steps some of the environments of a segment.

It gets short messages through a pipe, and writes what its environments return into shared memory.
The trainer's process imports this module, too, for the protocol.
"""

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import random
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rl_trainer.environments.step_memory import StepLayout, StepMemory
from rl_trainer.environments.vec_env import LeanVecEnv
from rl_trainer.errors import EnvironmentFailedError

#: The infos that SB3 and the trainer read. All others stay in the worker, because sending them
#: takes time, and some of them cannot be sent.
READ_INFOS = ("TimeLimit.truncated", "terminal_observation", "episode", "is_success")
#: First bytes of messages. A step's message also has the type of the actions.
STEP, CALL = b"s", b"c"
#: First bytes of answers. An empty answer means that nothing but the arrays has changed.
VALUE, ERROR = b"v", b"e"

Maker = Callable[[], gym.Env[Any, Any]]


@dataclass(frozen=True)
class Block:
    """The environments of one worker.

    :param factory: returns makers for seeds. It is pickled.
    :param first: number of its first environment.
    """

    factory: Callable[[Sequence[int]], Sequence[Maker]]
    seeds: tuple[int, ...]
    first: int

    @property
    def end(self) -> int:
        """The number after that of its last environment."""
        return self.first + len(self.seeds)


def serve(pipe: Connection, memory: Any, layout: StepLayout, block: Block) -> None:
    """Make the environments of a block, and answer messages until the trainer closes the pipe."""
    end_with_parent()
    _leave_signals_to_trainer()
    torch.set_num_threads(1)  # as in the trainer
    drawn = GeneratorWatch()
    try:
        environments = LeanVecEnv(block.factory(block.seeds), block.seeds)
    except BaseException as error:  # the trainer raises it
        _send(pipe, ERROR + _pickled(error))
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()  # an end before the trainer closes the pipe would be an error, too
        return
    worker = _Worker(environments, StepMemory(layout, memory), block, drawn)
    _send(pipe, b"")
    with contextlib.suppress(EOFError, OSError):
        while True:
            _send(pipe, worker.answer(pipe.recv_bytes()))
    environments.close()


class GeneratorWatch:
    """Notices when the process's own random generators are used.

    An environment that draws from them gets other numbers in another process.
    """

    def __init__(self) -> None:
        self._before = _generator_states()

    def used(self) -> list[str]:
        """Return the names of the generators whose state has changed."""
        now = _generator_states()
        return [name for name, state in self._before.items() if state != now[name]]


def _generator_states() -> dict[str, bytes]:
    return {
        "random": pickle.dumps(random.getstate()),
        "numpy.random": pickle.dumps(np.random.get_state()),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


class _Worker:
    """Answers the messages of the trainer."""

    def __init__(
        self, environments: LeanVecEnv, memory: StepMemory, block: Block, drawn: GeneratorWatch
    ) -> None:
        self.environments, self.memory, self.block = environments, memory, block
        self._drawn = drawn
        environments.write_into(*memory.rows(block.first, block.end))

    def answer(self, message: bytes) -> bytes:
        """Do what a message asks, and return the answer's bytes."""
        try:
            if message[:1] == STEP:
                return self._step(np.dtype(message[1:].decode()))
            name, args, kwargs = pickle.loads(message[1:])  # noqa: S301  from our own trainer
            return VALUE + pickle.dumps(getattr(self, name)(*args, **kwargs))
        except BaseException as error:  # the trainer raises it
            return ERROR + _pickled(error)

    def _step(self, dtype: np.dtype[Any]) -> bytes:
        # A copy, because an environment may keep its last action, and the memory changes.
        actions = self.memory.actions(dtype)[self.block.first : self.block.end].copy()
        self.environments.step_async(actions)
        infos = {
            index: read
            for index, info in enumerate(self.environments.step_in_place())
            if (read := {key: info[key] for key in READ_INFOS if key in info}) != {TRUNCATED: False}
        }
        return VALUE + pickle.dumps(infos) if infos else b""

    def reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> None:
        """Reset the environments, as SB3's environments do."""
        self.environments._seeds, self.environments._options = seeds, options
        self.environments.reset()

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the environments."""
        return getattr(self.environments, name)(*args, **kwargs)

    def largest_reward(self) -> float:
        """Return the largest absolute reward so far."""
        return self.environments.largest_reward

    def used_generators(self) -> list[str]:
        """Return the names of this process's generators from which the environments have drawn."""
        return self._drawn.used()


TRUNCATED = READ_INFOS[0]


def _send(pipe: Connection, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the trainer is gone, and the next message is, too
        pipe.send_bytes(data)


def _pickled(error: BaseException) -> bytes:
    """Pickle an error, or a description of it if it cannot be pickled.

    The note holds the worker's traceback, because a traceback itself cannot be sent.
    """
    error.add_note(f"In process {os.getpid()}, a worker:\n{traceback.format_exc()}")
    with contextlib.suppress(Exception):  # an error may have any constructor
        pickle.loads(data := pickle.dumps(error))  # noqa: S301  made in this line
        return data
    return pickle.dumps(EnvironmentFailedError(f"{type(error).__name__}: {error}"))


def end_with_parent() -> None:
    """Let the kernel end this process as soon as the trainer has ended.

    The trainer holds the only writing end of the pipe behind `sentinel`. When that end is closed,
    the kernel sends SIGIO, which ends a process, also one that hangs in a step.
    Source: https://man7.org/linux/man-pages/man2/fcntl.2.html (O_ASYNC)
    """
    trainer = multiprocessing.parent_process()
    if trainer is None:
        return
    fcntl.fcntl(trainer.sentinel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(trainer.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(trainer.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)


def _leave_signals_to_trainer() -> None:
    """Do nothing on SIGTERM and SIGINT, which may go to a whole group of processes.

    The trainer decides what they mean. A function is used instead of SIG_IGN, because programs
    that an environment starts would inherit that.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
