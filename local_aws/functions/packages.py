"""Unpacked zips and layers. Each content is unpacked once and shared by all processes."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import threading
import zipfile
from pathlib import Path


class BadPackageError(Exception):
    """A zip that cannot be unpacked, or that would write outside its folder."""


class Packages:
    """A folder of unpacked zips, each named by the digest of its content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def unpack(self, content: bytes) -> Path:
        """Return the folder with a zip's files. The first call for a content unpacks it.

        :raises BadPackageError: if the content is not a zip, or would write outside its folder.
        """
        digest = hashlib.sha256(content).hexdigest()
        target = self._folder / digest[:32]
        with self._lock:
            lock = self._locks.setdefault(digest, threading.Lock())
        with lock:
            if not target.exists():
                self._unpack(content, target)
        return target

    def _unpack(self, content: bytes, target: Path) -> None:
        """Unpack into a temporary folder, then rename it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member in archive.infolist():
                    _extract(archive, member, fresh)
        except (zipfile.BadZipFile, OSError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise BadPackageError(f"Could not unzip uploaded file: {error}") from None
        fresh.chmod(0o755)
        fresh.replace(target)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member of the zip with its permissions."""
    if not (folder / member.filename).resolve().is_relative_to(folder.resolve()):
        raise BadPackageError(f"the zip reaches outside its folder: {member.filename}")
    path = Path(archive.extract(member, folder))
    mode = member.external_attr >> 16 & 0o777
    if mode and not member.is_dir():
        path.chmod(mode | 0o400)
