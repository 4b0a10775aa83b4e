"""Collector processes of one machine.

They start by forkserver, so they have none of their starter's threads and connections. The kernel
ends them with their starter, however that ends.
"""

import contextlib
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
from rl_trainer.environments.worker_vec_env import LIMIT_S
from rl_trainer.errors import (
    EnvironmentFailedError,
    InterruptedTrainingError,
    OutOfMemoryError,
    TrainerError,
)
from rl_trainer.gangs.conversation import serve
from rl_trainer.gangs.progress import OwnProgress, Progress
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
        self._progress: Progress | None = None
        self._hanging: list[BaseProcess] = []

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def steps(self) -> int:
        """How many environment steps the processes have made together."""
        return self._progress.steps if self._progress is not None else 0

    def start(self, meeting: Rendezvous, ranks: Sequence[int]) -> None:
        """Start one process for each rank."""
        start_fork_server()
        context = get_context("forkserver")
        self._progress = Progress(context, max(1, len(ranks)))
        for index, rank in enumerate(ranks):
            process = context.Process(
                target=collect_beside,
                args=(
                    meeting,
                    rank,
                    self._own_address,
                    (self._spec, self._trial),
                    sys.path,
                    self._progress.of(index),
                ),
                name=f"collector {rank}",
            )
            process.start()
            self._processes.append(process)

    def end_hanging(self) -> None:
        """End the processes whose environments have taken too long for a step."""
        for index, process in enumerate(self._processes):
            overdue = self._progress is not None and self._progress.overdue(index, LIMIT_S)
            if overdue and process.exitcode is None:
                self._hanging.append(process)
                process.kill()
                process.join()

    def check_alive(self) -> None:
        """Notice a process that has ended or hangs.

        :raises LostPeerError: naming it.
        """
        self.end_hanging()
        for process in self._processes:
            if process.exitcode is not None:
                raise LostPeerError(f"{process.name} has ended")

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of a process. :return: whether one has ended."""
        return bool(wait([process.sentinel for process in self._processes], timeout_s))

    def why_ended(self) -> TrainerError | None:
        """Explain the end of the first process that did not end by itself and well."""
        for index, process in enumerate(self._processes):
            code = process.exitcode
            if code is None or (code == 0 and self._is_done(index)):
                continue
            who = f"{process.name} (process {process.pid})"
            if process in self._hanging:
                return EnvironmentFailedError(
                    f"{who} has not answered for {LIMIT_S:.0f} s for each of its environments: "
                    "correct the environment"
                )
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

    def _is_done(self, index: int) -> bool:
        return self._progress is not None and self._progress.is_done(index)

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
    progress: OwnProgress,
) -> None:
    """Run a collector until the learner ends the generation. This is the whole process.

    :param what: the bytes of the frozen spec, and the trial's name.
    :param search_path: where the trainer finds packages, also those of the environment's wheels.
    :param progress: where this process says how far it is.
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

    def collector_of(segment: int, shards: list[int]) -> ShardCollector:
        work = make_work(Spec.from_json(spec), trial)
        progress.begin(work.envs_per_shard * len(shards))
        return ShardCollector(work, segment, shards)

    with contextlib.suppress(LostPeerError):
        serve(Channel(meeting, rank, own_address), rank, collector_of, progress)
    progress.end()
