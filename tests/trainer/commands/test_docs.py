"""docs/trainer.md agrees with the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    off_policy_quality,
    published_agents,
    sbx_quality,
    steps_per_dollar,
    trainer_against_sbx,
    trainer_costs,
    trainer_quality,
    trainer_speed,
)
from benchmarks.records import FOLDER
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
    assert len(re.findall(r"^\| \d+ \|", PAGE, re.MULTILINE)) == len(kinds) + 1


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


@pytest.mark.parametrize(
    ("module", "end"),
    [
        (published_agents, "published agents"),
        (trainer_speed, "measured"),
        (trainer_quality, "measured quality"),
        (trainer_against_sbx, "measured against SBX"),
        (sbx_quality, "measured SBX quality"),
        (off_policy_quality, "measured off-policy quality"),
        (trainer_costs, "measured costs"),
        (steps_per_dollar, "measured steps per dollar"),
    ],
)
def test_the_tables_are_the_newest_records(module: Any, end: str) -> None:
    """Every figure comes from a committed record."""
    name = module.__name__.rpartition(".")[2]
    shown = PAGE.split(f"<!-- measured: benchmarks.{name} -->\n")[1].split(
        f"\n<!-- end of {end} -->"
    )[0]
    newest = max(FOLDER.glob(f"*-{name.replace('_', '-')}.json"))
    assert shown == module.table(json.loads(newest.read_text()))
