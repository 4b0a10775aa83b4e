"""The chain of a trial's checkpoints: take over the trial, read its newest good one, add to it."""

import functools
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from rl_lifecycle.errors import LifecycleError, PreconditionFailedError
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import (
    TrialId,
    buffer_key,
    checkpoint_key,
    checkpoint_prefix,
    head_key,
)
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.storage.pieces import Pieces, Reader
from rl_lifecycle.storage.streams import put_pieces, read_verified
from rl_lifecycle.trials.checkpoints import MANIFEST, CheckpointManifest, Head, StoredFile
from rl_trainer.checkpointing.retention import DirectoryRetention
from rl_trainer.errors import FencedError

#: Reads a stored chunk through the given function, and verifies the bytes.
ReadChunk = Callable[[Callable[[Reader], None]], None]
#: The digest of a chunk, and the function that reads it.
StoredChunk = tuple[str, ReadChunk]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were read and verified.

    :param chunks: for each chunk of the replay buffer, its digest and a function that reads and
        verifies it. They are not read yet, because together they may fill most of the memory.
    """

    key: str
    manifest: CheckpointManifest
    files: dict[str, bytes]
    chunks: tuple[StoredChunk, ...] = ()

    def take_files(self) -> dict[str, bytes]:
        """Return the files and forget them, so that the caller can free their memory."""
        files = dict(self.files)
        self.files.clear()
        return files


@dataclass(frozen=True)
class Contents:
    """The results of a segment that a commit stores."""

    step: int
    segment: int
    digest: str
    files: Mapping[str, bytes]
    numeric_class: dict[str, JsonValue]
    buffer_chunks: tuple[str, ...] = ()
    new_chunks: Mapping[str, Pieces] = field(default_factory=dict)


class CheckpointChain:
    """Reads and writes the checkpoints of one trial for one attempt.

    Only the attempt that took over the head last may write.

    :param on_problem: called with a sentence when a checkpoint is damaged and an older one is used.
    :param retention: deletes files that are no longer needed. None means that the trainer deletes
        nothing, because a bucket has lifecycle rules.
    """

    def __init__(
        self,
        store: ObjectStore,
        trial: TrialId,
        attempt: int,
        spec_sha256: str,
        trial_seed: int,
        on_problem: Callable[[str], None] | None = None,
        retention: DirectoryRetention | None = None,
    ) -> None:
        self.store, self.trial, self.attempt, self.retention = store, trial, attempt, retention
        self.spec_sha256, self.trial_seed, self._on_problem = spec_sha256, trial_seed, on_problem
        self._head: Head | None = None
        self._etag = ""
        self._tip: str | None = None

    @property
    def _key(self) -> str:
        return head_key(self.trial)

    @property
    def newest(self) -> tuple[str, str]:
        """The key and the SHA-256 of the newest committed manifest; empty without one."""
        head = self._head
        return (
            ((head.manifest_key or ""), (head.manifest_sha256 or ""))
            if head is not None
            else ("", "")
        )

    @property
    def step(self) -> int:
        """The step of the newest checkpoint. It is 0 without one, or before the takeover."""
        return self._head.step if self._head is not None else 0

    def take_over(self) -> Head:
        """Write this attempt into the head. Call this before any training.

        :raises FencedError: if a later attempt has already taken over the head.
        """
        while True:
            found = self.store.find(self._key)
            before = Head.from_json(found.data, self._key) if found else None
            if before is not None and before.attempt > self.attempt:
                raise FencedError(
                    f"attempt {before.attempt} has taken over {self.trial} from attempt "
                    f"{self.attempt}"
                )
            head = (
                before.taken_over(self.attempt, secrets.token_hex(16))
                if before
                else Head(
                    attempt=self.attempt,
                    step=0,
                    manifest_key=None,
                    manifest_sha256=None,
                    nonce=secrets.token_hex(16),
                )
            )
            try:
                self._etag = self.store.put(
                    self._key,
                    head.to_json(),
                    if_match=found.etag if found else None,
                    if_none_match=found is None,
                )
            except PreconditionFailedError:
                continue  # another attempt wrote the head in between: read it again
            self._head = head
            return head

    def read_newest(self) -> Checkpoint | None:
        """Read the newest good checkpoint. A damaged one is reported, and the one before is tried.

        A checkpoint is good if every byte has its recorded digest.

        :return: None if there is no good checkpoint. The training then starts from its beginning.
        """
        head = self._head or self.take_over()
        return self._read_from(head.manifest_key, head.manifest_sha256)

    def read_before(self, damaged: Checkpoint, problem: Exception) -> Checkpoint | None:
        """Read the newest good checkpoint before a checkpoint with a damaged replay buffer.

        :return: None if there is none.
        """
        older = damaged.manifest.previous
        self._tip = None
        self._note(
            f"checkpoint {damaged.key} is damaged ({problem}); training continues from "
            f"{older or 'the beginning'}"
        )
        return self._read_from(older, None)

    def _read_from(self, key: str | None, sha256: str | None) -> Checkpoint | None:
        while key is not None:
            manifest: CheckpointManifest | None = None
            try:
                manifest = CheckpointManifest.from_json(get(self.store, key, sha256).data, key)
                files = self._read_files(key, manifest)
                chunks = tuple(map(self._stored_chunk, manifest.buffer_chunks))
                found = Checkpoint(key, manifest, files, chunks)
            except LifecycleError as error:
                older = manifest.previous if manifest else self._older_manifest(key)
                self._note(
                    f"checkpoint {key} is damaged ({error}); training continues from "
                    f"{older or 'the beginning'}"
                )
                key, sha256 = older, None
            else:
                self._tip = key
                if self.retention is not None:
                    self.retention.sweep(key)
                return found
        return None

    def commit(self, contents: Contents) -> tuple[str, str]:
        """Write a checkpoint's files, then its manifest, then move the head to it.

        :return: key and SHA-256 of the manifest.
        :raises FencedError: if another attempt has taken over the head.
        """
        for sha256, pieces in contents.new_chunks.items():
            put_pieces(self.store, buffer_key(self.trial, sha256), pieces, sha256)
        for name, data in contents.files.items():
            self.store.put(checkpoint_key(self.trial, contents.step, self.attempt, name), data)

        data = self._manifest(contents).to_json()
        key = checkpoint_key(self.trial, contents.step, self.attempt, MANIFEST)
        self.store.put(key, data)
        self._move_head(contents.step, key, sha256_hex(data))

        self._tip = key
        if self.retention is not None:
            self.retention.prune(key)
        return key, sha256_hex(data)

    def _manifest(self, contents: Contents) -> CheckpointManifest:
        return CheckpointManifest(
            step=contents.step,
            segment=contents.segment,
            attempt=self.attempt,
            spec_sha256=self.spec_sha256,
            trial_seed=self.trial_seed,
            numeric_class=contents.numeric_class,
            digest=contents.digest,
            files={
                name: StoredFile(sha256=hashlib.sha256(data).hexdigest(), n_bytes=len(data))
                for name, data in contents.files.items()
            },
            buffer_chunks=contents.buffer_chunks,
            previous=self._tip,
        )

    def _move_head(self, step: int, key: str, sha256: str) -> None:
        head = Head(
            attempt=self.attempt,
            step=step,
            manifest_key=key,
            manifest_sha256=sha256,
            nonce=secrets.token_hex(16),
        )
        try:
            self._etag = self.store.put(self._key, head.to_json(), if_match=self._etag)
        except PreconditionFailedError as error:
            raise FencedError(
                f"another attempt has taken over {self.trial}; the checkpoint at step {step} does "
                "not count"
            ) from error
        self._head = head

    def _note(self, problem: str) -> None:
        if self._on_problem is not None:
            self._on_problem(problem)

    def _read_files(self, manifest_key: str, manifest: CheckpointManifest) -> dict[str, bytes]:
        folder = manifest_key.removesuffix(MANIFEST)
        return {
            name: get(self.store, folder + name, stored.sha256).data
            for name, stored in manifest.files.items()
        }

    def _stored_chunk(self, sha256: str) -> StoredChunk:
        key = buffer_key(self.trial, sha256)
        return sha256, functools.partial(read_verified, self.store, key, sha256)

    def _older_manifest(self, damaged: str) -> str | None:
        """Find the manifest before one that cannot be read, by listing the trial's manifests."""
        keys = [
            info.key
            for info in self.store.list(checkpoint_prefix(self.trial))
            if info.key.endswith(f"/{MANIFEST}")
        ]
        return max((key for key in keys if key < damaged), default=None)
