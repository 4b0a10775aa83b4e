"""What every test stands on: no road to a real account, no traffic beyond the loopback, a state
folder of its own.
"""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from laptop.errors import RealCredentialsError
from laptop.suite import refuse_real_credentials

ROOT = Path(__file__).resolve().parent.parent


def pytest_sessionstart() -> None:
    """Stop before the first test where keys to a real account lie about."""
    try:
        refuse_real_credentials()
    except RealCredentialsError as error:
        pytest.exit(str(error), returncode=2)


# Whatever asks for credentials or an endpoint without saying which gets one that leads nowhere.
os.environ.update(
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_ENDPOINT_URL="http://127.0.0.1:9",
    AWS_DEFAULT_REGION="eu-west-1",
    OPENBLAS_NUM_THREADS="1",
)


class ForeignConnectionError(OSError):
    """A test tried to reach something that is not on this machine."""


_connect = socket.socket.connect


def _connect_to_loopback(self: socket.socket, address: Any) -> None:
    """Connect if the address is on this machine, else refuse: the tests' traffic stays on the
    loopback.
    """
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = address[0]
        if (
            host != "localhost"
            and not ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
        ):
            raise ForeignConnectionError(f"a test tried to connect to {address}")
    _connect(self, address)


socket.socket.connect = _connect_to_loopback  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a state folder of its own, so that none touches the developer's."""
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "nightshift-state"))
