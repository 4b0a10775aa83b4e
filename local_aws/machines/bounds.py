"""Connections beyond this machine, read from the guard's logs and from the kernel's tables."""

from __future__ import annotations

import functools
import ipaddress
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name("sitecustomize_template.py")
TABLES = ("tcp", "tcp6", "udp", "udp6")


def install_guard(folder: Path) -> Path:
    """Write the `sitecustomize` module that guards Python programs; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TEMPLATE, folder / "sitecustomize.py")
    return folder


def read_log(path: Path) -> list[str]:
    """Return the addresses that a guard refused, in order and without repetitions."""
    try:
        return list(dict.fromkeys(path.read_text().split()))
    except OSError:
        return []


@dataclass(frozen=True)
class Connection:
    """A socket that is connected, or is being connected, to an address beyond this machine.

    :param inode: the inode of the socket; 0 if no process has the socket any more.
    """

    address: str
    inode: int


@functools.lru_cache(maxsize=4096)
def endpoint(hexadecimal: str) -> tuple[str, str]:
    """Decode an address of /proc/net/tcp into host and port.

    >>> endpoint("0100007F:0050"), endpoint("08080808:01BB")
    (('127.0.0.1', '80'), ('8.8.8.8', '443'))
    """
    host, _, port = hexadecimal.partition(":")
    words = [int(host[i : i + 8], 16) for i in range(0, len(host), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return str(mapped), str(int(port, 16))


def outside(rows: Iterable[str]) -> Iterator[Connection]:
    """Yield the connections of a table that lead beyond this machine.

    A connection between two ports of the same host does not.

    :param rows: the rows of /proc/net/tcp or a similar file, without the heading.
    """
    for row in rows:
        fields = row.split()
        (here, _), (there, port) = endpoint(fields[1]), endpoint(fields[2])
        address = ipaddress.ip_address(there)
        if not address.is_loopback and not address.is_unspecified and there != here:
            yield Connection(f"{there}:{port}", int(fields[9]))


def outside_connections() -> list[Connection]:
    """Return the kernel's current connections beyond this machine. It works on Linux only."""
    found: list[Connection] = []
    for table in TABLES:
        try:
            found += outside(Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        except OSError:
            continue
    return found


def socket_inodes(pid: int) -> set[int]:
    """Return the inodes of a process's sockets; none if they cannot be read."""
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            kind, _, inode = str(entry.readlink()).partition(":[")
            if kind == "socket":
                found.add(int(inode.rstrip("]")))
    except OSError:
        pass
    return found
