"""A crash leaves an object old or new, never half: its data and its sidecar are two files, and the
emulator replaces one after the other.

Before an object's data is replaced, links to both old files are made beside them; when the sidecar
is there, too, the links go. What a crash left in between is undone at the next start: nobody was
told of that write. Names that end with `.tmp` are no object's, and the emulator passes over them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIDECAR = ".meta.json"
VERSIONS = f"{os.sep}.versions{os.sep}"
"""Older versions lie below such a folder; each is written once, and has no sidecar."""
OLD_DATA, OLD_SIDECAR, FRESH = ".old.tmp", ".meta.old.tmp", ".fresh.tmp"
Step = Callable[[], Any]


def surviving(original: Any) -> Any:
    """Wrap the emulator's writing of one file."""
    begun: set[str] = set()

    def write(path: str, data: Any, *, text: bool = False) -> None:
        base = path.removesuffix(SIDECAR)
        if base == path and VERSIONS not in path and base not in begun:
            for step in beginning(base):
                step()
            begun.add(base)
        original(path, data, text=text)
        if base != path and base in begun:
            for step in finishing(base):
                step()
            begun.discard(base)

    return write


def beginning(base: str) -> Iterator[Step]:
    """Yield what is done before an object's data is replaced; the last step makes it count."""
    for left in (OLD_DATA, OLD_SIDECAR, FRESH):
        yield lambda left=left: remove(base + left)  # type: ignore[misc]
    if not Path(base + SIDECAR).exists():
        yield lambda: Path(base + FRESH).touch()
        return
    if Path(base).exists():
        yield lambda: os.link(base, base + OLD_DATA)
    yield lambda: os.link(base + SIDECAR, base + OLD_SIDECAR)


def finishing(base: str) -> Iterator[Step]:
    """Yield what is done when data and sidecar are there; the first step makes it count."""
    for left in (OLD_SIDECAR, FRESH, OLD_DATA):
        yield lambda left=left: remove(base + left)  # type: ignore[misc]


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    Path(path).unlink(missing_ok=True)


def recover(folder: Path) -> int:
    """Undo the writes that a crash cut short; return how many there were."""
    undone = 0
    for name in (str(path) for path in folder.rglob("*.tmp")):
        if name.endswith(OLD_SIDECAR):
            undone += _recover_old(name.removesuffix(OLD_SIDECAR))
        elif name.endswith(FRESH):
            undone += _recover_fresh(name.removesuffix(FRESH))
    for path in folder.rglob(f"*{OLD_DATA}"):
        remove(str(path))  # its sidecar's link was never made, or is gone: that write is whole
    return undone


def _recover_old(base: str) -> int:
    """Put an object's old data back, if its old sidecar is still in its place."""
    is_whole = not Path(base + SIDECAR).samefile(base + OLD_SIDECAR)
    if not is_whole and Path(base + OLD_DATA).exists():
        Path(base + OLD_DATA).replace(base)
    elif not is_whole:
        remove(base)  # there was a delete marker: a sidecar without data
    for step in finishing(base):
        step()
    return int(not is_whole)


def _recover_fresh(base: str) -> int:
    """Remove an object that has no sidecar yet."""
    is_whole = Path(base + SIDECAR).exists()
    if not is_whole:
        remove(base)
    remove(base + FRESH)
    return int(not is_whole)
