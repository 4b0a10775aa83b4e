"""How fast the evaluator is compared with SB3's evaluate_policy, and how long it takes to start.

    python -m benchmarks.judging.evaluation_speed [--rounds N]

The two take turns in one process with one thread each, because on a shared machine only ratios of
one run mean something. Both play the same seeds, and the returns must be equal. The environments
have no render mode: SB3's own make_vec_env would draw pictures that are never shown, and so be
slower.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from laptop.figures import gate_table
from laptop.figures.records import write_record
from rl_evaluator.playing.environments import environment_maker
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.policies import Policy, load_policy
from rl_trainer.onnx_export.export import export_policy

#: Environment, steps of training before it is measured, episodes of one turn of SB3's and of ours.
CASES = (("CartPole-v1", 8192, 4, 128), ("LunarLander-v3", 8192, 4, 64))
FIRST_SEED = 5000
COLD_START = """
import time; started = time.perf_counter()
import rl_evaluator.handler
from rl_evaluator.player import answer_play
imported = time.perf_counter() - started
from pathlib import Path
from rl_evaluator.playing.environments import make_environment
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.policies import load_policy
policy = load_policy(Path({path!r}).read_bytes())
run_episodes(policy, lambda: make_environment("CartPole-v1", {{}}), range(1))
print(imported, time.perf_counter() - started, "torch" in __import__("sys").modules)
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = {
        env_id: compare(env_id, steps, few, many, options.rounds)
        for env_id, steps, few, many in CASES
    }
    result["cold_start"] = measure_cold_start(options.rounds)
    sys.stdout.write(f"{write_record('evaluation-speed', result)}\n")
    gate_table.write_table()
    return 0


def compare(env_id: str, steps: int, few: int, many: int, rounds: int) -> dict[str, Any]:
    """Let both play in turns.

    :param few: episodes of SB3's turn, one after another.
    :param many: episodes of ours, in lock step.
    """
    env = gymnasium.make(env_id)
    model = PPO("MlpPolicy", env, seed=0, n_steps=1024, device="cpu").learn(steps)
    policy = load_policy(
        export_policy(
            model,
            {},
            algo="ppo",
            env_id=env_id,
            env_kwargs={},
            observation_space=env.observation_space,
        ).onnx
    )
    theirs, ours = [], []
    same = 0
    for turn in range(rounds):
        seeds = range(FIRST_SEED + turn * many, FIRST_SEED + (turn + 1) * many)
        slow_us, expected = _timed(functools.partial(_sb3, model, env_id, seeds[:few]))
        fast_us, found = _timed(functools.partial(_lanes, policy, env_id, seeds))
        theirs.append(slow_us)
        ours.append(fast_us)
        same += sum(round(found[0][seed], 6) == value for seed, value in expected[0].items())
    ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
    return {
        "sb3_us_per_step": _spread(theirs),
        "evaluator_us_per_step": _spread(ours),
        "times_faster": _spread(ratios),
        "episodes_compared": few * rounds,
        "episodes_with_the_same_return": same,
        "lanes": policy.batch_sizes[-1:],
    }


def measure_cold_start(rounds: int) -> dict[str, Any]:
    """Start a process, import the handler, play one CartPole episode: seconds, and whether torch
    came along.
    """
    model = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    exported = export_policy(model, {}, algo="ppo", env_id="CartPole-v1", env_kwargs={})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        path.write_bytes(exported.onnx)
        lines = [
            subprocess.run(
                [sys.executable, "-c", COLD_START.format(path=str(path))],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            for _ in range(rounds)
        ]
    return {
        "import_s": _spread([float(line[0]) for line in lines]),
        "first_episode_s": _spread([float(line[1]) for line in lines]),
        "imports_torch": any(line[2] == "True" for line in lines),
    }


def _sb3(model: Any, env_id: str, seeds: range) -> tuple[dict[int, float], int]:
    env = DummyVecEnv([lambda: Monitor(gymnasium.make(env_id))])
    returns, steps = {}, 0
    for seed in seeds:
        env.seed(seed)
        played: Any = evaluate_policy(model, env, n_eval_episodes=1, return_episode_rewards=True)
        returns[seed], steps = float(played[0][0]), steps + sum(played[1])
    return returns, steps


def _lanes(policy: Policy, env_id: str, seeds: range) -> tuple[dict[int, float], int]:
    episodes = run_episodes(policy, environment_maker(env_id, {}), seeds)
    return (
        {seed: episode.total or 0.0 for seed, episode in episodes.items()},
        sum(episode.length or 0 for episode in episodes.values()),
    )


def _timed(
    play: Callable[[], tuple[dict[int, float], int]],
) -> tuple[float, tuple[dict[int, float], int]]:
    """Microseconds per environment step."""
    started = time.perf_counter()
    played = play()
    return 1e6 * (time.perf_counter() - started) / played[1], played


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
