"""An overwritten object is old or new after a crash at any step."""

from pathlib import Path
from typing import Any

import pytest

from local_aws.server import overwrites

MOST_STEPS = 12


def replace(path: Path, text: str) -> None:
    """Replace a file as the emulator does."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(text)
    fresh.replace(path)


def state(base: Path) -> tuple[str | None, str | None]:
    """Return the contents of an object's two files."""
    found = [base, base.with_name(base.name + ".meta.json")]
    return tuple(path.read_text() if path.exists() else None for path in found)  # type: ignore[return-value]


@pytest.mark.parametrize("before", [(None, None), ("old", "old sidecar"), (None, "delete marker")])
@pytest.mark.parametrize("crash_after", range(MOST_STEPS))
def test_wherever_a_crash_strikes_both_files_belong_together(
    tmp_path: Path, before: tuple[str | None, str | None], crash_after: int
) -> None:
    """A crash at any step recovers to the old state, or to the new one with its new sidecar."""
    base = tmp_path / "bucket" / "key"
    base.parent.mkdir()
    sidecar = base.with_name("key.meta.json")
    for path, text in zip((base, sidecar), before, strict=True):
        if text is not None:
            path.write_text(text)
    writes: list[Any] = [lambda: replace(base, "new"), lambda: replace(sidecar, "new sidecar")]
    steps = [*overwrites.beginning(str(base)), *writes, *overwrites.finishing(str(base))]
    assert len(steps) <= MOST_STEPS
    for step in steps[:crash_after]:
        step()
    is_written = crash_after > steps.index(writes[1])
    overwrites.recover(tmp_path)
    assert state(base) == (("new", "new sidecar") if is_written else before)
    left = [
        path.name
        for path in base.parent.iterdir()
        if path.name.endswith(".tmp") and path.name != "key.tmp"
    ]
    assert left == []


def test_old_versions_are_written_once_and_leave_no_marks(tmp_path: Path) -> None:
    """The folder of old versions has no sidecars."""
    path = tmp_path / ".versions" / "key"
    path.parent.mkdir()
    write = overwrites.surviving(lambda name, data, text=False: Path(name).write_text(data))
    write(str(path), "x")
    write(str(tmp_path / "other"), "x")
    write(str(tmp_path / "other.meta.json"), "{}")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "key",
        "other",
        "other.meta.json",
    ]
