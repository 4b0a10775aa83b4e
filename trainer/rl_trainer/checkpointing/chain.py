"""The chain of a trial's checkpoints: taken over, read from its newest good link, and grown by one
link at a time.
"""

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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and verified.

    :param chunks: the replay buffer's, digest and what lets it be read and verifies it: together
        they may be most of the memory.
    """

    key: str
    manifest: CheckpointManifest
    files: dict[str, bytes]
    chunks: tuple[tuple[str, Callable[[Callable[[Reader], None]], None]], ...] = ()

    def take_files(self) -> dict[str, bytes]:
        """Give the files away: who has understood them needs their bytes no longer, and nobody else
        holds them.
        """
        files = dict(self.files)
        self.files.clear()
        return files


@dataclass(frozen=True)
class Contents:
    """What a segment's end hands over to be committed."""

    step: int
    segment: int
    digest: str
    files: Mapping[str, bytes]
    numeric_class: dict[str, JsonValue]
    buffer_chunks: tuple[str, ...] = ()
    new_chunks: Mapping[str, Pieces] = field(default_factory=dict)


class CheckpointChain:
    """One attempt's hold on a trial: whoever took the head over last may write, and nobody else.

    :param on_problem: told in a sentence when a checkpoint is damaged and an older one is used.
    :param retention: deletes what is no longer needed; None: somebody else does, as a bucket's
        lifecycle rules.
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
    def step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none, or the head was not taken over
        yet.
        """
        return self._head.step if self._head is not None else 0

    def take_over(self) -> Head:
        """Write this attempt into the head, before anything is trained.

        :raises FencedError: if a later attempt has it already.
        """
        while True:
            found = self.store.find(self._key)
            before = Head.from_json(found.data, self._key) if found else None
            if before is not None and before.attempt > self.attempt:
                raise FencedError(
                    f"attempt {before.attempt} has taken {self.trial} over from attempt "
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
                continue  # somebody else moved it in between: look again
            self._head = head
            return head

    def read_newest(self) -> Checkpoint | None:
        """Read the newest checkpoint whose every byte is as recorded; an older one, and a word, if
        it is damaged.

        :return: None if there is none to go on from: the training starts from its beginning.
        """
        head = self._head or self.take_over()
        return self._read_from(head.manifest_key, head.manifest_sha256)

    def read_before(self, damaged: Checkpoint, problem: Exception) -> Checkpoint | None:
        """Read the newest good checkpoint before one whose replay buffer turned out to be damaged.
        :return: None if there is none.
        """
        older = damaged.manifest.previous
        self._tip = None
        self._note(
            f"checkpoint {damaged.key} is damaged ({problem}); going back to "
            f"{older or 'the beginning'}"
        )
        return self._read_from(older, None)

    def _read_from(self, key: str | None, sha256: str | None) -> Checkpoint | None:
        while key is not None:
            manifest: CheckpointManifest | None = None
            try:
                manifest = CheckpointManifest.from_json(get(self.store, key, sha256).data, key)
                found = Checkpoint(
                    key, manifest, self._read_files(key, manifest), self._readers(manifest)
                )
            except LifecycleError as error:
                older = manifest.previous if manifest else self._older_manifest(key)
                self._note(
                    f"checkpoint {key} is damaged ({error}); going back to "
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
        """Write a checkpoint's data, then its manifest, then move the head to it.

        :return: key and SHA-256 of the manifest.
        :raises FencedError: if the head is no longer this attempt's.
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
                f"another attempt has taken {self.trial} over; "
                f"the checkpoint at step {step} does not count"
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

    def _readers(
        self, manifest: CheckpointManifest
    ) -> tuple[tuple[str, Callable[[Callable[[Reader], None]], None]], ...]:
        return tuple(
            (
                sha256,
                functools.partial(
                    read_verified, self.store, buffer_key(self.trial, sha256), sha256
                ),
            )
            for sha256 in manifest.buffer_chunks
        )

    def _older_manifest(self, damaged: str) -> str | None:
        """Find the manifest before a damaged one by looking: the chain is broken there."""
        keys = [
            info.key
            for info in self.store.list(checkpoint_prefix(self.trial))
            if info.key.endswith(f"/{MANIFEST}")
        ]
        return max((key for key in keys if key < damaged), default=None)
