"""docs/trainer.md agrees with the code."""

import re
from pathlib import Path

import pytest

from laptop.figures.tables import TABLES, find_tables, newest_table
from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_lifecycle.trials.heartbeats import TrainerCause
from rl_trainer import errors

PAGE = (Path(__file__).parents[3] / "docs" / "trainer.md").read_text()


def test_every_exit_code_is_in_the_page_with_its_cause() -> None:
    """The page lists every exit code for people and launchers."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TrainerError)
    ]
    for kind in kinds:
        cause = f" ({TrainerCause(kind.cause).value})" if kind.cause else ""
        assert f"| {kind.exit_code} | {kind.state.value}{cause} |" in PAGE, kind
    codes = {kind.exit_code for kind in kinds} | {0}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == codes


def test_the_page_names_what_is_exact_and_what_is_refused() -> None:
    """The page names every inexact algorithm and every refused option."""
    exact, refused = (
        PAGE.split("resume exactly")[0],
        PAGE.split("Refused by name")[1].split("Hyper-parameters")[0],
    )
    assert re.findall(r"^\| `\w+` \|.*", exact, re.MULTILINE) == [
        f"| `{name}` | {row.class_path.partition(':')[0]} | {row.family} | "
        f"{', '.join(row.actions)} "
        f"| {row.exporter} |"
        for name, row in sorted(ALGORITHMS.items())
    ]
    for option in ("optimize_memory_usage", "copy_info_dict"):
        assert option in refused


@pytest.mark.parametrize("benchmark", sorted(set(TABLES) - {"triggerer_load"}))
def test_the_tables_are_the_newest_records(benchmark: str) -> None:
    """Every figure comes from a record under version control."""
    assert find_tables(PAGE)[benchmark] == newest_table(benchmark)
