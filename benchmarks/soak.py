"""`make soak`: many more rounds of the tests that kill, then every cause of a machine's end.

    python -m benchmarks.soak [ROUNDS]     # 100 by default

The name of a failing test holds its seed, so you can run that test alone, for example seed 57:

    NIGHTSHIFT_KILL_ROUNDS=58 python -m pytest 'tests/trainer/gangs/test_grid.py' -k '57]'

256 rounds have every cell of the grid of processes and machines (tests/trainer/gangs/grid.py); each
such round takes less than a minute. A round that kills a whole Airflow takes minutes, so there is
only one such round for every five others. The whole takes more than an hour.
"""

import os
import subprocess
import sys

from laptop.places import ROOT


def main(arguments: list[str]) -> int:
    """Run every test marked `kills` with that many seeds, then `benchmarks.machines.causes`.

    :return: the first exit code that is not 0, else 0.
    """
    rounds = arguments[0] if arguments else "100"
    if not rounds.isdigit() or int(rounds) < 1:
        print(f"error: rounds must be a positive number, not {rounds}", file=sys.stderr)
        return 2
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "kills",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--timeout",
        "0",
        "tests",
    ]
    killed = subprocess.run(
        tests, cwd=ROOT, check=False, env=dict(os.environ) | {"NIGHTSHIFT_KILL_ROUNDS": rounds}
    ).returncode
    broken = subprocess.run(
        [sys.executable, "-m", "benchmarks.machines.causes"], cwd=ROOT, check=False
    ).returncode
    return killed or broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
