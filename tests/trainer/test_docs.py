"""docs/trainer.md says what the code does."""

import re
from pathlib import Path

import pytest

from rl_lifecycle.heartbeats import TrainerCause
from rl_trainer import errors
from rl_trainer.algorithms import ALGORITHMS

PAGE = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()


def test_every_exit_code_is_in_the_page_with_its_cause() -> None:
    """A person looks a number up, a launcher decides by it."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TrainerError)]
    for kind in kinds:
        cause = f" ({TrainerCause(kind.cause).value})" if kind.cause else ""
        assert f"| {kind.exit_code} | {kind.state.value}{cause} |" in PAGE, kind
    assert len(re.findall(r"^\| \d+ \|", PAGE, re.MULTILINE)) == len(kinds) + 1


def test_the_page_names_what_is_exact_and_what_is_refused() -> None:
    """No algorithm is silently inexact."""
    exact, refused = PAGE.split("resume exactly")[0], PAGE.split("Refused by name")[1].split("Hyper-parameters")[0]
    for algorithm in ALGORITHMS.values():
        assert f"`{algorithm.name}`" in (refused if algorithm.refused else exact)


def test_the_table_is_the_newest_record() -> None:
    """Every figure comes from a record under version control."""
    import json

    from benchmarks.trainer_speed import FOLDER, table

    shown = PAGE.split("<!-- measured: benchmarks.trainer_speed -->\n")[1].split("\n<!-- end of measured -->")[0]
    records = sorted(FOLDER.glob("*-trainer-speed.json"))
    if not records:
        pytest.fail("no record: run python -m benchmarks.trainer_speed")
    assert shown == table(json.loads(records[-1].read_text()))
