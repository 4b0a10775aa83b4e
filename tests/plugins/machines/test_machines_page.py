"""docs/machines.md agrees with the newest record of waiting trials."""

import json
from pathlib import Path

from benchmarks import triggerer_load
from benchmarks.records import FOLDER

PAGE = (Path(__file__).parents[3] / "docs" / "machines.md").read_text()


def test_the_table_of_waiting_trials_is_the_newest_record() -> None:
    """The table is the newest committed record, and the benchmark checked its promise."""
    shown = PAGE.split("<!-- measured: benchmarks.triggerer_load -->\n")[1].split(
        "\n<!-- end of measured load -->"
    )[0]
    assert shown == triggerer_load.table(
        json.loads(max(FOLDER.glob("*-triggerer-load.json")).read_text())
    )
