"""Refuses and reports the connections of Python programs beyond this machine.

Every Python in an instance or a function loads this module. On AWS, the network is the air gap:
private subnets without NAT. That is not possible here, so an audit hook stops Python programs. For
other programs, :mod:`local_aws.machines.air_gap` finds the connections and ends the processes.
"""

import errno
import ipaddress
import os
import sys
from typing import Any

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a listener's address is no way out


def _is_local(host: Any) -> bool:
    """Say whether an address or a name is this machine's loopback."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost") or str(host).endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _guard(event: str, arguments: Any) -> None:
    """Refuse a look-up or a connection that leaves the machine.

    :raises OSError: ENETUNREACH.
    """
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif (
        event in ("socket.connect", "socket.sendto")
        and isinstance(arguments[1], tuple)
        and arguments[1]
    ):
        host = arguments[1][0]
    else:
        return
    if _is_local(host) or host in ANYWHERE:
        return
    port = arguments[1][1] if isinstance(arguments[1], tuple) else arguments[1]
    log = os.environ.get("LOCAL_AWS_BOUNDS_LOG")
    if log:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{host}:{port}\n".encode())
        os.close(descriptor)
    raise OSError(
        errno.ENETUNREACH, f"Network is unreachable: {host} (the local AWS has no way out)"
    )


if __name__ in ("sitecustomize", "local_aws_guard"):  # a hook cannot be removed again
    sys.addaudithook(_guard)
