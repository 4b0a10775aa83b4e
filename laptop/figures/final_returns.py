"""Benchmarks of final returns: their options, their records and their tables."""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from laptop.figures.records import counted, newest_cases, taken, todays_cases, write_record

#: Episodes that each final policy plays.
EPISODES = 20


def parse(
    description: str | None,
    cases: Collection[str],
    arms: tuple[str, ...],
    arguments: list[str],
) -> argparse.Namespace:
    """Read the options of a benchmark of final returns."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each arm (default 10)")
    parser.add_argument(
        "--case",
        nargs="*",
        choices=sorted(cases),
        default=list(cases),
        help="train only these, and keep the other cases of today's record (default: train all)",
    )
    parser.add_argument(
        "--keep",
        nargs="*",
        choices=sorted(arms),
        default=[],
        help="do not train these arms: use their returns from the newest record; correct only if "
        "nothing that affects them has changed (default: none)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="trainings at the same time, one thread each (default: the number of cores)",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and train nothing",
    )
    options = parser.parse_args(arguments)
    options.whole = set(options.case) == set(cases)
    return options


def record_cases(
    name: str,
    options: argparse.Namespace,
    facts: dict[str, Any],
    measured: Callable[[str], dict[str, Any]],
) -> None:
    """Measure one case after another, and write the record after each.

    If only some cases are measured, the others of today's record stay.
    """
    known = newest_cases(name) if options.keep else {}
    measured_now: dict[str, dict[str, Any]] = {}
    for case in options.case:
        said = {"all": taken(seeds=options.seeds)}
        if lacking := [
            arm
            for arm in options.keep
            if len(known.get(case, {}).get("returns", {}).get(arm, ())) < options.seeds
        ]:
            sys.exit(
                f"error: the newest record has fewer than {options.seeds} returns of {case} by "
                f"{' and '.join(lacking)}: measure them again, without --keep"
            )
        options.kept = {arm: known[case]["returns"][arm][: options.seeds] for arm in options.keep}
        said |= {
            arm: known[case]["taken"].get(arm, known[case]["taken"]["all"]) for arm in options.keep
        }
        measured_now[case] = measured(case) | {"taken": said}
        cases = todays_cases(name, whole=options.whole) | measured_now
        path = write_record(name, {"episodes": EPISODES, **facts, "cases": cases})
        sys.stderr.write(f"{path}\n")
        sys.stderr.flush()


def trainer_quality(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = [
        "| PPO | steps | stock SB3 | NumPy | p | NumPy, 10 segments | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in record["result"]["cases"].items():
        shown = {
            arm: f"{statistics.mean(values):.1f} ({min(values):.0f}…{max(values):.0f})"
            for arm, values in case["returns"].items()
        }
        lines.append(
            f"| {name} | {case['steps']} | {shown['sb3']} | {shown['numpy']} | "
            f"{case['p_numpy_against_sb3']} "
            f"| {shown['segments']} | {case['p_segments_against_numpy']} |"
        )
    facts = record["result"]
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {counted(record, 'seeds')} seeds a side, mean of "
            f"{facts['episodes']} "
            "episodes of the final policy (lowest…highest seed); two-sided Mann–Whitney tests, "
            "each against the column "
            f"before.{_kept(record)}",
        ]
    )


def off_policy_quality(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    return _table_of_two(record, {"sb3": "stock SB3", "numpy": "NumPy"}, "p_numpy_against_sb3")


def sbx_quality(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    return _table_of_two(record, {"sbx": "SBX", "numpy": "NumPy"}, "p_sbx_against_numpy")


def _table_of_two(record: dict[str, Any], heads: Mapping[str, str], p_value: str) -> str:
    """A record of two sides as Markdown.

    :param heads: how each side is called, by its name in the record.
    :param p_value: its name there.
    """
    lines = [f"| | steps | {' | '.join(heads.values())} | p |", "|---|---|---|---|---|"]
    for name, case in record["result"]["cases"].items():
        shown = [
            f"{statistics.mean(values):.1f} ({min(values):.0f}…{max(values):.0f})"
            for values in map(case["returns"].get, heads)
        ]
        lines.append(f"| {name} | {case['steps']} | {' | '.join(shown)} | {case[p_value]} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {counted(record, 'seeds')} seeds a side, mean of "
            f"{record['result']['episodes']} episodes of the final policy (lowest…highest seed); "
            "two-sided Mann–Whitney tests."
            f"{_kept(record)}",
        ]
    )


def _kept(record: dict[str, Any]) -> str:
    """Say which arms' returns were kept from another day. The text is empty if none was kept."""
    parts = [
        part
        for case in record["result"]["cases"].values()
        for part in case.get("taken", {}).items()
    ]
    found = {(arm, said["at"][:10]) for arm, said in parts if arm != "all"}
    return f" Kept: {', '.join(f'{arm} of {day}' for arm, day in sorted(found))}." if found else ""
