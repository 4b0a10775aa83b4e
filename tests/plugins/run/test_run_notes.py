"""A task keeps the run's note with the cost at its end, and a person's own note stays."""

from types import SimpleNamespace
from typing import Any

import pytest

from rl_airflow.run.notes import MOST_CHARACTERS, NOTE_KEY, PERSONS, keep_note, put_note


class FakeRun:
    """A run with a note, as Airflow's database has it."""

    def __init__(self, note: str | None = None, user_id: str | None = None) -> None:
        self.dag_run_note: Any = note and SimpleNamespace(content=note, user_id=user_id)
        self.note = note


def put(run: FakeRun, text: str) -> str:
    """Give the run its note. :return: the note"""
    put_note(run, text)  # type: ignore[arg-type]
    assert run.note is not None
    return run.note


def test_a_long_note_keeps_its_end() -> None:
    """The cost is not cut, and the note has the length that Airflow allows."""
    pushed: dict[str, str] = {}
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))}
    keep_note(context, "PROMOTE: " + "x" * 2000, "\ncost 0.1000 USD of 2 USD allowed")
    assert len(pushed[NOTE_KEY]) == MOST_CHARACTERS
    assert pushed[NOTE_KEY].endswith("x\ncost 0.1000 USD of 2 USD allowed")


def test_the_runs_own_older_note_is_replaced() -> None:
    """It was written by Airflow, not by a person."""
    assert put(FakeRun("KEEP", user_id=None), "PROMOTE") == "PROMOTE"


@pytest.mark.parametrize("before", ["larger steps", f"KEEP{PERSONS}larger steps"])
def test_a_persons_note_stays_below_the_runs(before: str) -> None:
    """It does so once, also if the run ends again after a clear."""
    note = put(FakeRun(before, user_id="ada"), "PROMOTE")
    assert note == f"PROMOTE{PERSONS}larger steps"
