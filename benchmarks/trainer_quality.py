"""Whether the fast path and the forced resets cost final return: many seeds a side, and a test that
is stated beforehand.

    python -m benchmarks.trainer_quality [--seeds N] [--case NAME …] [--keep ARM …] [--workers N]
    [--table]

Three arms train the same experiment with the same seeds: `sb3` (stock, one segment), `numpy` (the
fast path, one segment) and `segments` (the fast path, ten segments with their resets). Each final
policy plays 20 episodes, deterministically; its mean is one number. Two arms are compared by the
two-sided Mann–Whitney U test, in the normal approximation with ties corrected.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from benchmarks.records import FOLDER, counted, newest_cases, taken, todays_cases, write_record
from benchmarks.trainings import GSDE, TrainingCase
from rl_lifecycle.experiment.hyperparameters import rollout_timesteps, segment_timesteps
from rl_trainer.checkpointing.model_state import ModelState
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.settings.hyperparameters import read_settings
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer
from rl_trainer.training.watch import TrainingWatch

EPISODES = 20
SEGMENTS = 10
#: arm → (fast path, segments)
ARMS = {"sb3": (False, 1), "numpy": (True, 1), "segments": (True, SEGMENTS)}


CASES = {
    "cartpole": TrainingCase("ppo", "CartPole-v1", 100_000),
    "acrobot": TrainingCase("ppo", "Acrobot-v1", 300_000),
    "pendulum": TrainingCase("ppo", "Pendulum-v1", 100_000, GSDE),
    "lunarlander": TrainingCase("ppo", "LunarLander-v3", 500_000),
}


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    options = parse(__doc__, CASES, tuple(ARMS), arguments)
    if options.table:
        print(table(json.loads(max(FOLDER.glob("*-trainer-quality.json")).read_text())))
        return 0
    record_cases(
        "trainer-quality",
        options,
        {"segments": SEGMENTS},
        lambda name: measure(CASES[name], tuple(ARMS), options),
    )
    return 0


def parse(
    description: str | None,
    cases: Mapping[str, TrainingCase],
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
        help="train these alone, beside what today's record has already (default: all, anew)",
    )
    parser.add_argument(
        "--keep",
        nargs="*",
        choices=sorted(arms),
        default=[],
        help="take over the newest record's returns of these arms, if nothing of theirs has "
        "changed (default: none)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="trainings at once, one thread each (default: the cores)",
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
    """Measure one case after another, and write the record after each; of others, if not all are
    asked for, what it has stays.
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
                f"{' and '.join(lacking)}: keep them not"
            )
        options.kept = {arm: known[case]["returns"][arm][: options.seeds] for arm in options.keep}
        said |= {
            arm: known[case]["taken"].get(arm, known[case]["taken"]["all"]) for arm in options.keep
        }
        measured_now[case] = measured(case) | {"taken": said}
        cases = todays_cases(name, whole=options.whole) | measured_now
        print(
            write_record(name, {"episodes": EPISODES, **facts, "cases": cases}),
            file=sys.stderr,
            flush=True,
        )


def measure(
    case: TrainingCase,
    arms: tuple[str, ...],
    options: argparse.Namespace,
    train: "Callable[[TrainingCase, str, int], float] | None" = None,
) -> dict[str, Any]:
    """Train all arms, every training in a process of its own, and compare each arm with the one
    before.

    :param train: trains once; None: :func:`final_return`.
    """
    jobs = [
        (case, arm, seed)
        for seed in range(1, options.seeds + 1)
        for arm in arms
        if arm not in options.kept
    ]
    returns: dict[str, list[float]] = {arm: options.kept.get(arm, []) for arm in arms}
    with ProcessPoolExecutor(
        options.workers, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        for (_, arm, seed), value in zip(
            jobs, pool.map(train or final_return, *zip(*jobs, strict=True)), strict=True
        ):
            returns[arm].append(round(value, 2))
            print(case.name, seed, arm, returns[arm][-1], file=sys.stderr, flush=True)
    pairs = [(arm, before) for before, arm in itertools.pairwise(arms)]
    return {
        "steps": case.steps,
        "returns": returns,
        **{
            f"p_{arm}_against_{before}": mann_whitney(returns[arm], returns[before])
            for arm, before in pairs
        },
    }


def final_return(case: TrainingCase, arm: str, seed: int) -> float:
    """Train once. :return: the mean of the final policy's episodes."""
    fast, n_segments = ARMS[arm]
    settings = read_settings(case.algo, case.hyperparameters)
    length = segment_timesteps(
        case.steps // n_segments, rollout_timesteps(case.algo, case.hyperparameters)
    )
    plan = SegmentPlan(seed, length, case.steps, n_segments)
    trainer = SegmentTrainer(
        plan, EnvironmentFactory(case.env_id, {}, settings), ModelBuilder(settings, fast=fast)
    )
    state: ModelState | None = None
    for segment in range(n_segments):
        trained = trainer.train(segment, state, TrainingWatch(Interruption()))
        state = trained.state
    env = trainer.factory.make(seed, n_segments)
    own, played = trained.model.get_vec_normalize_env(), unwrap_vec_normalize(env)
    if own is not None and played is not None:
        played.obs_rms, played.training, played.norm_reward = own.obs_rms, False, False
    mean: Any
    mean, _ = evaluate_policy(trained.model, env, n_eval_episodes=EPISODES, deterministic=True)
    return float(mean)


def mann_whitney(ours: list[float], theirs: list[float]) -> float:
    """The two-sided p-value in the normal approximation, ties corrected; 1 if all values are equal.

    >>> mann_whitney([1, 2, 3], [1, 2, 3])
    1.0
    """
    values = np.array([*ours, *theirs])
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m, total = len(ours), len(theirs), len(values)
    statistic = ranks[:n].sum() - n * (n + 1) / 2
    variance = n * m / 12 * ((total + 1) - (counts**3 - counts).sum() / (total * (total - 1)))
    if len(unique) == 1 or variance == 0:
        return 1.0
    z = max(0.0, abs(statistic - n * m / 2) - 0.5) / math.sqrt(variance)
    return round(math.erfc(z / math.sqrt(2)), 4)


def table_of_two(record: dict[str, Any], heads: Mapping[str, str], p_value: str) -> str:
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
            f"{kept(record)}",
        ]
    )


def kept(record: dict[str, Any]) -> str:
    """Say which arms' returns are of another day; nothing if none was kept."""
    parts = [
        part
        for case in record["result"]["cases"].values()
        for part in case.get("taken", {}).items()
    ]
    found = {(arm, said["at"][:10]) for arm, said in parts if arm != "all"}
    return f" Kept: {', '.join(f'{arm} of {day}' for arm, day in sorted(found))}." if found else ""


def table(record: dict[str, Any]) -> str:
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
            f"before.{kept(record)}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
