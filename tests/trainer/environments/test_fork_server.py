"""The process from which workers are forked starts wherever temporary files lie."""

import os
import subprocess
import sys
from pathlib import Path

from rl_trainer.environments.fork_server import LONGEST_SOCKET_FOLDER

STARTS_ONE = """
from multiprocessing import util
from rl_trainer.environments.fork_server import start_fork_server
start_fork_server()
print(util.get_temp_dir())
"""


def socket_folder(temporary: Path) -> Path:
    """Start a fork server in a process with this temporary folder.

    :return: the folder of its socket.
    """
    run = subprocess.run(
        [sys.executable, "-c", STARTS_ONE],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return Path(run.stdout.strip())


def test_a_temporary_folder_with_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    """A Unix socket's address is short, and a folder of a machine of the local AWS is not."""
    long = tmp_path / ("x" * LONGEST_SOCKET_FOLDER)
    long.mkdir()
    used = socket_folder(long)
    assert used.parent == Path("/tmp")
    assert not used.exists(), "it is removed with the process"


def test_the_longest_path_that_is_used_is_short_enough(tmp_path: Path) -> None:
    """A folder at the limit works, so the limit is not too high."""
    at_limit = Path("/tmp") / tmp_path.name[:8]
    at_limit = at_limit.with_name(at_limit.name.ljust(LONGEST_SOCKET_FOLDER - len("/tmp/"), "x"))
    at_limit.mkdir()
    try:
        assert len(os.fsencode(at_limit)) == LONGEST_SOCKET_FOLDER
        assert socket_folder(at_limit).parent == at_limit
    finally:
        at_limit.rmdir()
