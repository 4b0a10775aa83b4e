"""Collector processes of one machine.

They start by forkserver, so they have none of their starter's threads and connections. The kernel
ends them with their starter, however that ends.
"""

import signal
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing import get_context, util
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch

from rl_lifecycle.experiment.spec import Spec
from rl_trainer.checkpointing.numeric_class import pin_threads
from rl_trainer.environments.fork_server import start_fork_server
from rl_trainer.environments.worker import end_with_parent
from rl_trainer.errors import (
    EnvironmentFailedError,
    InterruptedTrainingError,
    OutOfMemoryError,
    TrainerError,
)
from rl_trainer.gangs.conversation import serve
from rl_trainer.gangs.transport import Channel, LostPeerError, Rendezvous
from rl_trainer.shards.collecting import ShardCollector
from rl_trainer.training.lean_torch import leave_compiler_out
from rl_trainer.training.preparation import make_work

#: Seconds that a process may take to end before it is killed.
END_S = 5.0
#: Exit status of a process that did not handle an error. Those of environments are handled.
FAILED = 1


class CollectorProcesses:
    """The collectors of one machine in one generation.

    :param spec: the frozen spec.
    :param own_address: the address of this machine, on which they listen.
    """

    def __init__(self, spec: Spec, trial: str, own_address: str) -> None:
        self._spec, self._trial, self._own_address = spec.to_json(), trial, own_address
        self._processes: list[BaseProcess] = []
        # A daemon of multiprocessing would end by itself, but could have no children, and an
        # environment may start some. This is called before multiprocessing waits for its children.
        self._finalizer = util.Finalize(self, _kill, (self._processes,), exitpriority=10)
        self._steps: Sequence[int] = ()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def steps(self) -> int:
        """How many environment steps the processes have made together."""
        return sum(self._steps)

    def start(self, meeting: Rendezvous, ranks: Sequence[int]) -> None:
        """Start one process for each rank."""
        start_fork_server()
        context = get_context("forkserver")
        self._steps = counts = context.RawArray("q", max(1, len(ranks)))
        for index, rank in enumerate(ranks):
            process = context.Process(
                target=collect_beside,
                args=(
                    meeting,
                    rank,
                    self._own_address,
                    (self._spec, self._trial),
                    sys.path,
                    (counts, index),
                ),
                name=f"collector {rank}",
            )
            process.start()
            self._processes.append(process)

    def check_alive(self) -> None:
        """Notice a process that has ended.

        :raises LostPeerError: naming it.
        """
        for process in self._processes:
            if process.exitcode is not None:
                raise LostPeerError(f"{process.name} has ended")

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of a process. :return: whether one has ended."""
        return bool(wait([process.sentinel for process in self._processes], timeout_s))

    def why_ended(self) -> TrainerError | None:
        """Explain the end of the first process that did not end by itself and well."""
        for process in self._processes:
            code = process.exitcode
            if not code:
                continue
            who = f"{process.name} (process {process.pid})"
            if code == -signal.SIGKILL:
                return OutOfMemoryError(
                    f"{who} was killed (SIGKILL). Linux kills a process when the memory is full: "
                    "choose a larger machine or fewer compute.workers"
                )
            if code == -signal.SIGTERM:
                return InterruptedTrainingError(
                    f"{who} was ended by {signal.Signals(-code).name}: start the same command again"
                )
            if code == FAILED:
                return TrainerError(f"{who} ended with exit status {code}")
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            return EnvironmentFailedError(
                f"{who} ended with {how}: the environment has ended its process, so correct it"
            )
        return None

    def kill(self) -> None:
        """End all processes at once."""
        _kill(self._processes)
        self._processes.clear()

    def join(self, patience_s: float = END_S) -> None:
        """Wait until all have ended, and kill those that take too long."""
        deadline = time.monotonic() + patience_s
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()


def _kill(processes: Iterable[BaseProcess]) -> None:
    """End processes at once. No effect on those that have ended."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def collect_beside(
    meeting: Rendezvous,
    rank: int,
    own_address: str,
    what: tuple[bytes, str],
    search_path: list[str],
    counter: tuple[list[int], int],
) -> None:
    """Run a collector until the learner ends the generation. This is the whole process.

    :param what: the bytes of the frozen spec, and the trial's name.
    :param search_path: where the trainer finds packages, also those of the environment's wheels.
    :param counter: a shared array, and the index in it where environment steps are counted.
    """
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # for the main process, which may finish first
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    pin_threads()
    sys.path[:] = search_path
    torch.set_num_threads(1)  # as in the trainer
    leave_compiler_out()
    spec, trial = what
    counts, index = counter

    def count(n_steps: int) -> None:
        counts[index] += n_steps

    def collector_of(segment: int, shards: list[int]) -> ShardCollector:
        return ShardCollector(make_work(Spec.from_json(spec), trial), segment, shards)

    try:
        channel = Channel(meeting, rank, own_address)
    except LostPeerError:
        return
    serve(channel, rank, collector_of, count)
