"""The parser of the command lines of every package except the local AWS."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports a wrong argument in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the problem and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
