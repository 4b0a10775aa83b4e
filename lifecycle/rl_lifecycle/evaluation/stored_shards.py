"""Read shards from a bucket without trusting them.

A function that runs an experiment's own code writes the shards. So their form, their size and
their numbers are checked before they count. What they say about their own experiment cannot be
checked: an environment decides its own returns.
"""

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, get

#: The greatest size of a shard, bytes. Whoever holds the address of a shard could send any number
#: of bytes, so the size is looked at before the shard is read. An episode takes about 60 bytes.
MOST_SHARD_BYTES = 4_000_000


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
    if item.n_bytes > MOST_SHARD_BYTES:
        raise InvalidRecordError(
            where, f"has {item.n_bytes:,} bytes, and a shard at most {MOST_SHARD_BYTES:,}"
        )
    shard = Shard.from_json(get(store, item.key).data, where)
    if problem := find_problem(shard):
        raise InvalidRecordError(where, problem)
    return shard


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
    return None
