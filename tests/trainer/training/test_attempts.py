"""The trainer as a process: killed, interrupted, fenced and started again."""

import json
import math
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from tests.kill_rounds import seeds
from tests.trainer.conftest import TINY_PPO, Trainer, json_of, merged

#: The number of kills; `make soak` sets hundreds.
KILLS = len(seeds(10))
#: Longer runs get more time on a busy machine.
PATIENCE_S = 300.0 + 10 * KILLS
SMALL = {
    "buffer_size": 2_500,
    "learning_starts": 300,
    "batch_size": 16,
    "policy_kwargs": "dict(net_arch=[8])",
}
OFF_POLICY = {**TINY_PPO, "total_timesteps": 15_000, "checkpoint_every": 1_000}
HER = {
    "policy": "MultiInputPolicy",
    "replay_buffer_class": "HerReplayBuffer",
    "buffer_size": 295,
    "learning_starts": 100,
    "batch_size": 8,
    "train_freq": 20,
    "gradient_steps": 1,
    "policy_kwargs": "dict(net_arch=[8])",
}
#: The trials that are killed, and their share of the kills. They have no replay buffer, one that is
#: overwritten in mid-chunk, or an LSTM. HER's buffer is overwritten in the middle of episodes, and
#: some of its episodes wrap around the buffer's end.
KILLED: dict[str, tuple[dict[str, Any], float]] = {
    "ppo": (merged(TINY_PPO, total_timesteps=2048 * 30, hyperparameters={"n_epochs": 6}), 0.3),
    "dqn": (
        {
            **OFF_POLICY,
            "algo": "dqn",
            "hyperparameters": {**SMALL, "target_update_interval": 90, "n_envs": 2},
        },
        0.2,
    ),
    "sac": (
        {
            **OFF_POLICY,
            "algo": "sac",
            "env_id": "Pendulum-v1",
            "hyperparameters": {**SMALL, "train_freq": 16},
            "evaluation": {"return_range": [-2000, 0], "crash_below": -1500},
        },
        0.2,
    ),
    "her": (
        {
            **TINY_PPO,
            "algo": "sac",
            "env_id": "tests.trainer.toy_envs:Toy-v0",
            "total_timesteps": 3_000,
            "checkpoint_every": 200,
            "env_kwargs": {"observation": "goal", "action": "box"},
            "hyperparameters": HER,
        },
        0.1,
    ),
    "ppo_lstm": (
        {
            **TINY_PPO,
            "algo": "ppo_lstm",
            "total_timesteps": 1024 * 6,
            "checkpoint_every": 1024,
            "hyperparameters": {
                "n_envs": 2,
                "n_steps": 64,
                "batch_size": 128,
                "n_epochs": 1,
                "policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=8)",
            },
        },
        0.2,
    ),
}
HEARTBEAT = "heartbeats/tiny/test/seed-0.json"


def heartbeat(store: Path) -> Heartbeat:
    """Read the trial's heartbeat."""
    return Heartbeat.from_json((store / HEARTBEAT).read_bytes())


def wait_until(condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    """Wait for a condition that another process fulfils."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def head_step(store: Path) -> int:
    """Return the head's committed step, or 0 without a head."""
    head = store / "checkpoints/tiny/test/seed-0/head.json"
    return int(json.loads(head.read_bytes())["step"]) if head.exists() else 0


def is_training_beyond(store: Path, step: int) -> bool:
    """Return whether the newest heartbeat comes from the training loop after a step."""
    return (
        (store / HEARTBEAT).exists()
        and heartbeat(store).state is TrainerState.TRAINING
        and heartbeat(store).step > step
    )


@pytest.mark.kills
@pytest.mark.parametrize("name", KILLED)
def test_killed_at_random_instants_equals_uninterrupted(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any, name: str
) -> None:
    """Kills by SIGKILL during training, commits and exports do not change the final digest.

    A kill counts if it left steps to train.
    """
    document, share = KILLED[name]
    wanted, spec, rng = math.ceil(KILLS * share), str(write_spec(document)), random.Random(7)
    alone = json_of(
        start_trainer(
            "train", "--spec", spec, "--store", str(tmp_path / "alone"), "--json", "--quiet"
        ).finish(PATIENCE_S)
    )
    kills = trial = 0
    while kills < wanted:  # another trial follows one that ends sooner
        assert trial < 10 + 3 * wanted, "the trials end before they are killed: make them longer"
        store, killed, trial = tmp_path / f"killed-{trial}", True, trial + 1
        while killed:
            before = head_step(store)
            process = start_trainer("train", "--spec", spec, "--store", str(store), "--quiet")
            if kills < wanted:
                wait_until(lambda: process.poll() is not None or is_training_beyond(store, before))  # noqa: B023
                time.sleep(rng.uniform(0, 0.6))
                process.send_signal(signal.SIGKILL)
            done = process.finish(PATIENCE_S)
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            killed = done.returncode != 0
            kills += killed and head_step(store) < document["total_timesteps"]
        assert (
            json_of(trainer("digest", "--store", str(store), "--json"))["digest"] == alone["digest"]
        )
    assert kills == wanted


def test_sigterm_finishes_uploads_and_says_interrupted(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any
) -> None:
    """The trainer exits with 75, the heartbeat says INTERRUPTED, and the next start finishes."""
    spec, store = (
        str(write_spec(merged(TINY_PPO, total_timesteps=30_720, hyperparameters={"n_epochs": 20}))),
        tmp_path / "store",
    )
    process = start_trainer("train", "--spec", spec, "--store", str(store))
    wait_until(lambda: head_step(store) > 0)
    process.send_signal(signal.SIGTERM)
    done = process.finish()
    assert done.returncode == 75, done.stderr
    assert "SIGTERM" in done.stderr.splitlines()[-1]
    assert heartbeat(store).state is TrainerState.INTERRUPTED
    finished = json_of(trainer("train", "--spec", spec, "--store", str(store), "--json", "--quiet"))
    assert finished["resumed_from"] > 0
    assert heartbeat(store).state is TrainerState.FINISHED


def test_a_zombie_is_fenced(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any
) -> None:
    """The first attempt ends with 76 and keeps the second attempt's heartbeat."""
    spec, store = (
        str(
            write_spec(merged(TINY_PPO, total_timesteps=200_000, hyperparameters={"n_epochs": 20}))
        ),
        tmp_path / "store",
    )
    zombie = start_trainer("train", "--spec", spec, "--store", str(store), "--attempt", "1")
    wait_until(lambda: head_step(store) > 0)
    successor = start_trainer("train", "--spec", spec, "--store", str(store), "--attempt", "2")
    done = zombie.finish()
    assert done.returncode == 76, done.stderr
    wait_until(lambda: heartbeat(store).attempt == 2)
    successor.send_signal(signal.SIGTERM)
    successor.finish()
    assert (
        trainer("train", "--spec", spec, "--store", str(store), "--attempt", "1").returncode == 76
    )


def test_every_segment_end_leaves_a_policy_and_the_last_one_says_so(
    tmp_path: Path, trainer: Trainer, write_spec: Any
) -> None:
    """Each checkpoint has a policy, whose record is written last; only the last is final."""
    spec, store = str(write_spec(TINY_PPO)), tmp_path / "store"
    result = json_of(trainer("train", "--spec", spec, "--store", str(store), "--json", "--quiet"))
    paths = sorted((store / "policies/tiny/test/seed-0").glob("*.json"))
    records = [PolicyRecord.from_json(path.read_bytes()) for path in paths]
    assert [(record.step, record.final) for record in records] == [
        (2048, False),
        (4096, False),
        (6144, True),
    ]
    assert records[-1].digest == result["digest"]
    assert records[-1].metadata.equality["visited_differing"] == 0
    again = json_of(trainer("replay", "--manifest", str(paths[1]), "--spec", spec, "--json"))
    assert again["equal"], again


def test_a_damaged_replay_buffer_falls_back_and_the_end_is_the_same(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any
) -> None:
    """A damaged chunk is found when the buffer is filled; training goes back one checkpoint."""
    document = {
        **TINY_PPO,
        "algo": "dqn",
        "total_timesteps": 4000,
        "checkpoint_every": 1000,
        "hyperparameters": {
            "learning_starts": 100,
            "buffer_size": 10_000,
            "batch_size": 8,
            "policy_kwargs": "dict(net_arch=[8])",
        },
    }
    spec, alone, store = str(write_spec(document)), tmp_path / "alone", tmp_path / "store"
    expected = json_of(trainer("train", "--spec", spec, "--store", str(alone), "--json", "--quiet"))
    process = start_trainer("train", "--spec", spec, "--store", str(store), "--quiet")
    wait_until(lambda: head_step(store) >= 2000)
    process.send_signal(signal.SIGKILL)
    process.finish()
    head = json.loads((store / "checkpoints/tiny/test/seed-0/head.json").read_bytes())
    newest = json.loads((store / head["manifest_key"]).read_bytes())["buffer_chunks"][-1]
    (store / "buffers/tiny/test/seed-0" / newest).write_bytes(b"damaged")
    done = trainer("train", "--spec", spec, "--store", str(store), "--json")
    assert json_of(done)["digest"] == expected["digest"]
    assert json_of(done)["resumed_from"] < head["step"]
    assert "is damaged" in done.stderr


def test_a_policy_that_was_not_written_is_written_on_resume(
    tmp_path: Path, trainer: Trainer, write_spec: Any
) -> None:
    """The machine may vanish between head and policy, so the next attempt writes the policy."""
    spec, store = str(write_spec(TINY_PPO)), tmp_path / "store"
    json_of(trainer("train", "--spec", spec, "--store", str(store), "--json", "--quiet"))
    record = store / "policies/tiny/test/seed-0/000000006144.json"
    before = PolicyRecord.from_json(record.read_bytes())
    record.unlink()
    json_of(trainer("train", "--spec", spec, "--store", str(store), "--json", "--quiet"))
    after = PolicyRecord.from_json(record.read_bytes())
    assert (after.digest, after.final, after.manifest) == (before.digest, True, before.manifest)


def test_an_experiment_file_is_frozen_once_and_a_changed_one_is_refused(
    tmp_path: Path, trainer: Trainer
) -> None:
    """The YAML is the run `local`; the same file is done already, a changed one is refused."""
    file, store = tmp_path / "tiny.yaml", tmp_path / "store"
    file.write_text(yaml.safe_dump(TINY_PPO))
    first = json_of(
        trainer("train", "--spec", str(file), "--store", str(store), "--json", "--quiet")
    )
    again = json_of(
        trainer("train", "--spec", str(file), "--store", str(store), "--json", "--quiet")
    )
    assert (again["digest"], again["resumed_from"]) == (first["digest"], first["step"])
    file.write_text(yaml.safe_dump(merged(TINY_PPO, total_timesteps=8192)))
    refused = trainer("train", "--spec", str(file), "--store", str(store), "--quiet")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "total_timesteps" in refused.stderr


def test_another_numeric_class_waits_or_is_marked(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any
) -> None:
    """A checkpoint of other hardware is refused, or marked as not comparable."""
    other = {"OPENBLAS_CORETYPE": "Haswell"}
    for choice in ("wait", "continue"):
        document = merged(TINY_PPO, total_timesteps=20_480, compute={"on_other_hardware": choice})
        spec, store = str(write_spec(document)), tmp_path / choice
        process = start_trainer("train", "--spec", spec, "--store", str(store))
        wait_until(lambda: head_step(store) > 0)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        assert process.finish().returncode == 75
        done = start_trainer(
            "train", "--spec", spec, "--store", str(store), "--json", "--quiet", env=other
        ).finish()
        assert done.returncode == (77 if choice == "wait" else 0), done.stderr
        if choice == "wait":
            assert "openblas_coretype: → Haswell" in done.stderr
    assert not json_of(trainer("digest", "--store", str(tmp_path / "continue"), "--json"))[
        "comparable"
    ]
