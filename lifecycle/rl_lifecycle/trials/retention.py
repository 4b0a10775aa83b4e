"""Which data of older checkpoints a trial no longer needs.

What is kept: the newest checkpoints whole, so that a damaged one has others to fall back to; every
manifest, because policies and versions name them; and every replay-buffer chunk that a kept
checkpoint lists. Deleting is the business of whoever may: in a directory the trainer, in a bucket
its lifecycle rules.
"""

from collections.abc import Iterable, Mapping, Sequence

from rl_lifecycle.storage.layout import TrialId, buffer_key, step_and_attempt_of
from rl_lifecycle.trials.checkpoints import MANIFEST, CheckpointManifest

#: How many of the newest checkpoints stay whole: the newest, and two to fall back to.
KEPT = 3


def plan_retention(
    trial: TrialId, chain: Sequence[tuple[str, CheckpointManifest]], kept: int = KEPT
) -> tuple[str, ...]:
    """List the keys that a chain of checkpoints no longer needs, in the order in which to delete
    them.

    Chunks come before the files of the checkpoint that listed them, so that whoever dies in between
    finds them again.

    :param chain: key and manifest of the newest checkpoint, then of the one that it names as its
        previous, and so on.
    :param kept: how many stay whole, at least 1.
    """
    needed = {chunk for _, manifest in chain[:kept] for chunk in manifest.buffer_chunks}
    chunks = {
        chunk: None
        for _, manifest in chain[kept:]
        for chunk in manifest.buffer_chunks
        if chunk not in needed
    }
    files = [
        key.removesuffix(MANIFEST) + name
        for key, manifest in chain[kept:]
        for name in manifest.files
    ]
    return (*(buffer_key(trial, chunk) for chunk in chunks), *files)


def plan_sweep(
    keys: Iterable[str], chain: Mapping[str, CheckpointManifest], attempt: int
) -> tuple[str, ...]:
    """List files of checkpoints that were never committed: a machine vanished while it wrote them.

    :param keys: what lies below the trial's checkpoint prefix.
    :param chain: the committed checkpoints, by the key of their manifest; not empty.
    :param attempt: whoever sweeps; what later attempts write is left alone, and what lies beyond
        the newest step, too.
    """
    newest = max(manifest.step for manifest in chain.values())
    committed = {key.removesuffix(MANIFEST) for key in chain}
    swept = []
    for key in keys:
        folder, _, name = key.rpartition("/")
        written = step_and_attempt_of(key)
        if name == MANIFEST or f"{folder}/" in committed or written is None:
            continue
        step, writer = written
        if step <= newest and writer < attempt:
            swept.append(key)
    return tuple(swept)
