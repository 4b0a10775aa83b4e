"""The table of docs/gate.md: how fast policies are evaluated and judged."""

import json
from typing import Any

from laptop.figures.records import FOLDER
from laptop.places import ROOT

PAGE = ROOT / "docs" / "gate.md"
BEGIN, END = "<!-- speed: begin -->\n", "<!-- speed: end -->\n"
HEAD = "| what | asked for | measured | record |\n|---|---|---|---|\n"


def write_table() -> None:
    """Write the table into the page again, from the newest records."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + render_table() + END + rest.partition(END)[2])


def render_table() -> str:
    """Make a table of the newest record of each measurement. Without a record there is no row."""
    rows: list[tuple[str, str, str, str]] = []
    kinds = {
        "evaluation-speed": _rows_of_evaluation,
        "gate-speed": _rows_of_gate,
        "evaluation-fan-out": _rows_of_fan_out,
    }
    for name, lay_out in kinds.items():
        if files := sorted(FOLDER.glob(f"*-{name}.json")):
            document = json.loads(files[-1].read_text())
            load = document["machine"]["load"][0]
            rows += [
                (*row, f"{files[-1].stem}, load {load:g}") for row in lay_out(document["result"])
            ]
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows_of_evaluation(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for env_id, asked in (("CartPole-v1", 30), ("LunarLander-v3", 8)):
        found, times = result[env_id], result[env_id]["times_faster"]
        same = (
            f"{found['episodes_with_the_same_return']} of {found['episodes_compared']} returns "
            "identical"
        )
        rows.append(
            (
                f"{env_id}, steps per second against SB3's `evaluate_policy`",
                f"{asked}×",
                f"{times['median']:.1f}× ({times['min']:.1f} to {times['max']:.1f}), {same}",
            )
        )
    cold = result["cold_start"]["first_episode_s"]
    return [
        *rows,
        (
            "cold start, from import to the end of the first episode",
            "0.6 s",
            f"{cold['median']:.2f} s ({cold['min']:.2f} to {cold['max']:.2f})",
        ),
    ]


def _rows_of_gate(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    decision, promotion, cores = (
        result["decision_on_2000_pairs"],
        result["promotion"],
        result["cores"],
    )
    times = cores["times_faster_than_one_process"]["median"]
    return [
        (
            f"decision on 2,000 pairs, all {decision['looks']} looks, from the returns to the "
            "verdict",
            "1 s",
            _seconds(decision),
        ),
        ("promotion into a directory, verified", "2 s", _seconds(promotion)),
        (
            f"{cores['pairs']:,} LunarLander pairs, {cores['cores']} processes",
            "shown",
            f"{cores['seconds']:.0f} s, {cores['steps_per_s']:,} steps/s, {times:.2f} × one "
            "process",
        ),
    ]


def _seconds(found: dict[str, float]) -> str:
    return (
        f"{found['wall_s']:.2f} s (quickest {found['quickest_wall_s']:.2f}), "
        f"{found['cpu_s']:.2f} s of a core"
    )


def _rows_of_fan_out(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    times = ", ".join(
        f"{width} at once {found['median']:.2f} × one"
        for width, found in result["times_faster_than_one_function"].items()
        if width != "1"
    )
    return [
        (
            f"{result['pairs']:,} LunarLander pairs through the local AWS's Lambda, "
            f"{result['functions_at_once']} functions at once",
            "shown",
            f"{result['seconds']:.0f} s, {result['steps_per_s']:,} steps/s on {result['cores']} "
            f"cores; {times}",
        )
    ]
