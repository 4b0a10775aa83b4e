"""Whether the fast path costs SAC or DQN final return: many seeds a side, and the test of `trainer_quality`, stated beforehand.

    python -m benchmarks.off_policy_quality [--seeds N] [--case NAME …] [--table]

Stock SB3 and the NumPy path train the same experiment with the same seeds. Both draw the same numbers from the same
generators, so a pair begins alike; rounding then drives it apart.
"""

import argparse
import json
import statistics
import sys
from typing import Any

import torch

from benchmarks.records import FOLDER, write_record
from benchmarks.trainer_quality import EPISODES, Case, measure

ARMS = ("sb3", "numpy")
#: SAC also with small networks, whose trainings take a fifth of the time.
CASES = {"dqn cartpole": Case("CartPole-v1", 50_000, algo="dqn", arms=ARMS),
         "sac pendulum": Case("Pendulum-v1", 5_000, algo="sac", arms=ARMS),
         "sac pendulum, 64 units": Case("Pendulum-v1", 5_000, algo="sac", arms=ARMS, net_arch=(64, 64))}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each arm (default 10)")
    parser.add_argument("--case", nargs="*", choices=sorted(CASES), default=sorted(CASES), help="default: all, about an hour")
    parser.add_argument("--table", action="store_true", help="print the newest record as Markdown, and measure nothing")
    options = parser.parse_args(arguments)
    if options.table:
        print(table(json.loads(max(FOLDER.glob("*-off-policy-quality.json")).read_text())))
        return 0
    torch.set_num_threads(1)
    result: dict[str, Any] = {"seeds": options.seeds, "episodes": EPISODES, "cases": {}}
    for name in options.case:
        result["cases"][name] = measure(CASES[name], options.seeds)
        print(write_record("off-policy-quality", result), file=sys.stderr, flush=True)
    return 0


def table(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = ["| | steps | stock SB3 | NumPy | p |", "|---|---|---|---|---|"]
    for name, case in record["result"]["cases"].items():
        shown = [f"{statistics.mean(values):.1f} ({min(values):.0f}…{max(values):.0f})" for values in case["returns"].values()]
        lines.append(f"| {name} | {case['steps']} | {' | '.join(shown)} | {case['p_numpy_against_sb3']} |")
    facts = record["result"]
    return "\n".join([*lines, "", f"{record['measured_at'][:10]}, {facts['seeds']} seeds a side, mean of {facts['episodes']} "
                      "episodes of the final policy (lowest…highest seed); two-sided Mann–Whitney tests."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
