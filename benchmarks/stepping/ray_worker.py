"""Ray's side of `workers_speed`; it runs in `.venv-ray`.

It takes a turn for each line on stdin. The first line makes the environments, one actor for each:
{"env_id", "env_kwargs", "n_envs"}. Each further line steps them: {"seconds"}. Answers are JSON
lines on stdout. It imports nothing of our packages, because its environment does not have them.
"""

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

os.environ |= {
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else it writes one into the home folder
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it listens on loopback only
    "RAY_USAGE_STATS_ENABLED": "0",  # else it reports its use to its maker
}
import ray  # it reads these when it is imported

TICKS = os.sysconf("SC_CLK_TCK")


class Stepper:
    """An environment in an actor. It begins a new episode when one ends."""

    def __init__(self, env_id: str, env_kwargs: dict[str, Any], seed: int) -> None:
        self.env = gym.make(env_id, **env_kwargs)
        self.env.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool]:
        """Step once. :return: observation, reward, whether the episode ended."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        ended = terminated or truncated
        if ended:
            observation, _ = self.env.reset()
        return observation, float(reward), ended


def main() -> int:
    """Serve until stdin ends. :return: 0."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    folder = str(Path(__file__).resolve().parent)  # of costly_envs, which the actors import
    here = {"env_vars": {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}}
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=200_000_000,
        log_to_driver=False,
        runtime_env=here,
    )
    steppers, actions = _make(json.loads(sys.stdin.readline()))
    print(json.dumps({"ray": ray.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(
            json.dumps(_take_turn(steppers, actions, json.loads(line)["seconds"])),
            file=answers,
            flush=True,
        )
    ray.shutdown()
    return 0


def _make(task: dict[str, Any]) -> tuple[list[Any], list[list[Any]]]:
    """Make the actors. :return: they, and 64 actions for each, drawn beforehand."""
    remote: Any = ray.remote(num_cpus=0)(Stepper)
    steppers = [
        remote.remote(task["env_id"], task["env_kwargs"], seed) for seed in range(task["n_envs"])
    ]
    space = gym.make(task["env_id"], **task["env_kwargs"]).action_space
    space.seed(0)
    actions = [[space.sample() for _ in steppers] for _ in range(64)]
    ray.get([one.step.remote(action) for one, action in zip(steppers, actions[0], strict=True)])
    return steppers, actions


def _take_turn(steppers: list[Any], actions: list[list[Any]], seconds: float) -> dict[str, float]:
    """Step all, again and again. :return: seconds for each step of one environment."""
    others, main_s, began, steps = _others_cpu_s(), time.process_time(), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        drawn = actions[steps % len(actions)]
        answers = ray.get([one.step.remote(act) for one, act in zip(steppers, drawn, strict=True)])
        np.stack([answer[0] for answer in answers])
        steps += 1
    clock_s, taken_s = time.monotonic() - began, time.process_time() - main_s
    count = steps * len(steppers)
    spent = _others_cpu_s() - others
    return {"clock_s": clock_s / count, "main_s": taken_s / count, "children_s": spent / count}


def _others_cpu_s() -> float:
    """Return the CPU seconds of all processes that Ray started for this one."""
    parents, seconds = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # the process ended meanwhile
            continue
        pid = int(file.parent.name)
        parents[pid], seconds[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(seconds[pid] for pid in ours - {os.getpid()})


if __name__ == "__main__":
    sys.exit(main())
