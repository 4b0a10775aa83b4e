"""Messages between the learner of a trial and its collectors, over torch.distributed with gloo.

Arrays travel as safetensors in tensors of bytes, so nothing is unpickled. Each process listens on
the given address only. torch's store would listen on all interfaces, so the learner gives it a
socket that is already bound. Neither the store nor gloo asks who connects: the address must be
reachable for the processes of this trial alone.

Source: https://pytorch.org/docs/stable/distributed.html#torch.distributed.TCPStore
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load, save

from rl_trainer.checkpointing.model_state import Arrays

#: torch's module. Its published types leave out most methods of its process groups.
_distributed: Any = torch.distributed
#: The learner's rank. Collectors have the ranks from 1.
LEARNER = 0
#: Seconds that a process may take to start and to connect.
CONNECT_S = 300.0
#: Seconds that the learner may need to send something to processes that wait for it.
SEND_S = 120.0
#: Seconds between two looks at who has connected.
LOOK_EVERY_S = 0.05
#: A tag of gloo with which nothing is sent.
NEVER_SENT = 7
#: Prefix of the keys that say who has connected.
READY = "ready/"
#: Seconds that one transfer may take, including the slowest rollout before it.
TRANSFER_S = 24 * 3600.0


class Order(IntEnum):
    """What the learner tells its collectors."""

    BEGIN = 1
    """Make the environments of a segment."""
    COLLECT = 2
    """Collect one rollout with the policy and the statistics that follow."""
    END = 3
    """Close the environments of the segment."""
    CLOSE = 4
    """End the process."""


class Rendezvous(NamedTuple):
    """Where the processes of a trial meet, and how many they are.

    :param address: the learner's own address, an IP address.
    :param world: the learner and its collectors.
    """

    address: str
    port: int
    world: int


class LostPeerError(Exception):
    """Another process of this trial has ended, or does not answer.

    :param ranks: the ranks of those processes, as far as they are known.
    """

    def __init__(self, message: str, ranks: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)


def bind(address: str) -> socket.socket:
    """Listen on a free port of one address only."""
    listening = socket.create_server((address, 0))
    listening.setblocking(True)
    return listening


class Channel:
    """The connection of one process with the others.

    :param own_address: the address on which this process listens.
    :param listening: the learner's socket from :func:`bind`; None in a collector.
    :param watch: called while the learner waits for the others; an error that it raises ends that.
    :param connect_s: seconds that the others may take to connect.
    :raises LostPeerError: if the others do not connect in time.
    """

    def __init__(
        self,
        meeting: Rendezvous,
        rank: int,
        own_address: str,
        listening: socket.socket | None = None,
        watch: Callable[[], None] | None = None,
        connect_s: float = CONNECT_S,
    ) -> None:
        self.world, self._rank = meeting.world, rank
        options = _distributed.ProcessGroupGloo._Options()
        options._devices = [_distributed.ProcessGroupGloo.create_device(hostname=own_address)]
        options._timeout, options._threads = timedelta(seconds=connect_s), 2
        master: dict[str, Any] = {}
        if listening is not None:
            master = {"is_master": True, "master_listen_fd": listening.detach()}
        try:
            self.store = _distributed.TCPStore(
                meeting.address,
                meeting.port,
                meeting.world,
                timeout=timedelta(seconds=connect_s),
                wait_for_workers=False,
                **master,
            )
            self.store.set(f"{READY}{rank}", "1")
            if rank == LEARNER:
                self._await_others(watch, connect_s)
            self._group = _distributed.ProcessGroupGloo(self.store, rank, meeting.world, options)
        except RuntimeError as error:  # torch's own errors are RuntimeErrors, too
            raise LostPeerError(_first_line(error)) from error

    def _await_others(self, watch: Callable[[], None] | None, connect_s: float) -> None:
        """Wait until all have connected, so that nothing begins before.

        :raises LostPeerError: naming those who have not connected in time.
        """
        deadline = time.monotonic() + connect_s
        while missing := [
            rank for rank in range(1, self.world) if not self.store.check([f"{READY}{rank}"])
        ]:
            if watch is not None:
                watch()
            if time.monotonic() > deadline:
                raise LostPeerError(
                    f"{', '.join(f'collector {rank}' for rank in missing)} did not connect within "
                    f"{connect_s:g} s",
                    missing,
                )
            time.sleep(LOOK_EVERY_S)

    def abort(self) -> None:
        """Break the connections, so that no thread of this process waits for them any more.

        gloo's own `abort` leaves them waiting. But it closes all connections as soon as one wait
        has taken too long.
        """
        for rank in set(range(self.world)) - {self._rank}:
            with contextlib.suppress(RuntimeError):
                never = self._group.recv([torch.zeros(1)], rank, NEVER_SENT)
                never.wait(timedelta(milliseconds=1))

    def give_order(
        self,
        order: Order,
        number: int = 0,
        arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Send an order to all collectors.

        :param number: the segment of :attr:`Order.BEGIN`.
        :raises LostPeerError: if a collector has ended.
        """
        data = b"" if arrays is None else save(dict(arrays))
        self._broadcast(torch.tensor([order, number, len(data)]))
        if data:
            self._broadcast(_tensor(data))

    def next_order(self) -> tuple[Order, int, Arrays]:
        """Wait for an order.

        :raises LostPeerError: if the learner has ended.
        """
        head = torch.zeros(3, dtype=torch.int64)
        self._broadcast(head)
        order, number, length = head.tolist()
        if not length:
            return Order(order), number, {}
        body = torch.empty(length, dtype=torch.uint8)
        self._broadcast(body)
        return Order(order), number, load(body.numpy().tobytes())

    def answer(self, code: int, data: bytes) -> None:
        """Send an answer to the learner.

        :param code: 0, or the exit code of an error, whose message follows.
        :raises LostPeerError: if the learner has ended.
        """
        self._send(torch.tensor([code, len(data)]))
        if data:
            self._send(_tensor(data))

    def next_answer(self, rank: int) -> tuple[int, bytes]:
        """Wait for the answer of a collector. Other threads run meanwhile.

        :raises LostPeerError: if the collector has ended.
        """
        head = torch.zeros(2, dtype=torch.int64)
        self._receive(head, rank)
        code, length = head.tolist()
        body = torch.empty(length, dtype=torch.uint8)
        if length:
            self._receive(body, rank)
        return code, body.numpy().tobytes()

    def _broadcast(self, tensor: torch.Tensor) -> None:
        # A collector waits for the next order as long as the learner's update takes.
        patience = timedelta(seconds=SEND_S if self._rank == LEARNER else TRANSFER_S)
        try:
            self._group.broadcast(tensor, LEARNER, patience).wait(patience)
        except RuntimeError as error:
            raise LostPeerError(_first_line(error)) from error

    def _send(self, tensor: torch.Tensor) -> None:
        try:
            self._group.send([tensor], LEARNER, 0).wait(timedelta(seconds=TRANSFER_S))
        except RuntimeError as error:
            raise LostPeerError(_first_line(error)) from error

    def _receive(self, tensor: torch.Tensor, rank: int) -> None:
        try:
            self._group.recv([tensor], rank, 0).wait(timedelta(seconds=TRANSFER_S))
        except RuntimeError as error:
            raise LostPeerError(_first_line(error), [rank]) from error


def to_bytes(rollouts: Mapping[int, Arrays]) -> bytes:
    """Write the rollouts of some shards as one message."""
    return save(
        {
            f"{shard}/{name}": np.asarray(array, order="C")
            for shard, arrays in rollouts.items()
            for name, array in arrays.items()
        }
    )


def from_bytes(data: bytes) -> dict[int, Arrays]:
    """Read the rollouts of a message by shard."""
    rollouts: dict[int, Arrays] = {}
    for key, array in load(data).items():
        shard, _, name = key.partition("/")
        rollouts.setdefault(int(shard), {})[name] = array
    return rollouts


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _first_line(error: BaseException) -> str:
    """Return what torch says, without the source file before it and gloo's advice after it."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return re.sub(r"^\[[^\]]*:\d+\] ", "", line).partition(". This is typically caused by")[0]
