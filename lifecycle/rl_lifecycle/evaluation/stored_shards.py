"""Read shards from a bucket without trusting them.

A function that runs an experiment's own code writes the shards. So their form, their size and
their numbers are checked before they count. What they say about their own experiment cannot be
checked: an environment decides its own returns.
"""

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import MOST_COUNT, MOST_RETURN, EpisodeEnd, Shard
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, get

#: The greatest size of a shard, bytes. The holder of a shard's address could send any number
#: of bytes, so the size is looked at before the shard is read. An episode takes about 60 bytes.
MOST_SHARD_BYTES = 4_000_000
MOST_PROBLEMS, LONGEST_TEXT = 20, 2_000
#: The player rounds seconds to this part of a second.
LEAST_S = 1e-6


def find_shard(store: ObjectStore, key: str) -> Shard | None:
    """Read and check a shard.

    :return: None if the key does not exist.
    :raises InvalidRecordError: if the bytes are not a possible shard.
    """
    for item in store.list(key):
        if item.key == key:
            return read_shard(store, item)
    return None


def read_shard(store: ObjectStore, item: ObjectInfo) -> Shard:
    """Read and check a shard that a listing shows.

    :raises InvalidRecordError: if the bytes are not a possible shard.
    """
    where = f"{store.uri}/{item.key}"
    _check_size(item.n_bytes, where)
    return parse_shard(get(store, item.key).data, where)


def parse_shard(data: bytes, where: str) -> Shard:
    """Check the bytes of a shard.

    :raises InvalidRecordError: if the bytes are not a possible shard.
    """
    _check_size(len(data), where)
    shard = Shard.from_json(data, where)
    if problem := find_problem(shard):
        raise InvalidRecordError(where, problem)
    return shard


def _check_size(n_bytes: int, where: str) -> None:
    if n_bytes > MOST_SHARD_BYTES:
        raise InvalidRecordError(
            where, f"has {n_bytes:,} bytes, and a shard at most {MOST_SHARD_BYTES:,}"
        )


def find_problem(shard: Shard) -> str | None:
    """Find what makes a shard impossible.

    :return: None if there is nothing.
    """
    if not len(shard.returns) == len(shard.lengths) == len(shard.ends):
        return f"the shard at seed {shard.first_seed} has lists of different length"
    for index, end in enumerate(shard.ends):
        if (end is EpisodeEnd.LOST) != (shard.returns[index] is None):
            return f"seed {shard.first_seed + index}: an episode has no return if it was lost"
    if any(length is not None and length < 0 for length in shard.lengths):
        return "an episode has a negative length"
    if shard.first_seed < 0 or shard.steps < 0 or shard.seconds < 0:
        return "its first seed, its steps and its seconds cannot be negative"
    if any(abs(value) > MOST_RETURN for value in shard.returns if value is not None):
        return f"an episode has a return beyond {MOST_RETURN:g}"
    counts = (shard.first_seed, shard.steps, *(n for n in shard.lengths if n is not None))
    if max(counts) > MOST_COUNT or shard.seconds > MOST_COUNT or 0 < shard.seconds < LEAST_S:
        return "its seeds, its steps, its lengths or its seconds are impossible"
    if len(shard.problems) > MOST_PROBLEMS or any(
        len(text) > LONGEST_TEXT
        for text in (*shard.problems, *shard.versions, *shard.versions.values())
    ):
        return f"it has at most {MOST_PROBLEMS} problems, and texts of {LONGEST_TEXT} characters"
    return None
