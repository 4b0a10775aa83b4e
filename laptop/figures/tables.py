"""The tables that docs/ shows: each is made from the newest record of one benchmark.

`python -m laptop figures` writes all of them into the pages again.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from laptop.figures import final_returns, gate_table, published_agents, records, training_costs
from laptop.places import ROOT

#: Benchmark → the function that makes its table from a record.
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "off_policy_quality": final_returns.off_policy_quality,
    "published_agents": published_agents.published_agents,
    "sbx_quality": final_returns.sbx_quality,
    "steps_per_dollar": training_costs.steps_per_dollar,
    "trainer_against_sbx": training_costs.trainer_against_sbx,
    "trainer_costs": training_costs.trainer_costs,
    "trainer_quality": final_returns.trainer_quality,
    "trainer_speed": training_costs.trainer_speed,
    "triggerer_load": training_costs.triggerer_load,
}
PAGES = (ROOT / "docs" / "machines.md", ROOT / "docs" / "trainer.md")
_SHOWN = re.compile(
    r"(?P<begin><!-- measured: benchmarks\.\w+\.(?P<name>\w+) -->\n)"
    r"(?P<table>.*?)"
    r"(?P<end>\n<!-- end of )",
    re.DOTALL,
)


def newest_table(benchmark: str) -> str:
    """Make a benchmark's table from its newest record, as Markdown.

    :param benchmark: a name of :data:`TABLES`.
    """
    newest = max(records.FOLDER.glob(f"*-{benchmark.replace('_', '-')}.json"))
    return TABLES[benchmark](json.loads(newest.read_text()))


def find_tables(text: str) -> dict[str, str]:
    """Find the tables in the text of a page, by the name of their benchmark."""
    return {shown["name"]: shown["table"] for shown in _SHOWN.finditer(text)}


def write_tables() -> None:
    """Write every table of docs/ again, from the newest records."""
    for page in PAGES:
        page.write_text(
            _SHOWN.sub(
                lambda shown: shown["begin"] + newest_table(shown["name"]) + shown["end"],
                page.read_text(),
            )
        )
    gate_table.write_table()
