"""How fast environments are stepped in several processes, by us and by others, all interleaved.

    python -m benchmarks.stepping.workers_speed [--rounds N] [--case NAME …] [--seconds S]

The arms are the trainer with different numbers of processes, SB3's SubprocVecEnv, Gymnasium's
AsyncVectorEnv with shared memory, and Ray's actors; these three have one process for each
environment. All but Ray start by forkserver. All have the same environments, and get random
actions. One turn of each is not counted. Ray has an environment of its own (`make
.venv-ray/.ready`, which `make bench` does).

What is measured: CPU time of the main process and of all its children, and time on the clock. On a
machine with fewer cores than processes, the clock says something only for environments that wait.
For environments that compute, the record has the CPU seconds, from which the speed on a machine
with enough cores can be projected. It also has the memory of a worker, and what `auto` costs for a
cheap environment before it decides for one process.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from stable_baselines3.common.vec_env import SubprocVecEnv

from benchmarks.other_python import other_python
from benchmarks.stepping import costly_envs
from benchmarks.training.trainer_speed import spread
from laptop.figures.records import earlier_runs, taken, todays_cases, write_record
from laptop.places import ROOT
from rl_trainer.attempts.processes import choose_processes
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.environments.fork_server import start_fork_server
from rl_trainer.settings.model_settings import read_settings

COSTLY = f"{costly_envs.__name__}:Costly-v0"
TICKS = os.sysconf("SC_CLK_TCK")
RAY_PYTHON = ROOT / ".venv-ray" / "bin" / "python"


@dataclass(frozen=True)
class StepCase:
    """Environments that are stepped.

    :param processes: numbers of processes of the trainer that are measured; 1 is the reference.
    """

    name: str
    env_id: str
    n_envs: int
    processes: tuple[int, ...]
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def factory(self) -> EnvironmentFactory:
        """What makes the environments."""
        settings = read_settings("ppo", {"n_envs": self.n_envs})
        return EnvironmentFactory(self.env_id, self.env_kwargs, settings)


CASES = {
    case.name: case
    for case in (
        StepCase("CartPole", "CartPole-v1", 16, (1, 2, 4)),
        StepCase("HalfCheetah", "HalfCheetah-v5", 16, (1, 2, 4)),
        StepCase("0.8 ms of Python", COSTLY, 16, (1, 2, 4), {"loops": 12_000}),
        StepCase("1 ms of waiting", COSTLY, 64, (1, 8, 16), {"wait_s": 0.001}),
    )
}


def main(arguments: list[str]) -> int:
    """Measure. :return: 0, or 1 without Ray's environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (default 2)")
    parser.add_argument(
        "--case", nargs="*", choices=sorted(CASES), default=list(CASES), help="default: all"
    )
    options = parser.parse_args(arguments)
    if not RAY_PYTHON.exists():
        print("error: .venv-ray is missing: run make .venv-ray/.ready", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    start_fork_server()
    whole = set(options.case) == set(CASES)
    cases = todays_cases("workers-speed", whole=whole)
    earlier = earlier_runs("workers-speed")
    for name in options.case:
        said = taken(rounds=options.rounds)
        cases[name] = measure(CASES[name], options.rounds, options.seconds)
        cases[name] |= {"taken": {"all": said}}
        print(name, json.dumps(cases[name]["times_faster"]), file=sys.stderr, flush=True)
    result = {"cases": cases, "earlier": earlier, "auto": measure_auto()}
    print(write_record("workers-speed", result), file=sys.stderr)
    return 0


@dataclass(frozen=True)
class Turn:
    """One turn: seconds on the clock and of CPU for each step of one environment."""

    clock_s: float
    main_s: float
    children_s: float


def measure(case: StepCase, rounds: int, seconds: float) -> dict[str, Any]:
    """Let all arms step in turns, after one turn each that is not counted."""
    turns: dict[str, list[Turn]] = {}
    memory: dict[str, float] = {}
    with _arms(case) as arms:
        for number in range(rounds + 1):
            for arm, take_turn in arms.items():
                turn = take_turn(seconds if number else seconds / 4)
                if number:
                    turns.setdefault(arm, []).append(turn)
        memory = _memory_of_workers()
    one = turns["1 process"]
    return {
        "n_envs": case.n_envs,
        "clock_us_per_step": _spreads(turns, lambda turn: turn.clock_s),
        "main_cpu_us_per_step": _spreads(turns, lambda turn: turn.main_s),
        "children_cpu_us_per_step": _spreads(turns, lambda turn: turn.children_s),
        "times_faster": {
            arm: spread([first.clock_s / turn.clock_s for first, turn in zip(one, of, strict=True)])
            for arm, of in turns.items()
        },
        "own_work_share": _own_work(case, turns),
        "worker_mib": memory,
    }


def _spreads(
    turns: dict[str, list[Turn]], seconds: Callable[[Turn], float]
) -> dict[str, dict[str, float]]:
    return {arm: spread([1e6 * seconds(turn) for turn in of]) for arm, of in turns.items()}


def _own_work(case: StepCase, turns: dict[str, list[Turn]]) -> dict[str, float]:
    """Compute the main process's work besides stepping, as a share of the environments' CPU.

    The environments' CPU is that of one process. The main process steps its block of it.
    """
    stepping = statistics.median(turn.main_s for turn in turns["1 process"])
    found = {}
    for processes in case.processes[1:]:
        own = case.n_envs // processes / case.n_envs * stepping
        mains = statistics.median(turn.main_s for turn in turns[f"{processes} processes"])
        found[f"{processes} processes"] = round((mains - own) / stepping, 3)
    return found


@contextmanager
def _arms(case: StepCase) -> Iterator[dict[str, Callable[[float], Turn]]]:
    """Make the environments of every arm, and close them in the end.
    :return: what takes a turn of so many seconds, for each arm.
    """
    factory, seeds = case.factory, list(range(case.n_envs))
    arms: dict[str, Any] = {}
    for processes in case.processes:
        name = f"{processes} process{'es' * (processes > 1)}"
        arms[name] = factory.make_plain(seeds, processes)
    makers: Any = factory.makers(seeds)
    arms["SubprocVecEnv"] = SubprocVecEnv(makers, start_method="forkserver")
    arms["AsyncVectorEnv"] = AsyncVectorEnv(
        makers, context="forkserver", autoreset_mode=AutoresetMode.SAME_STEP
    )
    try:
        for arm in arms.values():
            arm.reset()
        turns = {
            name: partial(_take_turn, _stepper(arm), case.n_envs) for name, arm in arms.items()
        }
        with _ray_actors(case) as ray:
            yield turns | {"Ray actors": ray}
    finally:
        for arm in arms.values():
            arm.close()


@contextmanager
def _ray_actors(case: StepCase) -> Iterator[Callable[[float], Turn]]:
    """Ray's arm, in a process of its own, which ends with the block."""
    env_id = case.env_id.removeprefix("benchmarks.stepping.")  # where the process finds it
    with other_python(RAY_PYTHON, "benchmarks/stepping/ray_worker.py") as ask:
        ask({"env_id": env_id, "env_kwargs": case.env_kwargs, "n_envs": case.n_envs})
        yield lambda seconds: Turn(**ask({"seconds": seconds}))


def _stepper(env: Any) -> Callable[[Any], object]:
    """Return a function that steps an arm once, with random actions drawn beforehand."""
    space: gym.Space[Any] = getattr(env, "single_action_space", env.action_space)
    space.seed(0)
    drawn = [np.array([space.sample() for _ in range(env.num_envs)]) for _ in range(64)]

    def step(number: int) -> object:
        return env.step(drawn[number % len(drawn)])

    return step


def _take_turn(step: Callable[[Any], object], n_envs: int, seconds: float) -> Turn:
    children, main_s, began, steps = _children_cpu_s(), time.process_time(), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        step(steps)
        steps += 1
    clock_s, taken_s = time.monotonic() - began, time.process_time() - main_s
    count = steps * n_envs
    return Turn(clock_s / count, taken_s / count, (_children_cpu_s() - children) / count)


def _children_cpu_s() -> float:
    """Return the CPU seconds of all processes of multiprocessing. Only one arm works at a time."""
    total = 0.0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def _memory_of_workers() -> dict[str, float]:
    """Return the memory of our workers that no other process shares, in MiB."""
    found = []
    for child in multiprocessing.active_children():
        if child.name.startswith("worker-"):
            lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
            private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
            found.append(private / 1024)
    return spread(found)


def measure_auto() -> dict[str, float]:
    """Measure what `auto` costs on a cheap environment: CPU seconds once for each start."""
    factory = CASES["CartPole"].factory
    began = time.process_time()
    chosen = choose_processes("auto", factory, 1, cores=4)
    return {"cpu_s": round(time.process_time() - began, 4), "workers": chosen.number}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
