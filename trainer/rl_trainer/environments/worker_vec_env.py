"""Step the environments of a segment in several processes, with the same bytes as in one.

An environment keeps its seed and its place, wherever it is stepped, and its numbers come from its
own generators. So the number of processes changes no byte.
"""

import ctypes
import itertools
import pickle
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs

from rl_trainer.environments.fork_server import start_fork_server
from rl_trainer.environments.step_memory import StepLayout, StepMemory
from rl_trainer.environments.vec_env import LeanVecEnv
from rl_trainer.environments.worker import CALL, ERROR, STEP, TRUNCATED, Block, Maker, serve
from rl_trainer.errors import EnvironmentFailedError, OutOfMemoryError, TrainerError

#: Seconds that each environment of a worker may take for a step, a reset or any other answer.
LIMIT_S = 120.0
#: Seconds that a worker has to begin: the fork server's imports, and making its environments.
START_S = 600.0
#: Seconds that a worker has to close its environments.
CLOSE_S = 10.0


def divide(n_envs: int, processes: int) -> list[tuple[int, int]]:
    """Return the first environment and the end of each process's block.

    The trainer's own block is the first. It is never the largest, because the trainer has other
    work, too.

    >>> divide(8, 3)
    [(0, 2), (2, 5), (5, 8)]
    """
    cuts = [process * n_envs // processes for process in range(processes + 1)]
    return list(itertools.pairwise(cuts))


@dataclass(frozen=True)
class Worker:
    """A worker as the trainer sees it."""

    number: int
    block: Block
    pipe: Connection
    process: Any

    def __str__(self) -> str:
        first, last = self.block.first, self.block.end - 1
        which = f"environments {first} to {last}" if last > first else f"environment {first}"
        return f"worker {self.number} ({which})"


class WorkerVecEnv(VecEnv):
    """Steps the first environments in this process, and the others in workers.

    Errors are those of :class:`LeanVecEnv`. A worker that ends or hangs is an error, too.

    :param factory: returns makers for seeds. It must be picklable.
    :param seeds: one seed for the first reset of each environment.
    :param processes: how many processes step environments, this one included.
    :param limit_s: seconds that an environment may take to answer.
    :raises TrainerError: if an environment cannot be made.
    """

    def __init__(
        self,
        factory: Callable[[Sequence[int]], Sequence[Maker]],
        seeds: Sequence[int],
        processes: int,
        limit_s: float = LIMIT_S,
    ) -> None:
        self.limit_s = limit_s
        (_, end), *others = divide(len(seeds), processes)
        makers = factory(seeds[:end])
        first_env = makers[0]()
        spaces = first_env.observation_space, first_env.action_space
        layout = StepLayout.of(len(seeds), *spaces)
        start_fork_server()
        context = get_context("forkserver")
        # It has no name in the file system, so it cannot be left behind.
        shared = context.RawArray(ctypes.c_byte, layout.size)
        self._memory = StepMemory(layout, shared)
        self._workers: list[Worker] = []
        # Called at the end of the process, before multiprocessing waits for its children.
        self._finalizer = util.Finalize(self, _kill, (self._workers,), exitpriority=10)
        self._selector = selectors.DefaultSelector()
        try:
            for number, (low, high) in enumerate(others, 2):
                block = Block(factory, tuple(seeds[low:high]), low)
                self._workers.append(_start(number, block, shared, layout))
                self._selector.register(self._workers[-1].pipe, selectors.EVENT_READ, number)
            self._mine = LeanVecEnv([lambda: first_env, *makers[1:]], seeds[:end])
            self._mine.write_into(*self._memory.rows(0, end))
            self._collect(self._workers, START_S)
            super().__init__(len(seeds), *spaces)
        except BaseException:
            self._finalizer()
            raise
        self._seeds = list(seeds)
        self.metadata = self._mine.metadata

    @property
    def largest_reward(self) -> float:
        """The largest absolute reward so far."""
        answers: list[float] = self._ask(self._workers, "largest_reward")
        return max(self._mine.largest_reward, *answers)

    @property
    def used_generators(self) -> list[str]:
        """Names of the workers' global generators from which environments have drawn."""
        answers = self._ask(self._workers, "used_generators")
        return sorted({name for names in answers for name in names})

    def reset(self) -> Any:
        """Reset every environment.

        :raises TrainerError: if an environment fails, or a worker ends or hangs.
        """
        for worker in self._workers:
            part = slice(worker.block.first, worker.block.end)
            _tell(worker, _call("reset", self._seeds[part], self._options[part]))
        part = slice(0, self._mine.num_envs)
        self._mine._seeds, self._mine._options = self._seeds[part], self._options[part]
        self._with_workers(self._mine.reset, self._workers)
        self._reset_seeds()
        self._reset_options()
        return self._copied_observations()

    def step_async(self, actions: Any) -> None:
        """Let the workers begin to step.

        :raises ValueError: if the actions do not have the form of the action space.
        """
        given = np.asarray(actions)
        self._memory.actions(given.dtype)[...] = given
        self._mine.step_async(actions[: self._mine.num_envs])
        message = STEP + given.dtype.str.encode()
        for worker in self._workers:
            _tell(worker, message)

    def step_wait(self) -> VecEnvStepReturn:
        """Step this process's environments, and wait for those of the workers.

        :raises TrainerError: if an environment fails, or a worker ends or hangs.
        """
        infos, answers = self._with_workers(self._mine.step_in_place, self._workers)
        infos += ({TRUNCATED: False} for _ in range(self.num_envs - len(infos)))
        for worker, answer in zip(self._workers, answers, strict=True):
            for index, info in (answer or {}).items():
                infos[worker.block.first + index] = info
        return (
            self._copied_observations(),
            self._memory.rewards.copy(),
            self._memory.ends.copy(),
            infos,
        )

    def close(self) -> None:
        """Close the environments, and end the workers."""
        for worker in self._workers:
            worker.pipe.close()  # a worker that waits for a message then closes its environments
        self._mine.close()
        deadline = time.monotonic() + CLOSE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
        self._selector.close()
        self._finalizer()

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of each environment, or of those with these indices."""
        return self._call_envs(indices, "env_method", method_name, *args, **kwargs)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of each environment, or of those with these indices."""
        return self._call_envs(indices, "get_attr", attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether every environment has an attribute, which need not be picklable."""
        answers = self._ask(self._workers, "call", "has_attr", attr_name)
        return self._mine.has_attr(attr_name) and all(answers)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of each environment, or of those with these indices."""
        self._call_envs(indices, "set_attr", attr_name, value)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Tell for each environment whether it has a wrapper of this class."""
        return self._call_envs(indices, "env_is_wrapped", wrapper_class)

    def _call_envs(self, indices: Any, name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Call a method of VecEnv in the processes that have these environments."""
        chosen = list(self._get_indices(indices))
        own = [index for index in chosen if index < self._mine.num_envs]
        asked: list[tuple[Worker, list[int]]] = []
        for worker in self._workers:
            low, high = worker.block.first, worker.block.end
            if theirs := [index for index in chosen if low <= index < high]:
                local = [index - low for index in theirs]
                _tell(worker, _call("call", name, *args, indices=local, **kwargs))
                asked.append((worker, theirs))
        method: Callable[..., Any] = getattr(self._mine, name)
        mine, answers = self._with_workers(
            lambda: method(*args, indices=own, **kwargs) if own else [],
            [worker for worker, _ in asked],
        )
        found = dict(zip(own, mine or (), strict=False))
        for (_, theirs), values in zip(asked, answers, strict=True):
            found |= dict(zip(theirs, values or (), strict=False))
        return [found[index] for index in chosen if index in found]

    def _ask(self, workers: Sequence[Worker], name: str, *args: Any) -> list[Any]:
        for worker in workers:
            _tell(worker, _call(name, *args))
        return self._collect(workers, self._limit_of(workers))

    def _with_workers(
        self, own: Callable[[], Any], workers: Sequence[Worker]
    ) -> tuple[Any, list[Any]]:
        """Do this process's part while workers do theirs. If both fail, this part's error counts.

        The workers' answers are read in every case, so that the next answer is to the next message.
        """
        try:
            mine = own()
        except Exception:
            self._collect(workers, self._limit_of(workers), raises=False)
            raise
        return mine, self._collect(workers, self._limit_of(workers))

    def _limit_of(self, workers: Sequence[Worker]) -> float:
        return self.limit_s * max((len(worker.block.seeds) for worker in workers), default=0)

    def _collect(
        self, workers: Sequence[Worker], limit_s: float, *, raises: bool = True
    ) -> list[Any]:
        """Wait for one answer of each worker.

        :param limit_s: seconds after which a worker hangs.
        :raises TrainerError: the error of the first worker that sends one, or the end of a worker.
        """
        missing = {worker.number: worker for worker in workers}
        answers: dict[int, bytes] = {}
        deadline = time.monotonic() + limit_s
        while missing:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                raise EnvironmentFailedError(
                    f"{next(iter(missing.values()))} has not answered for {limit_s:.0f} s: correct "
                    "the environment, which hangs"
                )
            for key, _ in ready:
                worker = self._workers[key.data - 2]
                answers[key.data] = _receive(worker)
                missing.pop(key.data, None)
        return [_value(answers[worker.number], raises=raises) for worker in workers]

    def _copied_observations(self) -> Any:
        parts = {key: part.copy() for key, part in self._memory.observations.items()}
        return dict_to_obs(self.observation_space, parts)


def _start(number: int, block: Block, shared: Any, layout: StepLayout) -> Worker:
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=serve, args=(theirs, shared, layout, block), name=f"worker-{number}"
    )
    process.start()
    theirs.close()
    return Worker(number, block, ours, process)


def _call(name: str, *args: Any, **kwargs: Any) -> bytes:
    return CALL + pickle.dumps((name, args, kwargs))


def _tell(worker: Worker, message: bytes) -> None:
    try:
        worker.pipe.send_bytes(message)
    except OSError:
        raise _lost(worker) from None


def _receive(worker: Worker) -> bytes:
    try:
        return worker.pipe.recv_bytes()
    except (EOFError, OSError):
        raise _lost(worker) from None


def _value(answer: bytes, *, raises: bool) -> Any:
    """Return the value of an answer; None if it has none.

    :param raises: whether to raise the error that the answer may hold.
    """
    value: Any = pickle.loads(answer[1:]) if answer else None  # noqa: S301  from our own worker
    if answer[:1] == ERROR and raises:
        raise value
    return value


def _lost(worker: Worker) -> TrainerError:
    """Return the error for a worker that has ended."""
    worker.process.join(1.0)
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        return OutOfMemoryError(
            f"{worker} was killed (SIGKILL). Linux kills a process when the memory is full: choose "
            "a larger machine or fewer compute.workers"
        )
    how = f"signal {signal.Signals(-code).name}" if (code or 0) < 0 else f"exit status {code}"
    return EnvironmentFailedError(
        f"{worker} ended with {how}: the environment has ended its process, so correct it"
    )


def _kill(workers: Iterable[Worker]) -> None:
    """End workers at once. No effect on those that have ended."""
    for worker in workers:
        worker.pipe.close()
        worker.process.kill()
    for worker in workers:
        worker.process.join()
