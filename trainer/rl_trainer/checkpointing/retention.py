"""Delete files that a trial no longer needs, in a store that is a directory.

The trainer deletes nothing in a bucket. A training machine has no permission to delete, and the
bucket's lifecycle rules let checkpoints and buffers expire.
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
    """Keeps the newest checkpoints of one trial whole, and the manifests of all its checkpoints.

    :param attempt: the attempt that deletes. Files that a later attempt may be writing stay.
    """

    def __init__(self, store: DirectoryStore, trial: TrialId, attempt: int) -> None:
        self.store, self.trial, self.attempt = store, trial, attempt

    def prune(self, newest: str) -> None:
        """Delete what the chain up to a checkpoint no longer needs.

        :param newest: the key of the checkpoint's manifest.
        """
        self._delete(plan_retention(self.trial, list(self._chain(newest))))

    def sweep(self, newest: str) -> None:
        """Delete files that earlier attempts wrote and never committed.

        :param newest: the key of the newest manifest.
        """
        root = self.store.root
        keys = [
            path.relative_to(root).as_posix()
            for path in (root / checkpoint_prefix(self.trial)).glob("*/*/*")
        ]
        self._delete(plan_sweep(keys, dict(self._chain(newest, whole=False)), self.attempt))

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete keys. Stop if the directory refuses it: the next write reports the problem."""
        with contextlib.suppress(OSError):
            for key in keys:
                self.store.delete(key)

    def _chain(
        self, newest: str, *, whole: bool = True
    ) -> Iterator[tuple[str, CheckpointManifest]]:
        """Walk back from a checkpoint.

        :param whole: after the checkpoints that are kept, stop at the first one without files. The
            files of those before it were deleted together with its files.
        """
        key: str | None = newest
        walked = 0
        while key is not None:
            try:
                manifest = CheckpointManifest.from_json(get(self.store, key).data, key)
            except LifecycleError:
                return  # the manifest is damaged or deleted, so all older files stay
            if whole and walked >= KEPT and not self._has_files(key, manifest):
                return
            yield key, manifest
            key, walked = manifest.previous, walked + 1

    def _has_files(self, key: str, manifest: CheckpointManifest) -> bool:
        folder = self.store.root / key.removesuffix(MANIFEST)
        return any((folder / name).exists() for name in manifest.files)
