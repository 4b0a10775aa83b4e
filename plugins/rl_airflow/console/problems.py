"""What could not be read, as one sentence in place of the part of a page."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rl_airflow.console.answers import NoAnswerYetError
from rl_airflow.errors import RlAirflowError, first_line
from rl_lifecycle.aws_errors import error_code
from rl_lifecycle.errors import (
    LifecycleError,
    LostPointerError,
    MissingObjectError,
    NewerRecordError,
    StoreRefusedError,
    StoreUnavailableError,
)

log = logging.getLogger(__name__)
T = TypeVar("T")
Absent = TypeVar("Absent")

#: The characters of a sentence. It may quote a file of any length.
LONGEST = 500


def describe_problem(error: Exception) -> str:
    """Say in one sentence what happened, and what to do."""
    return _describe(error)[:LONGEST]


def _describe(error: Exception) -> str:
    said = first_line(error)
    if isinstance(error, StoreRefusedError):
        return (
            f"The bucket may not be read ({said}): check that the environment is deployed (DAG "
            "bootstrap_infrastructure), and that Airflow's API server may become its viewer."
        )
    if isinstance(error, StoreUnavailableError):
        return f"The bucket does not answer ({said}). The page asks again by itself."
    if isinstance(error, MissingObjectError):
        return f"{said}: restore it from the bucket's object versions."
    if isinstance(error, LostPointerError | NewerRecordError | RlAirflowError | NoAnswerYetError):
        return f"{said}."
    if isinstance(error, LifecycleError):
        return f"{said}; if it was edited, restore it from the bucket's object versions."
    if error_code(error) or type(error).__module__.startswith("botocore"):
        return (
            f"AWS did not answer ({said}): check the credentials and the region of Airflow's API "
            "server."
        )
    log.exception("a part of the console's page failed", exc_info=error)
    return (
        f"The console failed at this part ({type(error).__name__}); the log of Airflow's API "
        "server has the details."
    )


class Problems:
    """The problems of one page or row, each once."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Add a sentence; an empty one says that there is no problem."""
        if sentence:
            self._sentences[sentence] = None

    def __str__(self) -> str:
        return " ".join(self._sentences)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note any error of the block, and go on after it."""
        try:
            yield
        except Exception as error:  # one part that cannot be read must not hide the others
            self.add(describe_problem(error))

    def read(self, part: Callable[[], T], absent: Absent) -> T | Absent:
        """Read a part. :return: `absent` if it cannot be read; then the problem is noted."""
        with self.noted():
            return part()
        return absent
