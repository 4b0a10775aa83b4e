"""How fast shards are collected by one, two and four collectors, and how fast a gang forms.

    python -m benchmarks.machines.gang_speed [--rounds N]

The collectors are processes that talk over gloo on loopback, as machines do over their network. An
environment waits for a millisecond and needs next to no CPU, so two cores can play the part of
several machines; what a real network adds is not measured. Measured are:

- seconds of a rollout, from the parameters to the rollouts in the learner, in turns;
- the part of it that is not collecting: the exchange and the waits for it, against one collector,
  which is the learner's own process and exchanges nothing;
- seconds until a generation with another machine has formed, and from the kill of that machine
  until the next step of an environment.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.stepping import costly_envs
from benchmarks.training.trainer_speed import spread
from laptop.figures.records import taken, write_record
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import heartbeat_key
from rl_lifecycle.trials.gangs import Announcement
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.checkpointing.model_state import capture_normalisation, capture_policy
from rl_trainer.errors import LostMemberError
from rl_trainer.gangs.gang import Gang, GangJob
from rl_trainer.gangs.roster import Roster
from rl_trainer.training.preparation import make_trainer

N_ENVS, N_STEPS, SHARDS = 64, 128, 8
COLLECTORS = (1, 2, 4)
DOCUMENT: dict[str, Any] = {
    "env_id": f"{costly_envs.__name__}:Costly-v0",
    "env_kwargs": {"wait_s": 0.001},
    "algo": "ppo",
    "total_timesteps": 10_000_000,
    "checkpoint_every": 700_000,
    "trials": 1,
    "shards": SHARDS,
    "hyperparameters": {
        "n_envs": N_ENVS,
        "n_steps": N_STEPS,
        "batch_size": 256,
        "policy_kwargs": "dict(net_arch=[64, 64])",
    },
    "evaluation": {"return_range": [0, 500], "crash_below": 1},
}


def spec_of(machines: int) -> Spec:
    """Freeze the experiment for a number of machines."""
    experiment = read_experiment(
        {**DOCUMENT, "compute": {"machines": machines, "workers": 1}}, "gang_speed"
    )
    return freeze_spec(experiment, run_id="bench", created_at=datetime(2026, 1, 1, tzinfo=UTC))


def measure_collecting(rounds: int) -> dict[str, Any]:
    """Collect in turns with one, two and four collectors, after one turn each that is not counted.

    :return: seconds of a rollout, and the share of linear speed.
    """
    trainer = make_trainer(spec_of(1), "seed-0", None)
    model = trainer.prepare(0, None)
    base = capture_policy(model) | capture_normalisation(model.get_vec_normalize_env())
    gangs = {}
    for number in COLLECTORS:
        gang = gangs[number] = Gang(GangJob(spec_of(1), "seed-0", trainer.work))
        gang.processes = number
        gang.begin(0)
        gang.collect(base, lambda _steps: None)
    seconds: dict[int, list[float]] = {number: [] for number in COLLECTORS}
    for _ in range(rounds):
        for number, gang in gangs.items():
            began = time.perf_counter()
            gang.collect(base, lambda _steps: None)
            seconds[number].append(time.perf_counter() - began)
    for gang in gangs.values():
        gang.close()
    one = statistics.median(seconds[1])
    return {
        "rollout_s": {str(number): spread(times) for number, times in seconds.items()},
        "share_of_linear": {
            str(number): round(one / number / statistics.median(times), 3)
            for number, times in seconds.items()
        },
        "share_of_exchange": {
            str(number): round(1 - one / number / statistics.median(times), 3)
            for number, times in seconds.items()
        },
        "steps_per_rollout": N_ENVS * N_STEPS,
    }


class Machine:
    """A machine that collects: `python -m rl_trainer collect` on an address of its own."""

    def __init__(self, folder: Path, spec: Spec, address: str) -> None:
        path = folder / "spec.json"
        path.write_bytes(spec.to_json())
        self.key = heartbeat_key(spec.trial_id("seed-0").at_seat(1))
        self.store = DirectoryStore(folder / "store")
        command = ["-m", "rl_trainer", "collect", "--seat", "1", "--address", address, "--quiet"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--spec", str(path), "--store", str(folder / "store")],
            start_new_session=True,
        )

    def announced(self) -> Announcement:
        """Wait until it can be called."""
        while True:
            found = self.store.find(self.key)
            if found is not None:
                beat = Heartbeat.from_json(found.data, self.key)
                if beat.announcement is not None:
                    return beat.announcement
            time.sleep(0.05)

    def kill(self) -> None:
        """End all its processes at once, as a machine that is taken back."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measure_forming() -> dict[str, float]:
    """Form a generation with a machine that waits, collect, and kill the machine.

    :return: seconds.
    """
    spec = spec_of(2)
    trainer = make_trainer(spec, "seed-0", None)
    model = trainer.prepare(0, None)
    base = capture_policy(model) | capture_normalisation(model.get_vec_normalize_env())
    with tempfile.TemporaryDirectory(prefix="nightshift-gang-") as scratch:
        machine = Machine(Path(scratch), spec, "127.8.7.2")
        announcement = machine.announced()
        trial = spec.trial_id("seed-0")
        CheckpointChain(machine.store, trial, 1, spec.sha256, 1).take_over()
        roster = Roster(machine.store, trial, 1, 2, announcement.numeric_class)
        while not roster.find():
            time.sleep(0.05)
        gang = Gang(GangJob(spec, "seed-0", trainer.work, "127.8.7.1"), roster)
        began = time.perf_counter()
        gang.begin(0)
        formed = time.perf_counter()
        gang.collect(base, lambda _steps: None)
        killed = _kill_while_collecting(gang, base, machine)
        gang.begin(0)
        again: list[float] = []
        gang.collect(base, lambda _steps: again.append(time.perf_counter()))
        gang.close()
    return {
        "until_formed_s": round(formed - began, 3),
        "from_kill_to_next_step_s": round(again[0] - killed, 3),
    }


def _kill_while_collecting(gang: Gang, base: dict[str, Any], machine: Machine) -> float:
    """Kill the machine at the learner's tenth step. :return: when."""
    moments: list[float] = []

    def step(_steps: int) -> None:
        if len(moments) == 10:
            machine.kill()
        moments.append(time.perf_counter())

    try:
        gang.collect(base, step)
    except LostMemberError:
        return moments[10]
    finally:
        gang.end()
    raise RuntimeError("the machine was killed, and the learner has not noticed it")


def main(arguments: list[str]) -> int:
    """Measure and record. :return: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    said = taken(rounds=options.rounds)
    forming = [measure_forming() for _ in range(min(3, options.rounds))]
    result = {
        "collecting": measure_collecting(options.rounds),
        "forming": {name: spread([one[name] for one in forming]) for name in forming[0]},
        "taken": said,
    }
    print(json.dumps(result, indent=1), file=sys.stderr)
    print(write_record("gang-speed", result), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
