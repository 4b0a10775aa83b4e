"""The conversation of a learner with its collectors: orders, answers, and who collects what."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rl_trainer.checkpointing.model_state import Arrays
from rl_trainer.errors import as_trainer_error, error_of
from rl_trainer.gangs.progress import OwnProgress
from rl_trainer.gangs.transport import (
    LEARNER,
    Channel,
    LostPeerError,
    Order,
    from_bytes,
    to_bytes,
)
from rl_trainer.shards.collecting import ShardCollector, ShardWork

#: Seconds between two calls of the watch while the learner waits for rollouts.
WATCH_EVERY_S = 0.2
#: The answers of collectors, in the order in which they arrive.
Answers: TypeAlias = "queue.SimpleQueue[tuple[int, int, bytes] | LostPeerError]"
#: Name of the array that tells which rank collects each shard.
RANKS = "ranks"


def share_out(n_shards: int, ranks: Sequence[int]) -> list[int]:
    """Return the rank that collects each shard. The first of the ranks gets the fewest.

    >>> share_out(4, [0, 1]), share_out(8, [0, 1, 2]), share_out(2, [1, 2, 3])
    ([1, 1, 0, 0], [2, 2, 2, 1, 1, 1, 0, 0], [3, 2])
    """
    world = min(len(ranks), n_shards)
    used = ranks[len(ranks) - world :]
    return [used[world - 1 - shard * world // n_shards] for shard in range(n_shards)]


class Conversation:
    """The learner's side: gives orders to all collectors, and collects its own shards meanwhile.

    After an error it cannot be used any more.

    :param ranks: the rank that collects each shard.
    :param watch: called several times a second while the learner waits. An error that it raises
        ends the wait.
    """

    def __init__(
        self, channel: Channel, work: ShardWork, ranks: Sequence[int], watch: Callable[[], None]
    ) -> None:
        self._channel, self._work, self._watch = channel, work, watch
        self._ranks = np.array(ranks, np.int64)
        self._own: ShardCollector | None = None
        #: Seconds that the learner has waited for each rank, after its own shards were collected.
        self.waited_s = dict.fromkeys(range(1, channel.world), 0.0)

    def begin(self, segment: int) -> None:
        """Make the environments of a segment, here and there.

        :raises LostPeerError: if a collector has ended.
        :raises TrainerError: if a collector reports an error.
        """
        self._give_order(Order.BEGIN, segment, {RANKS: self._ranks})
        answers = self._listen()
        self._own = ShardCollector(self._work, segment, _shards_of(self._ranks, LEARNER))
        for _ in range(1, self._channel.world):
            self._next_of(answers, _ignore)

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> list[Arrays]:
        """Collect one rollout of every shard, in the order of the shards.

        :raises LostPeerError: if a collector has ended.
        :raises TrainerError: if a collector reports an error.
        """
        if self._own is None:
            raise RuntimeError("the segment has not begun: call begin() first")
        self._give_order(Order.COLLECT, arrays=base)
        answers = self._listen()
        rollouts = self._own.collect(base, on_step)
        began = time.monotonic()
        for _ in range(1, self._channel.world):
            rank, data = self._next_of(answers, on_step)
            self.waited_s[rank] += time.monotonic() - began
            rollouts |= from_bytes(data)
        return [rollouts[shard] for shard in range(self._work.n_shards)]

    def end(self) -> None:
        """Close the environments of the segment."""
        if self._own is not None:
            self._give_order(Order.END)
            self._own.close()
            self._own = None

    def close(self) -> None:
        """Tell the collectors to end. Those that have ended already are no problem."""
        if self._own is not None:
            self._own.close()
            self._own = None
        try:
            self._give_order(Order.CLOSE)
        except LostPeerError:
            return

    def _give_order(
        self,
        order: Order,
        number: int = 0,
        arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> None:
        """Give an order in a thread of its own, and watch meanwhile.

        gloo sends nothing to a process that does not ask for it, and a machine that has vanished
        closes no connection. So an order may wait until the watch finds that machine silent.

        :raises LostPeerError: if a collector has ended.
        """
        given: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def give() -> None:
            try:
                self._channel.give_order(order, number, arrays)
            except Exception as error:  # the thread that waits raises it
                given.put(error)
            else:
                given.put(None)

        threading.Thread(target=give, daemon=True).start()
        while True:
            try:
                error = given.get(timeout=WATCH_EVERY_S)
            except queue.Empty:
                self._watch()
                continue
            if error is not None:
                raise error
            return

    def _listen(self) -> "Answers":
        """Begin to receive the answer of each collector."""
        answers: Answers = queue.SimpleQueue()
        for rank in range(1, self._channel.world):
            threading.Thread(target=self._receive, args=(rank, answers), daemon=True).start()
        return answers

    def _receive(self, rank: int, answers: "Answers") -> None:
        """Receive the answer of a collector, in a thread of its own."""
        try:
            answers.put((rank, *self._channel.next_answer(rank)))
        except LostPeerError as error:
            answers.put(error)

    def _next_of(self, answers: "Answers", on_step: Callable[[int], None]) -> tuple[int, bytes]:
        """Wait for an answer, and let the learner's callback watch meanwhile.

        :return: the rank and its answer.
        :raises LostPeerError: if a collector has ended.
        :raises TrainerError: if a collector reports an error.
        """
        while True:
            try:
                found = answers.get(timeout=WATCH_EVERY_S)
            except queue.Empty:
                on_step(0)
                self._watch()
                continue
            if isinstance(found, LostPeerError):
                raise found
            rank, code, data = found
            if code:
                raise error_of(code, data.decode())
            return rank, data


def serve(
    channel: Channel,
    rank: int,
    collector_of: Callable[[int, list[int]], ShardCollector],
    progress: OwnProgress,
) -> None:
    """Collect for a learner until it says that this is enough, or has ended.

    :param collector_of: makes the collector of some shards of a segment.
    :param progress: where this process says how far it is.
    """
    collector: ShardCollector | None = None
    while True:
        try:
            progress.rest()
            order, segment, arrays = channel.next_order()
            if order is Order.CLOSE:
                return
            if order is not Order.COLLECT and collector is not None:
                collector.close()
                collector = None
            if order is Order.BEGIN:
                collector, answer = _begun(collector_of, segment, _shards_of(arrays[RANKS], rank))
                progress.rest()
                channel.answer(*answer)
            if order is Order.COLLECT:
                progress.step(0)
                answer = _collected(collector, arrays, progress.step)
                progress.rest()
                channel.answer(*answer)
        except LostPeerError:
            return


def _begun(
    collector_of: Callable[[int, list[int]], ShardCollector], segment: int, shards: list[int]
) -> tuple[ShardCollector | None, tuple[int, bytes]]:
    """Make the collector of a segment, and the answer to the learner."""
    try:
        return collector_of(segment, shards), (0, b"")
    except Exception as error:  # the learner raises it again
        return None, _failure(error)


def _collected(
    collector: ShardCollector | None, base: Arrays, on_step: Callable[[int], None]
) -> tuple[int, bytes]:
    if collector is None:
        return _failure(RuntimeError("a rollout was asked for outside of a segment"))
    try:
        return 0, to_bytes(collector.collect(base, on_step))
    except Exception as error:  # the learner raises it again
        return _failure(error)


def _failure(error: BaseException) -> tuple[int, bytes]:
    known = as_trainer_error(error)
    return known.exit_code, str(known).encode()


def _shards_of(ranks: np.ndarray[Any, Any], rank: int) -> list[int]:
    return [int(shard) for shard in np.flatnonzero(ranks == rank)]


def _ignore(n_steps: int) -> None:
    """Count no steps while environments are made."""
