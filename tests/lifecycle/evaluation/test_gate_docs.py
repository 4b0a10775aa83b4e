"""docs/gate.md agrees with the benchmark records."""

import json
from pathlib import Path

import pytest

from laptop.figures import gate_table

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "gate.md").read_text()
FILE = max((ROOT / "benchmarks" / "records").glob("*-gate-characteristics.json"))
RECORD = json.loads(FILE.read_text())["result"]


def table_rows() -> list[list[str]]:
    """Return the cells of every table row."""
    lines = [line.strip("|") for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("*") for cell in line.split("|")] for line in lines]


def test_the_speed_table_is_the_records() -> None:
    """The table is the one that `python -m laptop figures` writes."""
    assert gate_table.BEGIN + gate_table.render_table() + gate_table.END in PAGE


def test_the_false_promotion_rates_are_the_records() -> None:
    """Mean and maximum over all null cases agree, for the gate and the other tests."""
    rows = {row[0]: row[1:] for row in table_rows()}
    for name, rule in (
        ("the gate", "gate"),
        ("paired t-test, once at 250 pairs", "paired_t_once"),
        ("paired t-test at the same four looks", "paired_t_four_looks"),
    ):
        assert rows[name] == [str(RECORD["nulls"][rule]["mean"]), str(RECORD["nulls"][rule]["max"])]
    assert f"{RECORD['nulls']['gate']['cells']} nulls" in PAGE
    assert RECORD["nulls"]["gate"]["max"] <= 0.05
    assert f"benchmarks/records/{FILE.name}" in PAGE
    assert f"{RECORD['repetitions']} repetitions" in PAGE
    assert (
        f"about {max(cell['gate']['standard_error'] for cell in RECORD['nulls']['cells']):.2f}"
        in PAGE
    )


def test_a_year_at_those_rates_is_worked_out_rightly() -> None:
    """365 nights at the mean rate, and at the worst cell's."""
    mean, worst = (365 * RECORD["nulls"]["gate"][key] for key in ("mean", "max"))
    assert (
        f"would promote falsely {mean:.1f} times a year, and {worst:.0f} times at the worst "
        "cell's rate"
    ) in " ".join(PAGE.split())


def test_the_power_table_is_the_records() -> None:
    """Promoted share and number of pairs agree for each comparison."""
    rows = {row[0]: row[1:] for row in table_rows()}
    shown = [case for case in RECORD["power"] if case["name"] in rows]
    assert len(shown) == 4
    for case in shown:
        assert rows[case["name"]] == [
            str(case[key]) for key in ("in_sd_of_difference", "promoted", "mean_pairs")
        ]
    crashing = next(case for case in RECORD["power"] if case["name"] not in rows)
    before, after = (f"{100 * rate:.1f} %" for rate in crashing["crash_rates"])
    assert (
        f"has a mean {crashing['mean_difference']:.1f} higher and crashes in {after} instead of "
        f"{before} of episodes: promoted "
        f"{crashing['promoted']}"
    ) in " ".join(PAGE.split())


def test_the_year_and_the_selection_are_the_records() -> None:
    """The numbers in the sentences agree with the record."""
    rules = RECORD["year"]["rules"]
    words = " ".join(PAGE.split())
    assert (
        f"the gate promoted {rules['gate']['promotions']['mean']} times a year, never falsely"
        in words
    )
    assert rules["gate"]["false_promotions"]["max"] == 0
    five = rules["mean of five episodes"]
    assert "gained half as much over the year" in words
    assert five["gain"]["mean"] / rules["gate"]["gain"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert (
        f"promoted {five['promotions']['mean']} times, {five['false_promotions']['mean']} of them "
        "falsely"
    ) in words
    assert (
        f"{RECORD['year']['years']} simulated years of {RECORD['year']['nights']} nights" in words
    )
    reused = RECORD["selection"]["on the gate's seeds"]["paired_t_100_pairs"]
    fresh = RECORD["selection"]["on seeds of their own"]["paired_t_100_pairs"]
    assert f"in {100 * reused:g} % of cases; on seeds of their own in {100 * fresh:g} %" in words
    assert all(case["promoted"] == 0 for case in RECORD["regressions"])
    assert f"None of {len(RECORD['regressions'])} true regressions" in words
