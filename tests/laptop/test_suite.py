"""The tests refuse to run with keys to a real account."""

import subprocess
import sys
from pathlib import Path

import pytest

from laptop.errors import RealCredentialsError
from laptop.local_account import AWS_VARIABLES
from laptop.suite import refuse_real_credentials
from tests.conftest import ROOT, SLOWEST


@pytest.mark.parametrize("name", AWS_VARIABLES)
def test_each_way_to_a_real_account_is_refused_by_name(name: str) -> None:
    """The message names the variable and not its value."""
    with pytest.raises(RealCredentialsError) as caught:
        refuse_real_credentials({name: "secret-value"})
    assert name in str(caught.value)
    assert "secret-value" not in str(caught.value)


def test_an_environment_without_keys_is_fine() -> None:
    """An empty variable is no key."""
    with pytest.raises(RealCredentialsError):
        refuse_real_credentials({"AWS_PROFILE": "work", "PATH": "/bin"})
    refuse_real_credentials({"AWS_PROFILE": "", "PATH": "/bin"})


def test_pytest_itself_stops_before_the_first_test(tmp_path: Path) -> None:
    """Plain `pytest` also stops."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/laptop/test_places.py", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "AKIA"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        "AWS_ACCESS_KEY_ID in the environment could reach a real account"
        in done.stdout + done.stderr
    )


def test_a_connection_beyond_the_loopback_is_refused() -> None:
    """A connection to another machine is refused."""
    import socket

    with socket.socket() as probe, pytest.raises(OSError, match="tried to connect"):
        probe.connect(
            ("192.0.2.1", 80)
        )  # TEST-NET-1 of RFC 5737: no machine has this address, so nothing is sent.


def test_the_files_that_begin_first_exist() -> None:
    """A renamed file would lose its place without a word."""
    assert [name for name in SLOWEST if not (ROOT / name).is_file()] == []
