"""The address of an instance that its processes can really listen on: one of the loopback.

An instance's private address belongs to no network of this machine. On Linux, the loopback has all
of 127.0.0.0/8, so each instance gets an address of its own there. Elsewhere it has 127.0.0.1 alone.
"""

import ipaddress
import socket
import zlib
from collections.abc import Callable

SHARED = "127.0.0.1"


def can_listen_on(address: str) -> bool:
    """Say whether a process of this machine can listen on an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            return False
    return True


def loopback_address(
    private_address: str, network: str, can_listen: Callable[[str], bool] = can_listen_on
) -> str:
    """Return the loopback address of an instance.

    Its last two numbers are those of the private address, which differ within a VPC of at most /16.
    The second number stands for the network, so that instances of other accounts and VPCs most
    often have other addresses. Two that share an address do no harm, if they listen on free ports.

    :param network: what tells this account and VPC from others on this machine.
    :return: 127.0.0.1 if this machine has no other loopback address.

    >>> loopback_address("10.64.8.5", "vpc-1", lambda _: True)
    '127.219.8.5'
    >>> loopback_address("10.64.8.5", "vpc-1", lambda _: False)
    '127.0.0.1'
    """
    second = 1 + zlib.crc32(network.encode()) % 254
    _, _, third, fourth = ipaddress.IPv4Address(private_address).packed
    address = f"127.{second}.{third}.{fourth}"
    return address if can_listen(address) else SHARED
