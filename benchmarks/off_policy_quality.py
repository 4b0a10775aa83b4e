"""Whether the fast path costs SAC, TD3, DDPG or DQN final return: many seeds a side, and the test of `trainer_quality`.

    python -m benchmarks.off_policy_quality [--seeds N] [--case NAME …] [--workers N] [--table]

Stock SB3 and the NumPy path train the same experiment with the same seeds. Both draw the same numbers from the same
generators, so a pair begins alike; rounding then drives it apart.
"""

import json
import statistics
import sys
from typing import Any

from benchmarks.records import FOLDER, counted
from benchmarks.trainer_quality import measure, parse, record_cases
from benchmarks.trainings import Case

ARMS = ("sb3", "numpy")
#: Small networks, whose trainings take a fifth of the time; and few random steps before them.
SMALL = (("policy_kwargs", {"net_arch": [64, 64]}),)
SOON = (*SMALL, ("learning_starts", 1_000))
CASES = {"dqn cartpole": Case("dqn", "CartPole-v1", 50_000),
         "sac pendulum": Case("sac", "Pendulum-v1", 5_000),
         "sac pendulum, 64 units": Case("sac", "Pendulum-v1", 5_000, changes=SMALL),
         "td3 pendulum, 64 units": Case("td3", "Pendulum-v1", 8_000, changes=SOON),
         "ddpg pendulum, 64 units": Case("ddpg", "Pendulum-v1", 8_000, changes=SOON)}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    options = parse(__doc__, CASES, arguments)
    if options.table:
        print(table(json.loads(max(FOLDER.glob("*-off-policy-quality.json")).read_text())))
        return 0
    record_cases("off-policy-quality", options, {}, lambda name: measure(CASES[name], ARMS, options))
    return 0


def table(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = ["| | steps | stock SB3 | NumPy | p |", "|---|---|---|---|---|"]
    for name, case in record["result"]["cases"].items():
        shown = [f"{statistics.mean(values):.1f} ({min(values):.0f}…{max(values):.0f})" for values in map(case["returns"].get, ARMS)]
        lines.append(f"| {name} | {case['steps']} | {' | '.join(shown)} | {case['p_numpy_against_sb3']} |")
    facts = record["result"]
    return "\n".join([*lines, "", f"{record['measured_at'][:10]}, {counted(record, 'seeds')} seeds a side, mean of {facts['episodes']} "
                      "episodes of the final policy (lowest…highest seed); two-sided Mann–Whitney tests."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
