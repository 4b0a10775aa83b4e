"""Checkpoints: files with checksums, and a head that commits them.

The files `checkpoints/<t>/<step>/<attempt>/…` are written first and their `manifest.json` last. A
checkpoint counts only when `head.json` holds the digest of its manifest. The head changes by
If-Match only. A new attempt writes itself into the head before it trains, so a commit of an earlier
attempt that still works fails.
"""

from typing import Literal, Self

from pydantic import Field, JsonValue

from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import MANIFEST_FILE

MANIFEST = MANIFEST_FILE


class StoredFile(Record):
    """One file of a checkpoint."""

    sha256: str
    n_bytes: int


class CheckpointManifest(Record):
    """Everything that is needed to resume after a segment, or to notice damage."""

    schema_version: Literal[1] = 1
    step: int
    segment: int = Field(
        description="index of the next segment to train; the chain's length when training is done"
    )
    attempt: int
    spec_sha256: str
    trial_seed: int
    numeric_class: dict[str, JsonValue] = Field(
        description="CPU or GPU, instruction set, threads, library versions"
    )
    digest: str = Field(
        description="SHA-256 over the policy's parameters and the normalisation statistics"
    )
    files: dict[str, StoredFile]
    buffer_chunks: tuple[str, ...] = Field(
        (), description="SHA-256 of each replay-buffer chunk, oldest first"
    )
    previous: str | None = Field(
        None, description="manifest key of the checkpoint before, for the fall-back"
    )


class Head(Record):
    """The newest committed checkpoint of a trial, and the attempt that may commit the next one.

    The head of a new trial has no manifest.
    """

    schema_version: Literal[1] = 1
    attempt: int
    step: int
    manifest_key: str | None
    manifest_sha256: str | None
    nonce: str = Field(
        description="makes the bytes of every write unique, so a lost answer can be told from a "
        "lost race"
    )

    def taken_over(self, attempt: int, nonce: str) -> Self:
        """Let a later attempt continue from the same checkpoint."""
        return self.model_copy(update={"attempt": attempt, "nonce": nonce})
