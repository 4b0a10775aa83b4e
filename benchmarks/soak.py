"""`make soak`: the tests that kill, with many more seeds than `make test` has, and every cause of a
machine's end for real.

The rounds that kill a whole Airflow take minutes each, so there is one of them for every five: the
whole takes an hour and more.

python -m benchmarks.soak [ROUNDS]      # 100 by default; a failing seed is in the test's name and can be run alone
"""

import os
import subprocess
import sys

from benchmarks.records import ROOT


def main(arguments: list[str]) -> int:
    """Run every test marked `kills` with so many seeds, then break machines.
    :return: pytest's exit code, or that of the causes.
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
        [sys.executable, "-m", "benchmarks.causes"], cwd=ROOT, check=False
    ).returncode
    return killed or broken


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
