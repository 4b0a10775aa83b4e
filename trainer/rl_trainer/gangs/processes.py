"""Collector processes on the trainer's machine, beside the process that learns.

They start by forkserver, so they have none of the trainer's threads and connections. They end with
the trainer.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from rl_lifecycle.experiment.spec import Spec
from rl_trainer.checkpointing.model_state import Arrays
from rl_trainer.checkpointing.numeric_class import pin_threads
from rl_trainer.errors import (
    BadInputError,
    InterruptedTrainingError,
    TrainerError,
)
from rl_trainer.shards.collecting import ShardCollector, ShardWork
from rl_trainer.shards.gangs import GangCollectors, serve
from rl_trainer.shards.transport import LEARNER, Channel, LostPeerError, Rendezvous, bind
from rl_trainer.training.lean_torch import leave_compiler_out
from rl_trainer.training.preparation import make_work

#: All processes are on this machine.
LOOPBACK = "127.0.0.1"
#: Seconds that a process may take to end before it is killed.
END_S = 5.0


class ProcessCollectors:
    """Collects shards in this process and in others of this machine.

    The processes start with the first segment.

    :param n_processes: processes beside this one.
    :raises BadInputError: if there are not enough shards for so many processes.
    """

    def __init__(self, spec: Spec, trial: str, work: ShardWork, n_processes: int) -> None:
        if n_processes >= work.n_shards:
            raise BadInputError(
                f"--collectors {n_processes}: a training of {work.n_shards} shard(s) has work for "
                f"at most {work.n_shards - 1} beside the trainer; set shards of the experiment, or "
                "ask for fewer"
            )
        self._spec, self._trial, self._work, self._n = spec, trial, work, n_processes
        self._processes: list[BaseProcess] = []
        self._gang: GangCollectors | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of the processes beside this one; empty before the first segment."""
        return [process.pid for process in self._processes if process.pid is not None]

    def begin(self, segment: int) -> None:
        """Start the processes if none run, and make the environments of a segment."""
        with _EndingOnErrors(self):
            if self._gang is None:
                self._gang = self._start()
            self._gang.begin(segment)

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> list[Arrays]:
        """Collect one rollout of every shard.

        :raises InterruptedTrainingError: if a signal has ended a process.
        :raises TrainerError: if a process reports an error, or has ended by itself.
        """
        with _EndingOnErrors(self):
            if self._gang is None:
                raise RuntimeError("the segment has not begun: call begin() first")
            return self._gang.collect(base, on_step)

    def end(self) -> None:
        """Close the environments of the segment."""
        with _EndingOnErrors(self):
            if self._gang is not None:
                self._gang.end()

    def close(self) -> None:
        """End the processes."""
        if self._gang is not None:
            self._gang.close()
            self._gang = None
        deadline = time.monotonic() + END_S
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            self._kill(process)
        self._processes = []

    def _start(self) -> GangCollectors:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with bind(LOOPBACK) as listening:
            meeting = Rendezvous(LOOPBACK, listening.getsockname()[1], self._n + 1)
            for rank in range(1, meeting.world):
                process = context.Process(
                    target=collect_beside,
                    args=(meeting, rank, self._spec.to_json(), self._trial, sys.path),
                    name=f"collector {rank}",
                    daemon=True,
                )
                process.start()
                self._processes.append(process)
            channel = Channel(meeting, LEARNER, LOOPBACK, listening, self._check_alive)
        return GangCollectors(channel, self._work)

    def _check_alive(self) -> None:
        """Notice a process that has ended before it could connect.

        :raises LostPeerError: naming it.
        """
        for process in self._processes:
            if process.exitcode is not None:
                raise LostPeerError(f"{process.name} has ended")

    def end_after(self, error: BaseException) -> BaseException:
        """End all processes after an error, and return the error that explains it best."""
        explained = error
        if isinstance(error, LostPeerError):
            explained = self._lost() or TrainerError(f"a collector does not answer: {error}")
        for process in self._processes:
            process.kill()
        self.close()
        return explained

    def _lost(self) -> TrainerError | None:
        """Explain the end of the first process that has ended."""
        wait([process.sentinel for process in self._processes], timeout=END_S)
        for process in self._processes:
            code = process.exitcode
            if code is None:
                continue
            who = f"{process.name} (process {process.pid})"
            if code in (-signal.SIGKILL, -signal.SIGTERM):
                return InterruptedTrainingError(
                    f"{who} was ended by {signal.Signals(-code).name}: start the same command again"
                )
            return TrainerError(f"{who} ended with code {code}")
        return None

    @staticmethod
    def _kill(process: BaseProcess) -> None:
        if process.is_alive():
            process.kill()
            process.join()


class _EndingOnErrors:
    """Ends the processes if an error occurs, because they may be in the middle of an answer."""

    def __init__(self, collectors: ProcessCollectors) -> None:
        self._collectors = collectors

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error that explains it best."""
        if error is None:
            return
        explained = self._collectors.end_after(error)
        if explained is not error:
            raise explained from error


def collect_beside(
    meeting: Rendezvous, rank: int, spec: bytes, trial: str, search_path: list[str]
) -> None:
    """Run a collector until the trainer ends. This is the whole process.

    :param spec: the bytes of the frozen spec.
    :param search_path: where the trainer finds packages, also those of the environment's wheels.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the trainer, too
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pin_threads()
    sys.path[:] = search_path
    leave_compiler_out()
    try:
        channel = Channel(meeting, rank, meeting.address)
    except LostPeerError:
        return

    def collector_of(segment: int, shards: list[int]) -> ShardCollector:
        return ShardCollector(make_work(Spec.from_json(spec), trial), segment, shards)

    serve(channel, rank, collector_of)


def _end_with_parent() -> None:
    """End this process when the trainer has ended, however that happened."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(0)
