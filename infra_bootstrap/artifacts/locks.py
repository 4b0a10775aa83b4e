"""Lock files: which distribution, in which version, with which digests, for one Python on one
platform.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from infra_bootstrap.errors import BuildFailedError

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"


class Platform(NamedTuple):
    """Where wheels run.

    :param name: how an image's tag and uv call it.
    :param pip: platform tags, best first.
    :param machine: as `uname -m`.
    """

    name: str
    uv: str
    pip: tuple[str, ...]
    machine: str
    sys_platform: str


def _linux(machine: str) -> Platform:
    tags = (
        *(f"manylinux_2_{minor}_{machine}" for minor in (28, 27, 26, 24, 17, 12, 5)),
        f"manylinux2014_{machine}",
    )
    return Platform(f"linux-{machine}", f"{machine}-manylinux_2_28", tags, machine, "linux")


def _macos(machine: str, uv: str) -> Platform:
    tags = tuple(
        f"macosx_{major}_0_{kind}" for major in (14, 13, 12, 11) for kind in (machine, "universal2")
    )
    return Platform(f"macos-{machine}", uv, tags, machine, "darwin")


#: Linux x86_64 is what Lambda and the deep-learning AMI are; the others are laptops that play them.
PLATFORMS = {
    platform.name: platform
    for platform in (
        _linux("x86_64"),
        _linux("aarch64"),
        _macos("arm64", "aarch64-apple-darwin"),
        _macos("x86_64", "x86_64-apple-darwin"),
    )
}
LINUX = PLATFORMS["linux-x86_64"]


class Target(NamedTuple):
    """The interpreter that wheels are for. :param python: such as `3.12`."""

    python: str
    platform: Platform = LINUX


class Requirements(NamedTuple):
    """What a lock says for one target, without markers."""

    text: str

    @property
    def sha256(self) -> str:
        """Names the set of distributions."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_lock(name: str, target: Target, without: frozenset[str] = frozenset()) -> Requirements:
    """Read a lock for a target.

    :param name: `trainer` for locks/trainer.txt.
    :param without: canonical names to leave out.
    :raises BuildFailedError: if there is no such lock.
    """
    path = LOCKS / f"{name}.txt"
    try:
        text = path.read_text()
    except OSError:
        raise BuildFailedError(f"locks/{name}.txt", "is missing: run `make lock`") from None
    kept = [
        entry for entry in _entries(text) if _applies(entry, target) and _name(entry) not in without
    ]
    return Requirements("\n".join(_without_marker(entry) for entry in kept) + "\n")


def _entries(text: str) -> list[str]:
    """Split a lock into entries: a pin and its hashes."""
    entries: list[str] = []
    for line in text.splitlines():
        if line[:1].isalnum():
            entries.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            entries[-1] += "\n" + line
    return entries


def _name(entry: str) -> str:
    return canonicalize_name(entry.split("==")[0].split("[")[0].strip())


def _head(entry: str) -> tuple[str, str]:
    """The pin and its marker, of an entry's first line."""
    pin, _, marker = entry.splitlines()[0].rstrip("\\ ").partition(";")
    return pin.strip(), marker.strip()


def _applies(entry: str, target: Target) -> bool:
    _, marker = _head(entry)
    return not marker or Marker(marker).evaluate(
        {
            "python_version": target.python,
            "python_full_version": f"{target.python}.0",
            "sys_platform": target.platform.sys_platform,
            "platform_machine": target.platform.machine,
            "platform_system": "Linux" if target.platform.sys_platform == "linux" else "Darwin",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
    )


def _without_marker(entry: str) -> str:
    pin, _ = _head(entry)
    lines = entry.splitlines()[1:]
    return "\n".join([f"{pin} \\", *lines]) if lines else pin
