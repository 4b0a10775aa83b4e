"""A file that will be uploaded to the bucket."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArtifactFile:
    """A file with its key in the bucket. Its bytes are in memory or on disk.

    :param key: `artifacts/<sha256>/<name>`.
    :param path: the file on disk. If it is None, `data` has the bytes.
    """

    key: str
    sha256: str
    path: Path | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Return the bytes."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ValueError(f"{self.key} has neither bytes nor a path")
        return self.path.read_bytes()
