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
    """Run a benchmark of returns that trains nothing. :return: the record."""
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


def test_a_part_that_is_measured_alone_says_so_and_a_whole_run_leaves_nothing_of_before() -> None:
    """A case of three seeds beside one of ten is no table of ten seeds."""
    assert counted(measure(), "seeds") == 10
    mixed = measure("--case", "two", "--seeds", "3")
    assert [case["taken"]["all"]["seeds"] for case in mixed["result"]["cases"].values()] == [10, 3]
    assert counted(mixed, "seeds") == 3
    write_record("made-up", {"seeds": 7, "cases": {"of old": {}}})
    assert list(measure()["result"]["cases"]) == ["one", "two"]


def test_a_record_that_says_it_of_the_whole_says_it_of_each_that_stays() -> None:
    """So were the records written before."""
    write_record("made-up", {"seeds": 2, "cases": {"one": {"returns": {}}, "two": {"returns": {}}}})
    kept = measure("--case", "two", "--seeds", "5")["result"]["cases"]["one"]["taken"]["all"]
    assert kept["seeds"] == 2
    assert {"at", "commit", "load"} <= kept.keys()
    assert todays_cases("made-up", whole=True) == {}


def test_an_arm_that_is_kept_says_from_when_it_is() -> None:
    """Stock SB3's returns need not be trained again because the fast path has changed; as many as
    asked for are taken.
    """
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
    """Ratios differ between runs: whoever reads the record sees all of them."""
    for turn in range(3):
        write_record("made-up", {"rounds": turn, "cases": {}, "earlier": earlier_runs("made-up")})
    assert [run["result"]["rounds"] for run in earlier_runs("made-up")] == [0, 1, 2]


def test_the_load_that_is_shown_is_that_of_every_part() -> None:
    """The last part's alone would hide what the others were measured beside."""
    parts = {
        "memory": taken(rounds=5) | {"load": [0.1, 0, 0]},
        "resume": taken(rounds=1) | {"load": [19.2, 0, 0]},
    }
    record = {"result": {"cases": {"one": {"taken": parts}}}, "machine": {"load": [7, 7, 7]}}
    assert (loads(record), counted(record, "rounds")) == ("0.1 to 19.2", 1)
    assert loads({"result": {"cases": {}}, "machine": {"load": [7, 7, 7]}}) == "7"
