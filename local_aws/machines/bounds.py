"""What tried to leave the machine: read from the audit hook's logs, and from the kernel's tables of connections."""

from __future__ import annotations

import ipaddress
import shutil
import struct
from pathlib import Path

from local_aws.processes import MARK, find_marked

TEMPLATE = Path(__file__).with_name("sitecustomize_template.py")
TABLES = ("tcp", "tcp6", "udp", "udp6")


def install_guard(folder: Path) -> Path:
    """Write the ``sitecustomize`` that stops Python programs; return the folder for PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TEMPLATE, folder / "sitecustomize.py")
    return folder


def read_log(path: Path) -> list[str]:
    """Return the addresses that a guard stopped, each once, in order."""
    try:
        return list(dict.fromkeys(path.read_text().split()))
    except OSError:
        return []


def remote_address(hexadecimal: str) -> str:
    """Decode an address of /proc/net/tcp.

    >>> remote_address("0100007F:0050"), remote_address("08080808:01BB")
    ('127.0.0.1:80', '8.8.8.8:443')
    """
    host, _, port = hexadecimal.partition(":")
    words = [int(host[i : i + 8], 16) for i in range(0, len(host), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None) or address
    return f"{mapped}:{int(port, 16)}"


def outside_sockets() -> dict[str, str]:
    """Map inodes of sockets that are connected beyond loopback to the address they reach."""
    found = {}
    for table in TABLES:
        try:
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            address = remote_address(fields[2])
            ip = ipaddress.ip_address(address.rpartition(":")[0])
            if not ip.is_loopback and not ip.is_unspecified:
                found[fields[9]] = address
    return found


def find_connections(twin: str) -> dict[int, set[str]]:
    """Map each process of the twin that is connected beyond loopback to the addresses it reaches. Linux only."""
    sockets = outside_sockets()
    found: dict[int, set[str]] = {}
    for pid in find_marked(MARK, twin) if sockets else ():
        for entry in _descriptors(pid):
            inode = entry.removeprefix("socket:[").rstrip("]")
            if inode in sockets:
                found.setdefault(pid, set()).add(sockets[inode])
    return found


def _descriptors(pid: int) -> list[str]:
    """Return where a process's descriptors point."""
    out = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            out.append(str(entry.readlink()))
    except OSError:
        pass
    return out
