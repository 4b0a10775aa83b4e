"""How long judging takes: a decision, 2,000 LunarLander pairs on all cores, and a promotion.

    python -m benchmarks.judging.gate_speed [--pairs N] [--rounds N]

laptop/gate_study/judging_speed.py says what is timed of a decision and a promotion. The scaling
over cores is a ratio within a round: one process and all cores play the same seeds, one after the
other. The next round has the other order, so other processes of the machine disturb both alike.
"""

import argparse
import functools
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

from laptop.figures import gate_table
from laptop.figures.records import write_record
from laptop.gate_study.judging_speed import GATE, measure_decision, measure_promotion, timed
from rl_evaluator.playing.evaluation import Task
from rl_evaluator.playing.parallel_evaluation import evaluate_in_parallel
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.requests import Shard

ENV_ID, FIRST_SEED = "LunarLander-v3", 5000
#: Steps of training of the champion and of the candidate, before they are compared.
STEPS = (8192, 40_960)
#: Episodes of one side's turn when the scaling is measured.
TURN_EPISODES = 240


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args(arguments)
    result = {
        "decision_on_2000_pairs": measure_decision(options.rounds),
        "promotion": measure_promotion(options.rounds),
        "cores": measure_cores(train_policies(), options.pairs, options.rounds),
    }
    sys.stdout.write(f"{write_record('gate-speed', result)}\n")
    gate_table.write_table()
    return 0


def train_policies() -> list[bytes]:
    """Two policies that differ: the same algorithm, trained for shorter and for longer."""
    # Here, because the processes that play import this module, too, and torch would be most of
    # their time
    import gymnasium
    import torch
    from stable_baselines3 import PPO

    from rl_trainer.onnx_export.export import export_policy

    torch.set_num_threads(1)
    env = gymnasium.make(ENV_ID)
    found = []
    for steps in STEPS:
        model = PPO("MlpPolicy", env, seed=0, n_steps=1024, gamma=0.999, device="cpu").learn(steps)
        found.append(
            export_policy(
                model,
                {},
                algo="ppo",
                env_id=ENV_ID,
                env_kwargs={},
                observation_space=env.observation_space,
            ).onnx
        )
    return found


def measure_cores(policies: list[bytes], pairs: int, rounds: int) -> dict[str, Any]:
    """Play so many pairs with all cores; and in turns some episodes with one process and with all,
    for the scaling.
    """
    cores = os.cpu_count() or 1

    def play(policy: bytes, first_seed: int, n_episodes: int, processes: int) -> Shard:
        return evaluate_in_parallel(
            policy, ENV_ID, Task(ENV_ID, {}, first_seed, n_episodes), processes
        )

    def turn(processes: int, number: int) -> None:
        play(policies[0], FIRST_SEED + number * TURN_EPISODES, TURN_EPISODES, processes)

    seconds = take_turns(
        {processes: functools.partial(turn, processes) for processes in (1, cores)}, rounds
    )
    whole: list[Shard] = []
    total = timed(
        lambda: whole.extend(play(policy, FIRST_SEED, pairs, cores) for policy in policies)
    )["wall_s"]
    return {
        "pairs": pairs,
        "cores": cores,
        "seconds": total,
        "env_steps": sum(shard.steps for shard in whole),
        "steps_per_s": round(sum(shard.steps for shard in whole) / total),
        "episodes_of_a_turn": TURN_EPISODES,
        "times_faster_than_one_process": ratios_to(seconds[1], seconds[cores]),
        "same_returns": play(policies[0], FIRST_SEED, 32, 1).returns
        == play(policies[0], FIRST_SEED, 32, cores).returns,
        "decision": decide(whole[1].returns, whole[0].returns, GATE).decision.value,
    }


def take_turns(sides: Mapping[int, Callable[[int], object]], rounds: int) -> dict[int, list[float]]:
    """Let all sides work in each round, every second round in the other order.
    :return: each side's seconds, a round each.

    :param sides: what a side does in a round, whose number it is given.
    """
    seconds: dict[int, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            seconds[side].append(timed(functools.partial(sides[side], number))["wall_s"])
    return seconds


def ratios_to(base: list[float], side: list[float]) -> dict[str, Any]:
    """How many times faster a side was than the base: within each round, and the median."""
    ratios = [one / other for one, other in zip(base, side, strict=True)]
    return {
        "median": round(statistics.median(ratios), 2),
        "rounds": [round(ratio, 2) for ratio in ratios],
    }


if __name__ == "__main__":
    sys.exit(main())
