"""How fast the trainer is beside SBX, the JAX form of SB3, and beside stock SB3, all three
interleaved in one run.

    python -m benchmarks.training.trainer_against_sbx [--rounds N] [--case NAME …] [--table]

SBX has an environment of its own (`make .venv-sbx/.ready`, which `make bench` does) and runs in a
process of its own that waits while the others take their turns. One core each. A first turn of each
is not counted: SBX compiles in it. Then all train one model on and on with the same
hyper-parameters: rl_zoo3's, with schedules held at their first value and without long warm-ups,
whose random steps would say nothing about training. Seconds are CPU time.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.other_python import other_python
from benchmarks.training.trainer_speed import spread, stock_environments
from benchmarks.training.trainings import GSDE, TrainingCase
from laptop.figures.records import (
    earlier_runs,
    taken,
    todays_cases,
    write_record,
)
from laptop.figures.tables import newest_table
from laptop.places import ROOT
from rl_lifecycle.experiment.settings.literals import parse_expression
from rl_lifecycle.experiment.settings.places import Place
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.reporting.curves import Curves
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer
from rl_trainer.training.watch import TrainingWatch

PYTHON = ROOT / ".venv-sbx" / "bin" / "python"


CASES = {
    case.name: case
    for case in (
        TrainingCase("ppo", "CartPole-v1", 5_120, held=True),
        TrainingCase("ppo", "Pendulum-v1", 4_096, GSDE, held=True),
        TrainingCase("sac", "Pendulum-v1", 200, held=True),
        TrainingCase("td3", "Pendulum-v1", 200, held=True),
        TrainingCase("dqn", "CartPole-v1", 2_048, held=True),
    )
}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0, 2 if SBX is not installed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns of each; the medians are reported (default 5)"
    )
    parser.add_argument(
        "--case",
        nargs="*",
        choices=sorted(CASES),
        default=sorted(CASES),
        help="measure these alone, beside what today's record has already (default: all, anew)",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and measure nothing",
    )
    options = parser.parse_args(arguments)
    if options.table:
        print(newest_table("trainer_against_sbx"))
        return 0
    if not PYTHON.exists():
        print("error: .venv-sbx is missing: run make .venv-sbx/.ready", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    cases, earlier = (
        todays_cases("trainer-against-sbx", whole=set(options.case) == set(CASES)),
        earlier_runs("trainer-against-sbx"),
    )
    for name in options.case:
        said = taken(rounds=options.rounds)
        cases[name] = measure(CASES[name], options.rounds) | {"taken": {"all": said}}
    print(
        write_record("trainer-against-sbx", {"cases": cases, "earlier": earlier}), file=sys.stderr
    )
    return 0


def measure(case: TrainingCase, rounds: int) -> dict[str, Any]:
    """Let all three learn in turns, after one turn each that is not counted."""
    with _sbx(case) as (sbx, versions):
        arms: dict[str, Callable[[int], float]] = {
            "sb3": _ours(case, fast=False),
            "trainer": _ours(case, fast=True),
            "sbx": sbx,
        }
        speeds: dict[str, list[float]] = {arm: [] for arm in arms}
        for turn in range(rounds + 1):
            for arm, learn in arms.items():
                seconds = learn(case.steps)
                print(
                    f"{case.algo} {case.env_id} {turn} {arm} {seconds:.2f} s",
                    file=sys.stderr,
                    flush=True,
                )
                if turn:
                    speeds[arm].append(case.steps / seconds)

    def against(ours: str, other: str) -> dict[str, float]:
        return spread(
            [mine / theirs for mine, theirs in zip(speeds[ours], speeds[other], strict=True)]
        )

    return {
        "steps": case.steps,
        "versions": versions,
        "steps_per_cpu_s": {arm: spread(values) for arm, values in speeds.items()},
        "trainer_against_sbx": against("trainer", "sbx"),
        "trainer_against_sb3": against("trainer", "sb3"),
        "sbx_against_sb3": against("sbx", "sb3"),
    }


def _ours(case: TrainingCase, *, fast: bool) -> Callable[[int], float]:
    """One of our two arms: trains its model on, and gives the seconds of CPU time."""
    settings = read_settings(case.algo, case.hyperparameters)
    factory, builder = (
        EnvironmentFactory(case.env_id, {}, settings),
        ModelBuilder(settings, fast=fast),
    )
    trainer = SegmentTrainer(SegmentPlan(1, 10**6, 10**6, 1), factory, builder)
    model = trainer.prepare(0, None)
    if not fast:
        model.set_env(stock_environments(trainer))
    model.set_logger(Curves().logger())

    def learn(steps: int) -> float:
        started = time.process_time()
        model.learn(steps, callback=TrainingWatch(Interruption()), reset_num_timesteps=False)
        return time.process_time() - started

    return learn


@contextmanager
def _sbx(case: TrainingCase) -> Iterator[tuple[Callable[[int], float], dict[str, str]]]:
    """SBX's arm, in its own process, which ends with the block."""
    with sbx_worker(case) as (ask, versions):
        yield (lambda steps: float(ask({"steps": steps})["cpu_s"])), versions


@contextmanager
def sbx_worker(
    case: TrainingCase, seed: int = 0
) -> Iterator[tuple[Callable[[dict[str, Any]], dict[str, Any]], dict[str, str]]]:
    """Start SBX's process with a model of a case; it ends with the block.
    :return: what asks it, and its versions.
    """
    given = case.hyperparameters
    kwargs = {
        key: parse_expression(value, Place("case", key))
        if key == "policy_kwargs" and isinstance(value, str)
        else value
        for key, value in given.items()
        if key not in ("policy", "n_envs", "noise_type", "noise_std")
    }
    with other_python(PYTHON, "benchmarks/training/sbx_worker.py") as ask:
        versions = ask(
            {
                "algo": case.algo,
                "env_id": case.env_id,
                "n_envs": given.get("n_envs", 1),
                "kwargs": kwargs,
                "seed": seed,
                "noise_std": given.get("noise_std"),
            }
        )
        yield ask, versions


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
