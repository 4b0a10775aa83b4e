"""Whether the fast path and the resets between segments lower the final return of PPO.

    python -m benchmarks.training.trainer_quality [--seeds N] [--case NAME …] [--keep ARM …]
    [--workers N] [--table]

Three arms train the same experiment with the same seeds: `sb3` (stock, one segment), `numpy` (the
fast path, one segment) and `segments` (the fast path, ten segments with their resets). Each final
policy plays 20 episodes deterministically, and their mean is one number. The two-sided Mann–Whitney
U test, in the normal approximation with a correction for ties, compares two arms.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from benchmarks.training.trainings import GSDE, TrainingCase
from laptop.figures.final_returns import EPISODES, parse, record_cases
from laptop.figures.tables import newest_table
from rl_lifecycle.experiment.hyperparameters import rollout_timesteps, segment_timesteps
from rl_trainer.checkpointing.model_state import ModelState
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer
from rl_trainer.training.watch import TrainingWatch

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
        print(newest_table("trainer_quality"))
        return 0
    record_cases(
        "trainer-quality",
        options,
        {"segments": SEGMENTS},
        lambda name: measure(CASES[name], tuple(ARMS), options),
    )
    return 0


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
