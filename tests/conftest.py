"""No test can reach a real account or another machine, and each has its own state folder."""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from laptop.errors import RealCredentialsError
from laptop.suite import refuse_real_credentials

ROOT = Path(__file__).resolve().parent.parent


#: The slowest files, which take minutes each. They begin first, so that none runs alone at the end.
SLOWEST = (
    "tests/system/test_ui.py",
    "tests/system/test_nights.py",
    "tests/system/test_files_in_flight.py",
    "tests/system/test_team_stack.py",
    "tests/trainer/gangs/test_machines.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the slowest files to the beginning. The order of the others stays."""

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return SLOWEST.index(file) if file in SLOWEST else len(SLOWEST)

    items.sort(key=place)


def pytest_sessionstart() -> None:
    """Stop before the first test if the environment has keys to a real account."""
    try:
        refuse_real_credentials()
    except RealCredentialsError as error:
        pytest.exit(str(error), returncode=2)


# Clients without explicit credentials or endpoint get values that lead nowhere.
os.environ.update(
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_ENDPOINT_URL="http://127.0.0.1:9",
    AWS_DEFAULT_REGION="eu-west-1",
    OPENBLAS_NUM_THREADS="1",
    LOCAL_AWS_CHECK_ANSWERS="1",  # each local AWS compares its answers with botocore's models
)


class ForeignConnectionError(OSError):
    """Raised when a test tries to reach another machine."""


_connect = socket.socket.connect


def _connect_to_loopback(self: socket.socket, address: Any) -> None:
    """Connect to an address on this machine and refuse any other."""
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
    """Give each test its own state folder, so that no test changes the developer's."""
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "nightshift-state"))
