"""SBX's side of `trainer_against_sbx`: runs in `.venv-sbx`, takes its turns when a line on stdin says so.

The first line builds a model: {"algo", "env_id", "n_envs", "kwargs"}; each further one trains it on: {"steps"}. Answers are
JSON lines on stdout. Knows nothing of the rest of the repository, because its environment has none of it.
"""

import json
import os
import sys
import time
from typing import Any


def main() -> int:
    """Serve until stdin ends. :return: 0."""
    _one_core()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    model: Any = None
    for line in sys.stdin:
        task = json.loads(line)
        if "algo" in task:
            model, answer = _build(task), _versions()
        else:
            started = time.process_time()
            model.learn(task["steps"], reset_num_timesteps=False)
            answer = {"cpu_s": time.process_time() - started}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def _one_core() -> None:
    """Give XLA one core before it is loaded, so that its pools have one thread as ours have."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1",
                   "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _build(task: dict[str, Any]) -> Any:
    import gymnasium as gym
    import sbx
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(1)
    env = DummyVecEnv([lambda: Monitor(gym.make(task["env_id"])) for _ in range(task["n_envs"])])
    return getattr(sbx, task["algo"].upper())("MlpPolicy", env, seed=0, **task["kwargs"])


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("sbx-rl", "jax", "jaxlib", "numpy")}


if __name__ == "__main__":
    sys.exit(main())
