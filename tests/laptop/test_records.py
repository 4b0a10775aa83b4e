"""Records of benchmarks say how each case was measured, and keep every run of a day."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from laptop.figures import records
from laptop.figures.final_returns import parse, record_cases
from laptop.figures.records import (
    counted,
    earlier_runs,
    loads,
    taken,
    todays_cases,
    write_record,
)

CASES = ("one", "two")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)


def measure(*arguments: str) -> dict[str, Any]:
    """Run a benchmark of returns that trains nothing.

    :return: the record
    """
    options: argparse.Namespace = parse(None, CASES, ("sb3", "numpy"), list(arguments))
    record_cases(
        "made-up",
        options,
        {},
        lambda name: {
            "returns": {
                "sb3": options.kept.get("sb3", [1.0] * options.seeds),
                "numpy": [2.0] * options.seeds,
            }
        },
    )
    found: dict[str, Any] = records._todays("made-up")
    return found


def test_a_part_measured_alone_names_its_rounds() -> None:
    """A case of 3 seeds beside cases of 10 says 3; a full run replaces all cases."""
    assert counted(measure(), "seeds") == 10
    mixed = measure("--case", "two", "--seeds", "3")
    assert [case["taken"]["all"]["seeds"] for case in mixed["result"]["cases"].values()] == [10, 3]
    assert counted(mixed, "seeds") == 3
    write_record("made-up", {"seeds": 7, "cases": {"of old": {}}})
    assert list(measure()["result"]["cases"]) == ["one", "two"]


def test_a_record_with_one_date_gives_it_to_each_kept_case() -> None:
    """Older records have one date and number of rounds for the whole."""
    write_record("made-up", {"seeds": 2, "cases": {"one": {"returns": {}}, "two": {"returns": {}}}})
    kept = measure("--case", "two", "--seeds", "5")["result"]["cases"]["one"]["taken"]["all"]
    assert kept["seeds"] == 2
    assert {"at", "commit", "load"} <= kept.keys()
    assert todays_cases("made-up", whole=True) == {}


def test_a_kept_case_has_its_date() -> None:
    """SB3's returns are kept when only our fast path changed, as many as requested."""
    write_record(
        "made-up",
        {"seeds": 4, "cases": {name: {"returns": {"sb3": [7.0, 8.0, 9.0, 9.5]}} for name in CASES}},
    )
    first = records._todays("made-up")["machine"]["commit"]
    case = measure("--keep", "sb3", "--seeds", "3")["result"]["cases"]["one"]
    assert case["returns"] == {"sb3": [7.0, 8.0, 9.0], "numpy": [2.0] * 3}
    assert (
        case["taken"]["all"]["seeds"],
        case["taken"]["sb3"]["seeds"],
        case["taken"]["sb3"]["commit"],
    ) == (3, 4, first)
    with pytest.raises(SystemExit, match="fewer than 5 returns of one by sb3"):
        measure("--keep", "sb3", "--seeds", "5")
    again = measure("--keep", "sb3", "--seeds", "3")["result"]["cases"]["one"]
    assert again["taken"]["sb3"] == case["taken"]["sb3"]


def test_a_second_run_of_a_day_keeps_the_first() -> None:
    """A reader sees all runs of a day, because ratios differ between runs."""
    for turn in range(3):
        write_record("made-up", {"rounds": turn, "cases": {}, "earlier": earlier_runs("made-up")})
    assert [run["result"]["rounds"] for run in earlier_runs("made-up")] == [0, 1, 2]


def test_the_shown_load_covers_every_part() -> None:
    """The last part's load would hide that of the others."""
    parts = {
        "memory": taken(rounds=5) | {"load": [0.1, 0, 0]},
        "resume": taken(rounds=1) | {"load": [19.2, 0, 0]},
    }
    record = {"result": {"cases": {"one": {"taken": parts}}}, "machine": {"load": [7, 7, 7]}}
    assert (loads(record), counted(record, "rounds")) == ("0.1 to 19.2", 1)
    assert loads({"result": {"cases": {}}, "machine": {"load": [7, 7, 7]}}) == "7"
