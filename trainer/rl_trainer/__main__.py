"""Entry point of `python -m rl_trainer`; see :mod:`rl_trainer.commands.cli`."""

import sys

from rl_trainer.commands.cli import run


def main() -> None:
    """Run the command line and exit with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
