"""The entry point of `python -m infra_bootstrap`: see :mod:`infra_bootstrap.commands.cli`."""

import sys

from infra_bootstrap.commands.cli import run


def main() -> None:
    """Run the command line, and exit with its exit status."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
