"""Whether trainings here reach the same final returns as SBX.

    python -m benchmarks.training.sbx_quality [--seeds N] [--case NAME …] [--workers N] [--table]

The NumPy path and SBX train with the hyper-parameters of `trainer_against_sbx`; `trainer_quality`
explains the test. SAC and TD3 have smaller networks here, so that twenty trainings take minutes.
Needs `.venv-sbx` (`make .venv-sbx/.ready`).
"""

import sys

from benchmarks.training.trainer_against_sbx import PYTHON, sbx_worker
from benchmarks.training.trainer_quality import final_return, measure
from benchmarks.training.trainings import GSDE, TrainingCase
from laptop.figures.final_returns import EPISODES, parse, record_cases
from laptop.figures.tables import newest_table

ARMS = ("numpy", "sbx")
SMALL = (("policy_kwargs", {"net_arch": [64, 64]}),)
CASES = {
    case.name: case
    for case in (
        TrainingCase("ppo", "CartPole-v1", 100_000, held=True),
        TrainingCase("ppo", "Pendulum-v1", 100_000, GSDE, held=True),
        TrainingCase("sac", "Pendulum-v1", 5_000, changes=SMALL, held=True),
        TrainingCase("dqn", "CartPole-v1", 50_000, held=True),
        TrainingCase("td3", "Pendulum-v1", 8_000, changes=SMALL, held=True),
    )
}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0, 2 if SBX is not installed."""
    options = parse(__doc__, CASES, ARMS, arguments)
    if options.table:
        print(newest_table("sbx_quality"))
        return 0
    if not PYTHON.exists():
        print("error: .venv-sbx is missing: run make .venv-sbx/.ready", file=sys.stderr)
        return 2
    record_cases(
        "sbx-quality", options, {}, lambda name: measure(CASES[name], ARMS, options, train)
    )
    return 0


def train(case: TrainingCase, arm: str, seed: int) -> float:
    """Train once. :return: the mean of the final policy's episodes."""
    if arm != "sbx":
        return final_return(case, arm, seed)
    with sbx_worker(case, seed) as (ask, _):
        ask({"steps": case.steps})
        return float(ask({"episodes": EPISODES})["mean_return"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
