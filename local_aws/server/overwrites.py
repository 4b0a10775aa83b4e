"""Keeps an object whole when the server crashes while the object is being overwritten.

The emulator stores an object's data and its metadata (the sidecar) in two files. It replaces first
the data and then the sidecar. Before that, links to both old files are made beside them. When the
new sidecar exists, the links are removed. If a crash interrupts a write, its caller gets no answer.
So the next start undoes this write. Names that end with `.tmp` belong to no object, and the
emulator ignores them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIDECAR = ".meta.json"
VERSIONS = f"{os.sep}.versions{os.sep}"
"""Older versions lie below such a folder. Each is written once and has no sidecar."""
OLD_DATA, OLD_SIDECAR, FRESH = ".old.tmp", ".meta.old.tmp", ".fresh.tmp"
Step = Callable[[], Any]


def surviving(original: Any) -> Any:
    """Wrap the emulator's function that writes one file."""
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
    """Yield the steps before an object's data is replaced. The last step makes an undo possible."""
    for left in (OLD_DATA, OLD_SIDECAR, FRESH):
        yield lambda left=left: remove(base + left)  # type: ignore[misc]
    if not Path(base + SIDECAR).exists():
        yield lambda: Path(base + FRESH).touch()
        return
    if Path(base).exists():
        yield lambda: os.link(base, base + OLD_DATA)
    yield lambda: os.link(base + SIDECAR, base + OLD_SIDECAR)


def finishing(base: str) -> Iterator[Step]:
    """Yield the steps after data and sidecar are written. The first step makes the write final."""
    for left in (OLD_SIDECAR, FRESH, OLD_DATA):
        yield lambda left=left: remove(base + left)  # type: ignore[misc]


def remove(path: str) -> None:
    """Remove a file if it exists."""
    Path(path).unlink(missing_ok=True)


def recover(folder: Path) -> int:
    """Undo the writes that a crash interrupted, and return their number."""
    undone = 0
    for name in (str(path) for path in folder.rglob("*.tmp")):
        if name.endswith(OLD_SIDECAR):
            undone += _recover_old(name.removesuffix(OLD_SIDECAR))
        elif name.endswith(FRESH):
            undone += _recover_fresh(name.removesuffix(FRESH))
    for path in folder.rglob(f"*{OLD_DATA}"):
        # There is no link to the old sidecar, so the write did not begin, or is complete.
        remove(str(path))
    return undone


def _recover_old(base: str) -> int:
    """Restore an object's old data if its old sidecar was not replaced; return 1 if so, else 0."""
    is_whole = not Path(base + SIDECAR).samefile(base + OLD_SIDECAR)
    if not is_whole and Path(base + OLD_DATA).exists():
        Path(base + OLD_DATA).replace(base)
    elif not is_whole:
        remove(base)  # the old version was a delete marker, which has a sidecar but no data
    for step in finishing(base):
        step()
    return int(not is_whole)


def _recover_fresh(base: str) -> int:
    """Remove an object that has no sidecar yet; return 1 if so, else 0."""
    is_whole = Path(base + SIDECAR).exists()
    if not is_whole:
        remove(base)
    remove(base + FRESH)
    return int(not is_whole)
