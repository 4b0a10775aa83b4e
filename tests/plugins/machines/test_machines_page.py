"""docs/machines.md agrees with the newest record of waiting trials."""

from pathlib import Path

from laptop.figures.tables import find_tables, newest_table

PAGE = (Path(__file__).parents[3] / "docs" / "machines.md").read_text()


def test_the_table_of_waiting_trials_is_the_newest_record() -> None:
    """Every figure comes from a record under version control. The benchmark itself checks the
    figures against the promise.
    """
    assert find_tables(PAGE)["triggerer_load"] == newest_table("triggerer_load")
