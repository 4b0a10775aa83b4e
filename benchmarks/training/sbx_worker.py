"""SBX's side of `trainer_against_sbx` and `sbx_quality`; it runs in `.venv-sbx`.

It takes a turn for each line on stdin. The first line builds a model: {"algo", "env_id", "n_envs",
"kwargs", "seed", "noise_std"}. Each further line trains it ({"steps"}) or lets its policy play
({"episodes"}). Answers are JSON lines on stdout. It imports nothing of this repository, because its
environment does not have it.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

#: What XLA compiled once: every training in a process of its own would compile it again.
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "jax"


def main() -> int:
    """Serve until stdin ends. :return: 0."""
    _one_core()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    model: Any = None
    asked: dict[str, Any] = {}
    answer: dict[str, Any]
    for line in sys.stdin:
        task = json.loads(line)
        if "algo" in task:
            asked, model, answer = task, _build(task), _versions()
        elif "episodes" in task:
            answer = {"mean_return": _play(model, asked, task["episodes"])}
        else:
            started = time.process_time()
            model.learn(task["steps"], reset_num_timesteps=False)
            answer = {"cpu_s": time.process_time() - started}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def _one_core() -> None:
    """Give XLA one core before it is loaded, so that its pools have one thread as ours have, and a
    cache of what it compiled.
    """
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "JAX_COMPILATION_CACHE_DIR": str(CACHE),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _build(task: dict[str, Any]) -> Any:
    import gymnasium as gym
    import numpy as np
    import sbx
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(1)
    env = DummyVecEnv([lambda: Monitor(gym.make(task["env_id"])) for _ in range(task["n_envs"])])
    kwargs = dict(task["kwargs"])
    if task["noise_std"]:
        size = int(np.prod(env.action_space.shape or ()))
        kwargs["action_noise"] = NormalActionNoise(
            np.zeros(size), task["noise_std"] * np.ones(size)
        )
    return getattr(sbx, task["algo"].upper())("MlpPolicy", env, seed=task["seed"], **kwargs)


def _play(model: Any, asked: dict[str, Any], episodes: int) -> float:
    """Let the policy play, deterministically, in an environment that it was not trained in.
    :return: the mean return.
    """
    import gymnasium as gym
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([lambda: Monitor(gym.make(asked["env_id"]))])
    env.seed(1_000_000 + asked["seed"])
    mean: Any = evaluate_policy(model, env, n_eval_episodes=episodes, deterministic=True)[0]
    return float(mean)


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("sbx-rl", "jax", "jaxlib", "numpy")}


if __name__ == "__main__":
    sys.exit(main())
