"""Read lock files: the distributions, versions and digests for one Python on one platform."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from infra_bootstrap.errors import BuildFailedError

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"


class Platform(NamedTuple):
    """The platform that wheels are for.

    :param name: our name of it, such as `linux-x86_64`, which is also the value of an image's tag.
    :param uv: uv's name of it.
    :param pip: pip's platform tags, best first.
    :param machine: the processor, as `uname -m` prints it.
    :param sys_platform: Python's `sys.platform`.
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


#: Lambda and the deep-learning AMI run Linux x86_64. The others are for the local AWS on laptops.
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
#: The Pythons that locks/trainer.txt has wheels for. `locks/trainer-wheels.json` proves it.
PYTHONS = ("3.11", "3.12", "3.13")


class Target(NamedTuple):
    """The Python and the platform that wheels are for. :param python: such as `3.12`."""

    python: str
    platform: Platform = LINUX


class Requirements(NamedTuple):
    """The entries of a lock that apply to one target, without their markers."""

    text: str

    @property
    def sha256(self) -> str:
        """The digest of the entries, which identifies the set of distributions."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_lock(name: str, target: Target, without: frozenset[str] = frozenset()) -> Requirements:
    """Read a lock for a target.

    :param name: the file's name without folder and suffix: `trainer` for locks/trainer.txt.
    :param without: canonical names of distributions to leave out.
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
    """Split a lock into entries. An entry is a pin with its hashes."""
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
    """Return the pin and the marker in an entry's first line."""
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
