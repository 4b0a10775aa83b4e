"""Which data of older checkpoints a trial no longer needs.

The newest checkpoints are kept, so that the trainer can fall back if one is damaged. Every manifest
is kept, because policies and versions name it. Every replay-buffer chunk that a kept checkpoint
lists is kept. The rest is deleted: in a directory by the trainer, in a bucket by lifecycle rules.
"""

from collections.abc import Iterable, Mapping, Sequence

from rl_lifecycle.storage.layout import TrialId, buffer_key, step_and_attempt_of
from rl_lifecycle.trials.checkpoints import MANIFEST, CheckpointManifest

#: How many checkpoints are kept: the newest one, and two to fall back to.
KEPT = 3


def plan_retention(
    trial: TrialId, chain: Sequence[tuple[str, CheckpointManifest]], kept: int = KEPT
) -> tuple[str, ...]:
    """List the keys that a chain of checkpoints no longer needs, in the order of deletion.

    Chunks come before the files of the checkpoint that lists them. So a process that dies in
    between finds the chunks again.

    :param chain: key and manifest of the newest checkpoint, then of its previous one, and so on.
    :param kept: how many checkpoints are kept, at least 1.
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
    """List the files of checkpoints that were never committed, because the machine vanished.

    :param keys: the keys below the trial's checkpoint prefix.
    :param chain: the committed checkpoints, by the key of their manifest; not empty.
    :param attempt: the attempt that sweeps. Files of later attempts and files beyond the newest
        step are kept.
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
