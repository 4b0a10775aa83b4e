"""Messages between processes: arrays arrive as they were, and nothing listens elsewhere."""

import socket
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest

from rl_lifecycle.trials.gangs import LOOPBACK
from rl_trainer.gangs.conversation import Conversation, share_out
from rl_trainer.gangs.transport import Channel, LostPeerError, Order, Rendezvous, bind

#: An address of loopback that no other program listens on. Linux has all of 127/8.
ELSEWHERE = "127.9.8.7"


def test_shards_are_shared_out_so_that_each_has_one_collector() -> None:
    """Every process gets some, and the learner, which also updates, never the most."""
    for n_shards in range(1, 9):
        for world in range(1, n_shards + 1):
            ranks = share_out(n_shards, range(world))
            counts = [ranks.count(rank) for rank in range(world)]
            assert sum(counts) == n_shards
            assert max(counts) - min(counts) <= 1
            assert counts[0] == min(counts)


def _connect() -> tuple[Channel, Channel]:
    """Return a learner's channel and a collector's, on an address of their own."""
    with bind(ELSEWHERE) as listening:
        meeting = Rendezvous(ELSEWHERE, listening.getsockname()[1], 2)
        other: list[Channel] = []
        thread = threading.Thread(target=lambda: other.append(Channel(meeting, 1, ELSEWHERE)))
        thread.start()
        learner = Channel(meeting, 0, ELSEWHERE, listening)
        thread.join()
    return learner, other.pop()


@pytest.fixture
def channels() -> tuple[Channel, Channel]:
    """A learner's channel and a collector's, on an address of their own."""
    return _connect()


def test_no_process_listens_on_another_address(channels: tuple[Channel, Channel]) -> None:
    """Without a bound socket, torch's store would listen on all interfaces."""
    listening = {
        (one.laddr.ip, one.laddr.port)
        for one in psutil.Process().net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    ours = [(ip, port) for ip, port in listening if ip == ELSEWHERE]
    assert len(ours) >= 3  # the store, and gloo in each of the two
    for _, port in ours:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), timeout=5).close()
    assert len(channels) == 2


def test_arrays_arrive_as_they_were(channels: tuple[Channel, Channel]) -> None:
    """Types, shapes and bytes are kept, also of an empty array and of a number."""
    learner, collector = channels
    sent = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4), np.int64),
        "number": np.array(0.1),
        "image": np.full((2, 2), 255, np.uint8),
        "flags": np.array([True, False]),
    }
    thread = threading.Thread(target=learner.give_order, args=(Order.COLLECT, 7, sent))
    thread.start()
    order, number, got = collector.next_order()
    thread.join()
    assert (order, number) == (Order.COLLECT, 7)
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in got.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in sent.items()
    }


def test_a_learner_without_collectors_gives_up() -> None:
    """It does not wait for ever, and says which rank is missing."""
    with bind(LOOPBACK) as listening:
        meeting = Rendezvous(LOOPBACK, listening.getsockname()[1], 2)
        with pytest.raises(LostPeerError, match="collector 1 did not connect within 1 s") as lost:
            Channel(meeting, 0, LOOPBACK, listening, connect_s=1.0)
    assert lost.value.ranks == (1,)


def test_a_broken_channel_lets_no_thread_wait(channels: tuple[Channel, Channel]) -> None:
    """A thread that waits for an answer gets an error, also if the other process only hangs."""
    learner, _ = channels
    errors: list[LostPeerError] = []

    def wait() -> None:
        try:
            learner.next_answer(1)
        except LostPeerError as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    learner.abort()
    thread.join(20)
    assert [error.ranks for error in errors] == [(1,)]


def test_a_collector_that_has_ended_is_told_in_a_few_words() -> None:
    """The message of torch also has the place in its source, and advice for its own users."""
    learner, collector = _connect()
    del collector
    with pytest.raises(LostPeerError, match=r"^Connection closed by peer \[[\d.]+\]:\d+$"):
        learner.next_answer(1)


class NoWork:
    """Work that has no shards."""

    n_shards = 0


def test_an_order_to_a_machine_that_has_vanished_ends_with_the_watch(
    channels: tuple[Channel, Channel],
) -> None:
    """Nothing there takes the order, and no connection is closed. The watch knows it first."""
    learner, _ = channels
    work: Any = NoWork()

    def watch() -> None:
        raise LostPeerError("no sign of life", [1])

    conversation = Conversation(learner, work, [1], watch)
    began = time.monotonic()
    with pytest.raises(LostPeerError, match="no sign of life"):
        conversation.begin(0)
    conversation.close()
    assert time.monotonic() - began < 20
    learner.abort()
