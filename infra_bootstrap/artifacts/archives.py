"""Zip files whose bytes depend only on their content."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

#: The time of every file in an archive: the earliest one that a zip file can hold. The real time
#: would change the digest at each build.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Entry(NamedTuple):
    """One file of an archive."""

    name: str
    data: bytes
    executable: bool = False


def zip_bytes(entries: Iterable[Entry], level: int = 6) -> bytes:
    """Pack entries, sorted by name, with fixed times and permissions.

    The bytes are the same for the same entries, level and version of zlib.

    :param level: deflate's effort, 1 to 9.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for entry in sorted(entries):
            info = zipfile.ZipInfo(entry.name, EPOCH)
            info.create_system = 3  # Unix, on every system that builds it
            info.external_attr = (0o100755 if entry.executable else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, entry.data, compresslevel=level)
    return buffer.getvalue()


def package_entries(package: Path) -> Iterator[Entry]:
    """Read the files of a Python package, without caches and other local files."""
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package.parent).parts
        if (
            path.is_file()
            and "__pycache__" not in parts
            and path.suffix not in (".pyc", ".pyo")
            and path.name != ".DS_Store"
        ):
            yield Entry("/".join(parts), path.read_bytes())
