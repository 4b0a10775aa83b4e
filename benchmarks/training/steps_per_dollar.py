"""How many steps you get for a dollar: the newest measured speeds over dated prices.

    python -m benchmarks.training.steps_per_dollar [--table]

This command measures nothing. The speeds are those of one thread of the processor in the record
that it reads. The types of `instance_types: auto` count as equally fast. Prices are those of
`rl_lifecycle.machines.instance_types`. A type that was not measured is shown as "not measured".
"""

import argparse
import json
import sys
from typing import Any

from laptop.figures.records import FOLDER, write_record
from laptop.figures.tables import newest_table
from laptop.figures.training_costs import NOT_MEASURED
from rl_lifecycle.machines.auto_types import AUTO_TYPES, steps_per_usd
from rl_lifecycle.machines.instance_types import AS_OF, INSTANCE_TYPES
from rl_lifecycle.machines.prices import FALL_BACK

#: GPU types with a price, for what they are missing.
GPU_TYPES = tuple(name for name in FALL_BACK if INSTANCE_TYPES[name].gpu)
#: A larger size, for what more of the same costs.
LARGER = "c7i.xlarge"


def main(arguments: list[str]) -> int:
    """Reckon, or print the newest record as a table. :return: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and reckon nothing",
    )
    if parser.parse_args(arguments).table:
        print(newest_table("steps_per_dollar"))
        return 0
    source = max(FOLDER.glob("*-trainer-against-sbx.json"))
    print(
        write_record("steps-per-dollar", reckon(source.name, json.loads(source.read_text()))),
        file=sys.stderr,
    )
    return 0


def reckon(name: str, speeds: dict[str, Any]) -> dict[str, Any]:
    """Combine a record of speeds with the prices. :param name: of the record's file."""
    cases = {
        case: {arm: facts["steps_per_cpu_s"][arm]["median"] for arm in ("sb3", "trainer")}
        for case, facts in speeds["result"]["cases"].items()
    }
    types: dict[str, Any] = {}
    for kind in (*AUTO_TYPES, LARGER, *GPU_TYPES):
        price = FALL_BACK[kind]
        bought: Any = (
            NOT_MEASURED
            if kind in GPU_TYPES
            else {
                case: {arm: round(steps_per_usd(speed, price.spot)) for arm, speed in arms.items()}
                for case, arms in cases.items()
            }
        )
        types[kind] = {
            "on_demand_usd": price.on_demand,
            "spot_usd": price.spot,
            "steps_per_spot_usd": bought,
        }
    return {
        "speeds": name,
        "processor": speeds["machine"]["processor"],
        "prices_as_of": AS_OF.isoformat(),
        "types": types,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
