"""docs/machines.md shows the newest record of what waiting trials cost."""

import json
from pathlib import Path

from benchmarks import triggerer_load
from benchmarks.records import FOLDER

PAGE = (Path(__file__).parents[3] / "docs" / "machines.md").read_text()


def test_the_table_of_waiting_trials_is_the_newest_record() -> None:
    """Every figure comes from a record under version control, and whether it keeps the promise is
    said by the command itself.
    """
    shown = PAGE.split("<!-- measured: benchmarks.triggerer_load -->\n")[1].split(
        "\n<!-- end of measured load -->"
    )[0]
    assert shown == triggerer_load.table(
        json.loads(max(FOLDER.glob("*-triggerer-load.json")).read_text())
    )
