"""`make ui` leaves no process behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.system,
    pytest.mark.local_aws,
    pytest.mark.airflow,
    pytest.mark.timeout(1800),
]


def test_ending_the_command_ends_all_of_airflow(night_state: Path) -> None:
    """A closed terminal or a SIGTERM ends every process."""
    command = [sys.executable, "-m", "laptop", "ui"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(os.environ) | {"NIGHTSHIFT_STATE": str(night_state)},
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        url = next((line for line in process.stderr or () if "Airflow at http" in line), "")
        port = url.strip().rpartition(":")[2]
        assert port.isdigit()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0
    standing = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout
    assert f"port:{port}" not in standing
