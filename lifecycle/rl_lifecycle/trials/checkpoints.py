"""Checkpoints: data with checksums, and a head that commits them.

`checkpoints/<t>/<step>/<attempt>/…` is written first, its `manifest.json` last; nothing counts
until `head.json` names the manifest's digest. The head moves by If-Match only. A new attempt takes
it over before it trains, so the commit of an attempt that should be dead (a zombie) fails.
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
    """All that is needed to go on from the end of a segment, or to notice that it is damaged."""

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
    """The commit and the fence of a trial. A fresh trial's head has no manifest."""

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
        """Let a later attempt go on from the same checkpoint."""
        return self.model_copy(update={"attempt": attempt, "nonce": nonce})
