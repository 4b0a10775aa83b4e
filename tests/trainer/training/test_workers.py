"""A training has the same bytes and curves with any number of processes."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import ModelState
from rl_trainer.errors import OneProcessNeededError
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.segments import SegmentTrainer
from rl_trainer.training.watch import TrainingWatch
from tests.trainer.chains import TOY, make_trainer, reread
from tests.trainer.conftest import TINY_PPO, Trainer, frozen, json_of, merged
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.environments.processes import (
    children_of,
    is_running,
    wait_until,
    wait_until_ended,
    workers_of,
)

ROLLOUTS: dict[str, Any] = {
    "n_envs": 4,
    "n_steps": 25,
    "batch_size": 50,
    "n_epochs": 2,
    "policy_kwargs": "dict(net_arch=[8])",
}
BUFFERS: dict[str, Any] = {
    "n_envs": 4,
    "buffer_size": 300,
    "learning_starts": 100,
    "batch_size": 8,
    "gradient_steps": 1,
    "policy_kwargs": "dict(net_arch=[8])",
}
HER = {**BUFFERS, "policy": "MultiInputPolicy", "replay_buffer_class": "HerReplayBuffer"}
GOALS = {"observation": "goal", "action": "box"}
STRICT = "tests.trainer.training.test_segments:Strict-v0"
LSTM = {**ROLLOUTS, "policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=8)"}
WITHOUT_EPOCHS = {"n_envs": 4, "n_steps": 5, "policy_kwargs": "dict(net_arch=[8])"}

#: What is trained: algorithm, hyper-parameters, environment and its arguments.
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "ppo": ("ppo", ROLLOUTS, "CartPole-v1", {}),
    "ppo_normalized": ("ppo", {**ROLLOUTS, "normalize": True}, TOY, {"action": "box"}),
    "ppo_frames": ("ppo", {**ROLLOUTS, "frame_stack": 2, "normalize": True}, TOY, {}),
    "ppo_dict": (
        "ppo",
        {**ROLLOUTS, "policy": "MultiInputPolicy", "normalize": True},
        TOY,
        {"observation": "dict"},
    ),
    "ppo_lunarlander": ("ppo", ROLLOUTS, "LunarLander-v3", {}),
    "a2c_normalized": ("a2c", {**WITHOUT_EPOCHS, "normalize": True}, TOY, {}),
    "maskable_ppo": ("maskable_ppo", ROLLOUTS, STRICT, {"action": "multi_discrete"}),
    "ppo_lstm": ("ppo_lstm", LSTM, TOY, {}),
    "trpo": ("trpo", {**WITHOUT_EPOCHS, "n_steps": 25, "batch_size": 50}, TOY, {}),
    "sac_her": ("sac", HER, TOY, GOALS),
    "td3_her_normalized": ("td3", {**HER, "normalize": True}, TOY, GOALS),
    "dqn_normalized": ("dqn", {**BUFFERS, "normalize": True}, TOY, {}),
    "sac_normalized": ("sac", {**BUFFERS, "normalize": True}, TOY, {"action": "wide"}),
    "odd": ("ppo", ROLLOUTS, ODD, {}),
}


def make(case: str) -> SegmentTrainer:
    """Make the trainer of a case."""
    algo, hyperparameters, env_id, env_kwargs = CASES[case]
    return make_trainer(algo, hyperparameters, env_id=env_id, env_kwargs=env_kwargs)


def train(trainer: SegmentTrainer, processes: list[int]) -> list[str]:
    """Train a chain of segments, each from a checkpoint and with its own number of processes.

    :return: the digest of everything that a checkpoint holds, and the curves, of each segment.
    """
    state: ModelState | None = None
    stored: dict[str, bytes] = {}
    found: list[str] = []
    for segment, number in enumerate(processes):
        trainer.factory.processes = number
        trained = trainer.train(segment, state, TrainingWatch(Interruption()))
        found.append(digest_arrays(trained.state.arrays))
        lines = trained.curves.to_json_lines().decode().splitlines()
        found += [_without_times(json.loads(line)) for line in lines]
        memory = trained.state.memory
        found += [chunk.sha256 for chunk in memory.chunks] if memory else []
        trained.model.env.close()
        state = reread(trained.state, stored)
    return found


def _without_times(point: dict[str, float]) -> str:
    return json.dumps({key: value for key, value in point.items() if not key.startswith("time/")})


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_processes_changes_no_byte(case: str) -> None:
    """Parameters, optimizers, statistics, replay buffer and curves, also if the number changes."""
    expected = train(make(case), [1, 1, 1])
    assert train(make(case), [2, 3, 4]) == expected


@pytest.mark.parametrize("number", [3, 8])
def test_eight_environments_in_three_and_eight_processes(number: int) -> None:
    """Blocks of different sizes, and of one environment each."""
    trainer = make_trainer("ppo", {**ROLLOUTS, "n_envs": 8}, env_id="CartPole-v1", segment=400)
    assert train(trainer, [number]) == train(trainer, [1])


def test_every_family_of_algorithms_is_covered() -> None:
    """A family that is new must be trained here, too. Whole episodes have one environment."""
    covered = {ALGORITHMS[algo].family for algo, *_ in CASES.values()}
    families = {row.family for row in ALGORITHMS.values()}
    assert {family.name for family in families - covered} == {"EPISODES"}


def test_a_generator_that_is_used_late_makes_the_segment_worthless() -> None:
    """The segment's end notices what the rehearsal could not see."""
    kwargs = {"odd": "draw_numpy", "after": 40}
    trainer = make_trainer("ppo", ROLLOUTS, env_id=ODD, env_kwargs=kwargs)
    trainer.factory.processes = 2
    with pytest.raises(OneProcessNeededError, match=r"process's generator numpy\.random"):
        trainer.train(0, None, TrainingWatch(Interruption()))


def document(workers: int, n_envs: int = 2, **env_kwargs: Any) -> dict[str, Any]:
    """Return an experiment with odd environments."""
    return merged(
        TINY_PPO,
        env_id=ODD,
        env_kwargs=env_kwargs,
        compute={"workers": workers},
        hyperparameters={"n_envs": n_envs},
    )


def write(folder: Path, workers: int, **facts: Any) -> str:
    """Write a frozen spec, and return its path."""
    path = folder / f"spec-{workers}.json"
    path.write_bytes(frozen(document(workers, **facts)).to_json())
    return str(path)


def test_a_trial_goes_back_to_one_process_and_keeps_its_bytes(
    tmp_path: Path, trainer: Trainer
) -> None:
    """It trains the segment again, and the log says why."""
    done = [
        trainer(
            "train",
            "--spec",
            write(tmp_path, workers, odd="draw_numpy", after=400),
            "--store",
            str(tmp_path / f"store-{workers}"),
            "--json",
        )
        for workers in (1, 2)
    ]
    alone, together = map(json_of, done)
    assert alone["digest"] == together["digest"]
    assert "1 process steps 2 environments" in done[0].stderr
    assert "2 processes step 2 environments" in done[1].stderr
    assert "an environment has drawn from its process's generator numpy.random" in done[1].stderr


def test_a_killed_worker_ends_the_trainer_with_one_line(
    tmp_path: Path, start_trainer: Callable[..., Any]
) -> None:
    """Exit status 71, and no process is left."""
    spec = write(tmp_path, 2, step_s=0.01)
    store = str(tmp_path / "store")
    process = start_trainer("train", "--spec", spec, "--store", store, "--quiet")
    workers = _workers_in_training(process.pid, tmp_path / "store")
    everyone = children_of(process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    began = time.monotonic()
    done = process.finish()
    assert done.returncode == 71
    assert done.stderr.count("\n") == 1
    assert "worker 2 (environment 1) was killed (SIGKILL)" in done.stderr
    wait_until_ended(everyone)
    assert time.monotonic() - began < 20


def test_a_killed_trainer_leaves_no_worker(
    tmp_path: Path, start_trainer: Callable[..., Any]
) -> None:
    """Not even one that hangs in a step and ignores signals."""
    spec = write(tmp_path, 2, odd="hang_apart", after=400, step_s=0.01)
    process = start_trainer("train", "--spec", spec, "--store", str(tmp_path / "store"), "--quiet")
    (worker,) = _workers_in_training(process.pid, tmp_path / "store")
    wait_until(lambda: _sleeps_for_long(worker))
    everyone = children_of(process.pid)
    assert worker in everyone
    process.send_signal(signal.SIGKILL)
    wait_until_ended(everyone, 10)


def test_sigterm_to_the_whole_group_is_a_notice(
    tmp_path: Path, start_trainer: Callable[..., Any]
) -> None:
    """As `systemctl stop` sends it: the trainer is interrupted, and no worker fails before."""
    spec = write(tmp_path, 2, step_s=0.01)
    process = start_trainer("train", "--spec", spec, "--store", str(tmp_path / "store"), "--quiet")
    _workers_in_training(process.pid, tmp_path / "store")
    everyone = children_of(process.pid)
    os.killpg(process.pid, signal.SIGTERM)
    done = process.finish()
    assert (done.returncode, "SIGTERM at step" in done.stderr) == (75, True)
    wait_until_ended(everyone)


def test_more_workers_than_environments_are_bad_input(tmp_path: Path, trainer: Trainer) -> None:
    """One line, and exit status 2: an edited spec, because freezing refuses it, too."""
    spec = json.loads(Path(write(tmp_path, 2)).read_text())
    spec["experiment"]["compute"]["workers"] = 9
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(spec))
    done = trainer("train", "--spec", str(path), "--store", str(tmp_path / "store"), "--quiet")
    assert done.returncode == 2
    assert done.stderr == (
        "rl_trainer train: spec: compute.workers: is 9, but a trial has only 2 environments "
        "(n_envs); set it to at most 2, or to auto\n"
    )


def _trains(store: Path) -> bool:
    """Tell whether the trial's heartbeat comes from a training: the rehearsal is over."""
    path = store / "heartbeats/tiny/test/seed-0.json"
    if not path.exists():
        return False
    return Heartbeat.from_json(path.read_bytes(), str(path)).state is TrainerState.TRAINING


def _workers_in_training(trainer: int, store: Path) -> set[int]:
    """Wait until a trainer trains, and its workers have lived for a while in one segment."""
    wait_until(lambda: _trains(store), 200)
    found: set[int] = set()

    def stay() -> bool:
        found.clear()
        found.update(workers_of(trainer))
        time.sleep(1)
        return bool(found) and all(map(is_running, found)) and workers_of(trainer) == found

    wait_until(stay, 200)
    return found


def _sleeps_for_long(pid: int) -> bool:
    """Tell whether a process has used no time on a core for a while."""
    before = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
    time.sleep(1)
    return Path(f"/proc/{pid}/stat").read_text().split()[13:15] == before
