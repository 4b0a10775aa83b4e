"""Run the tests, without access to a real account."""

import os
import subprocess
import sys

from laptop.errors import RealCredentialsError
from laptop.local_account import AWS_VARIABLES
from laptop.places import ROOT


def refuse_real_credentials(environment: dict[str, str] | None = None) -> None:
    """Refuse to start tests if the environment holds keys of a real account.

    :raises RealCredentialsError: naming the variables, never their values.
    """
    found = [
        name
        for name in AWS_VARIABLES
        if (environment if environment is not None else os.environ).get(name)
    ]
    if found:
        raise RealCredentialsError(found)


def run_tests(arguments: list[str]) -> int:
    """Run pytest on two to four processes.

    :param arguments: further arguments of pytest.
    :return: pytest's exit code.
    """
    refuse_real_credentials()
    processes = str(max(2, min(4, os.cpu_count() or 2)))
    # The files keep our order, in which the slowest begin first (tests/conftest.py).
    workers = ["-n", processes, "--dist", "loadfile", "--no-loadscope-reorder"]
    environment = dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *workers, *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
    ).returncode
