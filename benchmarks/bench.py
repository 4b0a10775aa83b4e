"""`make bench`: run the measurements in turn; each writes a record to benchmarks/records/.

python -m benchmarks.bench [NAME …]     # names of MEASUREMENTS; all by default
"""

import subprocess
import sys

from laptop.places import ROOT

MEASUREMENTS = {
    "account.local_aws_speed": (
        "the local AWS: start, memory, small and large objects, machines and functions at once"
    ),
    "machines.recovery": (
        "seconds from launch, notice and kill to the next training step, on the local AWS"
    ),
    "machines.triggerer_load": (
        "calls, CPU and memory of 100 and 1,000 waiting trials, on the local AWS"
    ),
    "scheduling.parsing": (
        "CPU of parsing and serializing 500 experiments, in turns with an earlier revision"
    ),
    "scheduling.fifty_nights": (
        "fifty nights in the same minute: waits, slots, pool and stored bytes"
    ),
    "account.bootstrap_speed": "a first bootstrap and one without a change, on the local AWS",
    "training.trainer_speed": "steps per second of the trainer and of stock SB3, in turns",
    "training.trainer_against_sbx": "steps per second of the trainer and of SBX, in turns",
    "stepping.workers_speed": (
        "environments in several processes, SubprocVecEnv and AsyncVectorEnv, in turns"
    ),
    "machines.gang_speed": (
        "shards collected by one, two and four collectors, and how fast a gang forms again"
    ),
    "training.trainer_quality": (
        "final returns of PPO against stock SB3, with and without resets, ten "
        "seeds a side: half an hour on two idle cores"
    ),
    "training.off_policy_quality": (
        "final returns of SAC, TD3, DDPG and DQN against stock SB3, ten seeds a side: about as long"
    ),
    "training.sbx_quality": "final returns against SBX, ten seeds a side: about as long",
    "training.trainer_costs": (
        "checkpoints, resuming, exporting and memory, with full replay buffers"
    ),
    "training.steps_per_dollar": "steps for a dollar, from the newest speeds and dated prices",
    "judging.evaluation_speed": (
        "steps per second of the evaluator and of SB3's evaluate_policy, in turns"
    ),
    "judging.gate_speed": (
        "the decision, a promotion, and 2,000 LunarLander pairs on the cores at hand"
    ),
    "judging.evaluation_fan_out": (
        "2,000 LunarLander pairs through the evaluator's Lambda on the local AWS"
    ),
    "judging.gate_characteristics": (
        "how often the gate promotes falsely, a year's worth of nights included"
    ),
}


def main(names: list[str]) -> int:
    """Run measurements. :return: 0, 1 if one failed, 2 if one is unknown."""
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        print(
            f"error: unknown measurement {', '.join(unknown)}; known: {', '.join(MEASUREMENTS)}",
            file=sys.stderr,
        )
        return 2
    failed = []
    for name in names or list(MEASUREMENTS):
        print(f"{name}: {MEASUREMENTS[name]}", file=sys.stderr, flush=True)
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=False
        ).returncode:
            failed.append(name)
    if failed:
        print(f"error: {', '.join(failed)} failed", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
