"""Deleting what a trial no longer needs, in a store that is a directory.

In a bucket nothing is deleted here: a training machine may delete nothing, and the bucket's
lifecycle rules let checkpoints and buffers expire.
"""

import contextlib
from collections.abc import Iterable, Iterator

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, checkpoint_prefix
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.trials.checkpoints import MANIFEST, CheckpointManifest
from rl_lifecycle.trials.retention import KEPT, plan_retention, plan_sweep


class DirectoryRetention:
    """Keeps the newest checkpoints of one trial whole, and the manifests of all.

    :param attempt: the machine that deletes; it touches nothing that a later one may be writing.
    """

    def __init__(self, store: DirectoryStore, trial: TrialId, attempt: int) -> None:
        self.store, self.trial, self.attempt = store, trial, attempt

    def prune(self, newest: str) -> None:
        """Delete what the chain up to a checkpoint no longer needs.
        :param newest: the key of its manifest.
        """
        self._delete(plan_retention(self.trial, list(self._chain(newest))))

    def sweep(self, newest: str) -> None:
        """Delete what earlier attempts wrote and never committed.
        :param newest: the key of the newest manifest.
        """
        root = self.store.root
        keys = [
            path.relative_to(root).as_posix()
            for path in (root / checkpoint_prefix(self.trial)).glob("*/*/*")
        ]
        self._delete(plan_sweep(keys, dict(self._chain(newest, whole=False)), self.attempt))

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete keys; a folder that lets nothing be deleted keeps them, and the next write will
        say so.
        """
        with contextlib.suppress(OSError):
            for key in keys:
                self.store.delete(key)

    def _chain(
        self, newest: str, *, whole: bool = True
    ) -> Iterator[tuple[str, CheckpointManifest]]:
        """Walk back from a checkpoint.
        :param whole: stop behind the kept ones at the first whose files are gone: those before it
            were pruned with it.
        """
        key: str | None = newest
        walked = 0
        while key is not None:
            try:
                manifest = CheckpointManifest.from_json(get(self.store, key).data, key)
            except LifecycleError:
                return  # damaged, or deleted by hand: what lies before it is left alone
            if whole and walked >= KEPT and not self._has_files(key, manifest):
                return
            yield key, manifest
            key, walked = manifest.previous, walked + 1

    def _has_files(self, key: str, manifest: CheckpointManifest) -> bool:
        folder = self.store.root / key.removesuffix(MANIFEST)
        return any((folder / name).exists() for name in manifest.files)
