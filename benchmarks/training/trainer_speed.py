"""How fast the trainer is compared with stock SB3, and what its checkpoints and exports cost.

    python -m benchmarks.training.trainer_speed [--rounds N] [--table]

The two take turns in one process with one thread each, because on a shared machine only ratios of
one run mean something. Both call `learn` with rl_zoo3's hyper-parameters. Stock SB3 gets the
environments of its own `make_vec_env`, but without a render mode, because it would draw pictures
that are never shown. Gymnasium's checker stays around each environment and takes about 1 % of stock
SB3's time on CartPole.

Times are CPU time of the process: with one thread, that is what the machine is paid for. Other
processes change the CPU time of the two sides differently, so runs at different loads give
different ratios. The record keeps all runs of its day.
"""

import argparse
import statistics
import sys
import time
from typing import Any

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from benchmarks.training.trainings import GSDE, TrainingCase
from laptop.figures.records import earlier_runs, write_record
from laptop.figures.tables import newest_table
from rl_trainer.checkpointing.model_state import capture, final_parameters
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.onnx_export.export import export_policy
from rl_trainer.reporting.curves import Curves
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer
from rl_trainer.training.watch import TrainingWatch

CASES = (
    TrainingCase("ppo", "CartPole-v1", 10_240),
    TrainingCase("ppo", "Pendulum-v1", 8_192, GSDE),
    TrainingCase("ppo", "Acrobot-v1", 8_192),
    TrainingCase("ppo", "LunarLander-v3", 16_384),
    TrainingCase("a2c", "CartPole-v1", 5_120),
)


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns of each; the medians are reported (default 5)"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and measure nothing",
    )
    options = parser.parse_args(arguments)
    if options.table:
        print(newest_table("trainer_speed"))
        return 0
    torch.set_num_threads(1)
    result = {
        "rounds": options.rounds,
        "cases": {case.name: measure(case, options.rounds) for case in CASES},
        "earlier": earlier_runs("trainer-speed"),
    }
    print(write_record("trainer-speed", result), file=sys.stderr)
    return 0


def measure(case: TrainingCase, rounds: int) -> dict[str, Any]:
    """Let both learn in turns, after one short turn each that is not counted."""
    fast, stock = _trainer(case, fast=True), _trainer(case, fast=False)
    theirs, ours = [], []
    for turn in range(rounds + 1):
        steps = case.steps if turn else 1
        slow_s, fast_s = (
            _learn(stock, turn, steps, lean=False),
            _learn(fast, turn, steps, lean=True),
        )
        if turn:
            theirs.append(case.steps / slow_s)
            ours.append(case.steps / fast_s)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "steps": case.steps,
        "path": fast.builder.path,
        "sb3_steps_per_cpu_s": spread(theirs),
        "trainer_steps_per_cpu_s": spread(ours),
        "times_faster": spread(ratios),
        **_costs(case, fast),
    }


def _trainer(case: TrainingCase, *, fast: bool) -> SegmentTrainer:
    settings = read_settings(case.algo, case.hyperparameters)
    plan = SegmentPlan(1, 10**6, 10**6, 1)
    return SegmentTrainer(
        plan, EnvironmentFactory(case.env_id, {}, settings), ModelBuilder(settings, fast=fast)
    )


def _learn(trainer: SegmentTrainer, turn: int, steps: int, *, lean: bool) -> float:
    """Seconds of CPU time that `learn` takes."""
    model = trainer.prepare(turn, None)
    if not lean:
        model.set_env(stock_environments(trainer))
    model.set_logger(Curves().logger())
    started = time.process_time()
    model.learn(steps, callback=TrainingWatch(Interruption()))
    return time.process_time() - started


def stock_environments(trainer: SegmentTrainer) -> Any:
    """What SB3's own `make_vec_env` makes of the trainer's environment, without a render mode."""
    settings = trainer.factory.settings
    env: Any = make_vec_env(
        trainer.factory.env_id,
        settings.n_envs,
        env_kwargs={"render_mode": None} | trainer.factory.env_kwargs,
    )
    return VecNormalize(env, **settings.normalize) if settings.normalize is not None else env


def _costs(case: TrainingCase, trainer: SegmentTrainer) -> dict[str, float]:
    """What one segment's end costs beside the training: writing the state, and exporting the policy
    with its check.
    """
    model = trainer.prepare(0, None)
    checkpoints, exports = [], []
    for _ in range(5):
        started = time.process_time()
        state = capture(model)
        state.to_files()
        checkpoints.append(1000 * (time.process_time() - started))
        started = time.process_time()
        export_policy(
            model,
            final_parameters(state),
            algo=case.algo,
            env_id=case.env_id,
            env_kwargs={},
            statistics=model.get_vec_normalize_env(),
        )
        exports.append(1000 * (time.process_time() - started))
    return {
        "checkpoint_ms": round(statistics.median(checkpoints), 2),
        "export_ms": round(statistics.median(exports), 2),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
