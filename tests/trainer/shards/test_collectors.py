"""Who collects the shards changes no byte, and a process that is killed loses no training."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from rl_lifecycle.experiment.spec import Spec
from rl_trainer.errors import EnvironmentFailedError, InterruptedTrainingError
from rl_trainer.gangs.conversation import share_out
from rl_trainer.gangs.gang import LOOPBACK, Gang, GangJob
from rl_trainer.gangs.transport import Channel, LostPeerError, Order, Rendezvous, bind
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.preparation import make_trainer
from rl_trainer.training.segments import SegmentTrainer, TrainedSegment
from rl_trainer.training.watch import TrainingWatch
from tests.kill_rounds import seeds
from tests.trainer.chains import whole_digest
from tests.trainer.conftest import Done, Trainer, TrainerProcess, frozen, json_of, merged
from tests.trainer.shards.cases import ALGORITHMS, ENVIRONMENTS, sharded_spec

#: Values of SB3's logger that follow from the clock.
CLOCK = ("time/fps", "time/time_elapsed")
#: An address of loopback that no other program listens on. Linux has all of 127/8.
ELSEWHERE = "127.9.8.7"


def train(spec: Spec, n_processes: int) -> tuple[str, list[dict[str, Any]]]:
    """Train a trial with a number of processes beside this one.

    :return: the digest of the whole state, and the curves.
    """
    trainer = make_trainer(spec, "seed-0", None)
    if n_processes:
        trainer.collectors = gang = Gang(GangJob(spec, "seed-0", trainer.work))
        gang.processes = n_processes + 1
    state, curves = None, []
    try:
        for segment in range(trainer.plan.n_segments):
            trained = trainer.train(segment, state, TrainingWatch(Interruption()))
            state = trained.state
            curves += curve(trained)
    finally:
        trainer.collectors.close()
    return whole_digest(trained), curves


def curve(trained: TrainedSegment) -> list[dict[str, Any]]:
    """Return a segment's curve without what follows from the clock."""
    lines = map(json.loads, trained.curves.to_json_lines().splitlines())
    return [{key: value for key, value in one.items() if key not in CLOCK} for one in lines]


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_one_two_and_four_other_processes_give_the_same_bytes_and_curves(
    algo: str, environment: str, normalize: bool
) -> None:
    """The digest of parameters, optimizer and statistics is the same, and so is every curve."""
    spec = sharded_spec(algo, environment, normalize=normalize)
    digest, curves = train(spec, 0)
    # SB3's PPO logs each of the eight rollouts, its A2C every hundredth; each segment adds a line.
    assert len(curves) == (10 if algo == "ppo" else 2)
    assert "episodes/return_mean" in curves[-1]
    for n_processes in (2, 4):
        assert train(spec, n_processes) == (digest, curves)


def test_shards_are_shared_out_so_that_each_has_one_collector() -> None:
    """Every process gets some, and the learner, which also updates, never the most."""
    for n_shards in range(1, 9):
        for world in range(1, n_shards + 1):
            ranks = share_out(n_shards, range(world))
            counts = [ranks.count(rank) for rank in range(world)]
            assert sum(counts) == n_shards
            assert max(counts) - min(counts) <= 1
            assert counts[0] == min(counts)


def _trainer_with(spec: Spec, n_processes: int) -> tuple[SegmentTrainer, Gang]:
    trainer = make_trainer(spec, "seed-0", None)
    trainer.collectors = gang = Gang(GangJob(spec, "seed-0", trainer.work))
    gang.processes = n_processes + 1
    return trainer, gang


def test_an_error_of_an_environment_in_a_collector_is_the_trials_error() -> None:
    """The message is the one that the trainer gives without collectors."""
    spec = frozen(
        merged(
            _document(sharded_spec("ppo", "CartPole", normalize=False)),
            env_id="tests.trainer.shards.cases:Fragile-v0",
            env_kwargs={},
        )
    )
    trainer, collectors = _trainer_with(spec, 2)
    with pytest.raises(EnvironmentFailedError, match="the simulator has exploded"):
        trainer.train(0, None, TrainingWatch(Interruption()))
    assert collectors.pids == []


def test_a_killed_collector_is_named_and_takes_the_others_along() -> None:
    """The trainer does not wait for a process that has ended."""
    trainer, collectors = _trainer_with(sharded_spec("ppo", "CartPole", normalize=False), 2)
    pids: list[int] = []

    class Killing(TrainingWatch):
        """Kills a collector at the hundredth step of this process."""

        def _on_step(self) -> bool:
            if self.n_calls == 100:
                pids.extend(collectors.pids)
                psutil.Process(pids[1]).kill()
            return super()._on_step()

    began = time.monotonic()
    with pytest.raises(InterruptedTrainingError, match=r"collector 2 \(process \d+\) was ended by"):
        trainer.train(0, None, Killing(Interruption()))
    assert time.monotonic() - began < 60
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def _document(spec: Spec) -> dict[str, Any]:
    return spec.experiment.model_dump(mode="json", exclude={"name"})


@pytest.fixture
def channels() -> tuple[Channel, Channel]:
    """A learner's channel and a collector's, on an address of their own."""
    with bind(ELSEWHERE) as listening:
        meeting = Rendezvous(ELSEWHERE, listening.getsockname()[1], 2)
        other: list[Channel] = []
        thread = threading.Thread(target=lambda: other.append(Channel(meeting, 1, ELSEWHERE)))
        thread.start()
        learner = Channel(meeting, 0, ELSEWHERE, listening)
        thread.join()
    return learner, other[0]


def test_no_process_listens_on_another_address(channels: tuple[Channel, Channel]) -> None:
    """Without a bound socket, torch's store would listen on all interfaces."""
    listening = {
        (one.laddr.ip, one.laddr.port)
        for one in psutil.Process().net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    ours = [(ip, port) for ip, port in listening if ip == ELSEWHERE]
    assert len(ours) >= 3  # the store, and gloo in each of the two
    for _, port in ours:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port), timeout=5).close()
    assert len(channels) == 2


def test_arrays_arrive_as_they_were(channels: tuple[Channel, Channel]) -> None:
    """Types, shapes and bytes are kept, also of an empty array and of a number."""
    learner, collector = channels
    sent = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4), np.int64),
        "number": np.array(0.1),
        "image": np.full((2, 2), 255, np.uint8),
        "flags": np.array([True, False]),
    }
    thread = threading.Thread(target=learner.give_order, args=(Order.COLLECT, 7, sent))
    thread.start()
    order, number, got = collector.next_order()
    thread.join()
    assert (order, number) == (Order.COLLECT, 7)
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in got.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in sent.items()
    }


def test_a_learner_without_collectors_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for ever, and says what is missing."""
    monkeypatch.setattr("rl_trainer.gangs.transport.CONNECT_S", 1.0)
    with (
        bind(LOOPBACK) as listening,
        pytest.raises(LostPeerError, match="collector 1 did not connect within 1 s"),
    ):
        Channel(Rendezvous(LOOPBACK, listening.getsockname()[1], 2), 0, LOOPBACK, listening)


def _longer() -> dict[str, Any]:
    """Return a sharded training of twenty segments."""
    document = _document(sharded_spec("ppo", "CartPole", normalize=True))
    return {**document, "total_timesteps": 40_000, "trials": 1}


def _step(store: Path) -> int:
    heads = list(store.glob("checkpoints/**/head.json"))
    return int(json.loads(heads[0].read_text())["step"]) if heads else 0


def _wait_until(condition: Callable[[], bool], process: TrainerProcess) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert process.poll() is None, "the trainer has ended"
        time.sleep(0.01)


def _collectors_of(pid: int) -> list[psutil.Process]:
    """Return the processes below a trainer's forkserver."""
    return [
        grandchild for child in psutil.Process(pid).children() for grandchild in child.children()
    ]


@pytest.mark.parametrize("seed", seeds(2))
def test_kills_and_another_number_of_processes_change_no_byte(
    seed: int,
    trainer: Trainer,
    start_trainer: Callable[..., TrainerProcess],
    tmp_path: Path,
    write_spec: Callable[[dict[str, Any]], Path],
) -> None:
    """The trainer and a collector are killed, and each start has another number of collectors."""
    spec = write_spec(_longer())
    whole = json_of(
        trainer("train", "--spec", str(spec), "--store", str(tmp_path / "whole"), "--json")
    )
    store = tmp_path / "killed"
    arguments = ("train", "--spec", str(spec), "--store", str(store), "--json")

    first = start_trainer(*arguments, "--workers", str(3 + seed % 3))
    _wait_until(lambda: _step(store) >= 2_000, first)
    orphans = _collectors_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.finish()
    assert len(orphans) == 2 + seed % 3
    psutil.wait_procs(orphans, timeout=30)
    assert not any(orphan.is_running() for orphan in orphans)

    killed = _kill_a_collector(start_trainer(*arguments, "--collectors", "1"), store)
    assert killed.returncode == 75, killed.stderr
    assert "collector 1 (process " in killed.stderr

    last = json_of(trainer(*arguments, "--collectors", "3"))
    assert last["resumed_from"] > 0
    assert last["digest"] == whole["digest"]


def _kill_a_collector(process: TrainerProcess, store: Path) -> Done:
    before = _step(store)
    _wait_until(lambda: _step(store) > before, process)
    for collector in _collectors_of(process.pid):
        collector.kill()
    return process.finish()
