"""Updates recorded as CUDA graphs against stock SB3's, both on this machine's GPU: first whether they are equal, then how fast.

    python -m benchmarks.gpu_updates [--rounds N] [--table]

Needs an NVIDIA GPU and torch's CUDA build; without, it says so and exits with 2. Whole updates of both are compared from one
rollout and one seed; if they differ, nothing is measured and it exits with 1. Then both train in turns in the same environments;
seconds are those of the clock, since a GPU has no CPU time. Never run by us: there is no record of it.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.gpu_environments import PARTS, PICTURES
from benchmarks.records import FOLDER, write_record
from rl_trainer.curves import Curves
from rl_trainer.environments import EnvironmentFactory
from rl_trainer.graphs.captures import Capturer, CudaGraphs
from rl_trainer.interruptions import Interruption
from rl_trainer.model_state import capture
from rl_trainer.models import ModelBuilder, seed_generators
from rl_trainer.segments import SegmentPlan, SegmentTrainer
from rl_trainer.settings import read_settings
from rl_trainer.watch import Watch

#: How far a parameter may lie from stock SB3's, in learning rates for each step: Adam's rounding differs between its two forms.
TOLERANCE = 0.02
COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "episode_starts",
    "values",
    "log_probs",
    "advantages",
    "returns",
)


#: Short rollouts whose last minibatch is shorter than the others.
SHORT = {"n_envs": 2, "n_steps": 60, "batch_size": 32, "n_epochs": 2, "learning_rate": 3e-4}
ATARI = {
    "policy": "CnnPolicy",
    "n_envs": 8,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": "lin_2.5e-4",
    "clip_range": "lin_0.1",
    "ent_coef": 0.01,
}


#: One gradient step after each of the last few steps.
REPLAY = {
    "learning_starts": 64,
    "buffer_size": 1000,
    "batch_size": 32,
    "train_freq": 1,
    "learning_rate": 3e-4,
}


@dataclass(frozen=True)
class Case:
    """A training. :param steps: of one turn; of all that is compared, where there are no rollouts."""

    name: str
    env_id: str
    hyperparameters: dict[str, Any]
    steps: int = 0
    algo: str = "ppo"


COMPARED = (
    Case("MlpPolicy", "CartPole-v1", SHORT),
    Case("MlpPolicy, Gaussian", "Pendulum-v1", SHORT | {"clip_range_vf": 0.2}),
    Case(
        "MlpPolicy, target_kl", "CartPole-v1", SHORT | {"target_kl": 0.0005, "learning_rate": 0.002}
    ),
    Case("MlpPolicy, gSDE", "Pendulum-v1", SHORT | {"use_sde": True, "sde_sample_freq": 4}),
    Case("CnnPolicy", PICTURES, SHORT | {"policy": "CnnPolicy"}),
    Case("MultiInputPolicy", PARTS, SHORT | {"policy": "MultiInputPolicy"}),
    Case("DQN", "CartPole-v1", REPLAY, 72, "dqn"),
    Case("DQN, CnnPolicy", PICTURES, REPLAY | {"policy": "CnnPolicy"}, 72, "dqn"),
    Case("SAC", "Pendulum-v1", REPLAY, 72, "sac"),
)
MEASURED = (
    Case(
        "MlpPolicy CartPole-v1",
        "CartPole-v1",
        {"n_envs": 8, "n_steps": 256, "batch_size": 256, "n_epochs": 10, "learning_rate": 3e-4},
        20_480,
    ),
    Case("CnnPolicy, pictures of 4 × 84 × 84", PICTURES, ATARI, 10_240),
    Case(
        "DQN, CnnPolicy, pictures of 4 × 84 × 84",
        PICTURES,
        {
            "policy": "CnnPolicy",
            "learning_starts": 500,
            "buffer_size": 5_000,
            "batch_size": 32,
            "learning_rate": 1e-4,
        },
        8_000,
        "dqn",
    ),
    Case(
        "SAC Pendulum-v1",
        "Pendulum-v1",
        {"learning_starts": 100, "buffer_size": 10_000, "learning_rate": 1e-3},
        2_000,
        "sac",
    ),
)


def main(arguments: list[str]) -> int:
    """Compare and measure, or print the newest record as a table. :return: 0, 1 if updates differ, 2 without a GPU or a record."""
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
        records = sorted(FOLDER.glob("*-gpu-updates.json"))
        if not records:
            print(
                "error: there is no record: run python -m benchmarks.gpu_updates on a machine with an NVIDIA GPU",
                file=sys.stderr,
            )
            return 2
        print(table(json.loads(records[-1].read_text())))
        return 0
    if not torch.cuda.is_available():
        print(
            "error: torch finds no NVIDIA GPU on this machine: run this on one that has one, with torch's CUDA build",
            file=sys.stderr,
        )
        return 2
    return run(CudaGraphs(), options.rounds, gpu_facts())


def run(
    capturer: Capturer,
    rounds: int,
    facts: dict[str, Any],
    *,
    compared: tuple[Case, ...] = COMPARED,
    measured: tuple[Case, ...] = MEASURED,
) -> int:
    """Compare, then measure, and write the record. :return: 0, or 1 if an update differs or is not recorded."""
    for case in compared:
        difference = find_difference(case, capturer)
        print(f"{case.name}: {difference or 'equal to stock SB3'}", file=sys.stderr, flush=True)
        if difference:
            print(
                f"error: {case.name}: {difference}; nothing was measured, and compute.gpu_updates: cuda_graphs must not be used here",
                file=sys.stderr,
            )
            return 1
    cases = {}
    for case in measured:
        cases[case.name] = measure(case, rounds, capturer)
        print(f"{case.name}: {cases[case.name]}", file=sys.stderr, flush=True)
    print(
        write_record(
            "gpu-updates",
            {
                "rounds": rounds,
                "gpu": facts,
                "compared": [case.name for case in compared],
                "cases": cases,
            },
        ),
        file=sys.stderr,
    )
    return 0


def gpu_facts() -> dict[str, Any]:
    """What a reader must know of the GPU to compare."""
    properties = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {
        "name": properties.name,
        "gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": cudnn,
        "capability": f"{properties.major}.{properties.minor}",
    }


def find_difference(case: Case, capturer: Capturer) -> str:
    """Train both from the same transitions and one seed. :return: the first difference; empty if there is none that matters."""
    trainers = [_trainer(case, capturer.device, capturer), _trainer(case, capturer.device, None)]
    ours, stock = (trainer.prepare(0, None) for trainer in trainers)
    if trainers[0].builder.path != "graphs":
        return trainers[0].builder.reason
    for model in (ours, stock):
        model.set_logger(Curves().logger())
    if case.algo != "ppo":
        for model in (ours, stock):
            seed_generators(0, 0)
            model.learn(case.steps, callback=Watch(Interruption()))
        return _states_differ(ours, stock, TOLERANCE * stock._n_updates * stock.learning_rate)
    return _rollouts_differ(ours, stock)


def _rollouts_differ(ours: Any, stock: Any) -> str:
    """Train PPO's two forms on two rollouts. :return: what differs first."""
    n_steps = 0
    for model in (ours, stock):
        model._setup_learn(10**6, None, reset_num_timesteps=False)
    for turn in range(2):
        _collect_same(ours, stock, turn)
        for model in (ours, stock):
            seed_generators(turn, 1)
            model.train()
        n_steps += ours.n_epochs * -(-ours.n_steps * ours.n_envs // ours.batch_size)
        found = _states_differ(ours, stock, TOLERANCE * n_steps * ours.learning_rate)
        if found:
            return f"after {turn + 1} rollouts {found}"
    return ""


def _collect_same(ours: Any, stock: Any, turn: int) -> None:
    """Let our model play, and give stock SB3's the same rollout."""
    seed_generators(turn, 0)
    callback = Watch(Interruption())
    callback.init_callback(ours)
    ours.rollout_buffer.reset()
    ours.collect_rollouts(ours.env, callback, ours.rollout_buffer, ours.n_steps)
    stock.rollout_buffer.reset()
    for name in COLUMNS:
        column = getattr(ours.rollout_buffer, name)
        copied = (
            {key: part.copy() for key, part in column.items()}
            if isinstance(column, dict)
            else column.copy()
        )
        setattr(stock.rollout_buffer, name, copied)
    stock.rollout_buffer.full = True


def _states_differ(ours: Any, stock: Any, tolerance: float) -> str:
    """Compare parameters within a tolerance, counters and what was logged. :return: what differs first."""
    mine, theirs = capture(ours), capture(stock)
    if mine.values["counters"]["_n_updates"] != theirs.values["counters"]["_n_updates"]:
        return f"n_updates is {mine.values['counters']['_n_updates']}, not {theirs.values['counters']['_n_updates']}"
    if mine.arrays.keys() != theirs.arrays.keys():
        return f"only one has {sorted(mine.arrays.keys() ^ theirs.arrays.keys())[0]}"
    for name, array in theirs.arrays.items():
        off = float(np.abs(mine.arrays[name] - array).max(initial=0.0))
        moment = (
            0.0 if name.endswith("/step") else 0.02 * float(np.abs(array).max(initial=0.0)) + 1e-7
        )
        if not off <= (allowed := tolerance if name.startswith("policy/") else moment):
            return f"{name} is off by {off:.3g}, more than {allowed:.3g}"
    for name, value in stock.logger.name_to_value.items():
        found = ours.logger.name_to_value.get(name, float("nan"))
        if name.startswith("train/") and not np.isclose(found, value, rtol=1e-2, atol=1e-3):
            return f"{name} is {found:.6g}, not {value:.6g}"
    return ""


def measure(case: Case, rounds: int, capturer: Capturer) -> dict[str, Any]:
    """Let stock SB3, recorded updates and the trainer's own path on a CPU learn in turns, after one short turn that is not counted."""
    arms = {
        "sb3": _trainer(case, capturer.device, None),
        "graphs": _trainer(case, capturer.device, capturer),
    }
    if case.hyperparameters.get("policy", "MlpPolicy") == "MlpPolicy":
        arms["cpu"] = _trainer(case, "cpu", None, fast=True)
    steps: dict[str, list[float]] = {arm: [] for arm in arms}
    updates: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(rounds + 1):
        for arm, trainer in arms.items():
            whole_s, update_s, trained = _learn(trainer, turn, case.steps if turn else 1)
            if turn:
                steps[arm].append(trained / whole_s)
                updates[arm].append(update_s)
    pairs = {
        name: [mine / other for mine, other in zip(ours, theirs, strict=True)]
        for name, ours, theirs in (
            ("times_faster", steps["graphs"], steps["sb3"]),
            ("updates_times_faster", updates["sb3"], updates["graphs"]),
        )
    }
    return {
        "steps": case.steps,
        "paths": {arm: trainer.builder.path for arm, trainer in arms.items()},
        "steps_per_s": {arm: spread(values) for arm, values in steps.items()},
        "update_s": {arm: spread(values) for arm, values in updates.items()},
        **{name: spread(values) for name, values in pairs.items()},
    }


def table(record: dict[str, Any]) -> str:
    """A record as Markdown."""
    lines = [
        "| | SB3, steps/s | recorded, steps/s | times faster (lowest–highest) | updates alone | trainer on a CPU, steps/s |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in record["result"]["cases"].items():
        ratio, update = case["times_faster"], case["updates_times_faster"]
        speed = {arm: f"{values['median']:.0f}" for arm, values in case["steps_per_s"].items()}
        lines.append(
            f"| {name} | {speed['sb3']} | {speed['graphs']} | {ratio['median']:.1f} ({ratio['min']:.1f}–{ratio['max']:.1f}) "
            f"| {update['median']:.1f} ({update['min']:.1f}–{update['max']:.1f}) | {speed.get('cpu', '')} |"
        )
    gpu = record["result"]["gpu"]
    return "\n".join(
        [
            *lines,
            "",
            f"{record['measured_at'][:10]}, {gpu['name']}, CUDA {gpu['cuda']}, {record['machine']['processor']}, "
            f"{record['result']['rounds']} turns each, interleaved; medians, per second on the clock.",
        ]
    )


def _trainer(
    case: Case, device: str, capturer: Capturer | None, *, fast: bool = False
) -> SegmentTrainer:
    settings = read_settings(case.algo, case.hyperparameters)
    builder = ModelBuilder(settings, device, fast=fast, capturer=capturer)
    return SegmentTrainer(
        SegmentPlan(1, 10**6, 10**6, 1), EnvironmentFactory(case.env_id, {}, settings), builder
    )


def _learn(trainer: SegmentTrainer, turn: int, steps: int) -> tuple[float, float, int]:
    """Learn from the beginning. :return: seconds of all, seconds within `train` (recording included), and the steps taken."""
    model = trainer.prepare(turn, None)
    model.set_logger(Curves().logger())
    timed = _Timed(model.train, model.device)
    model.train = timed
    _wait(model.device)
    started = time.perf_counter()
    model.learn(steps, callback=Watch(Interruption()))
    _wait(model.device)
    env: VecEnv = model.env
    env.close()
    return time.perf_counter() - started, timed.seconds, int(model.num_timesteps)


class _Timed:
    """Adds up the seconds that a call takes, until the GPU has done what it asked for."""

    def __init__(self, call: Callable[..., None], device: torch.device) -> None:
        self._call, self._device, self.seconds = call, device, 0.0

    def __call__(self, *arguments: Any, **options: Any) -> None:
        started = time.perf_counter()
        self._call(*arguments, **options)
        _wait(self._device)
        self.seconds += time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
