"""Who collects the shards changes no byte, and a process that is killed loses no training."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rl_lifecycle.experiment.spec import Spec
from rl_trainer.errors import EnvironmentFailedError, OutOfMemoryError
from rl_trainer.gangs.gang import Gang, GangJob
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.preparation import make_trainer
from rl_trainer.training.segments import SegmentTrainer, TrainedSegment
from rl_trainer.training.watch import TrainingWatch
from tests.trainer.chains import whole_digest
from tests.trainer.conftest import Done, Trainer, TrainerProcess, frozen, json_of, merged
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.shards.cases import ALGORITHMS, ENVIRONMENTS, sharded_spec

#: Values of SB3's logger that follow from the clock.
CLOCK = ("time/fps", "time/time_elapsed")


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
def test_three_other_processes_give_the_same_bytes_and_curves(
    algo: str, environment: str, normalize: bool
) -> None:
    """The digest of parameters, optimizer and statistics is the same, and so is every curve."""
    spec = sharded_spec(algo, environment, normalize=normalize)
    digest, curves = train(spec, 0)
    # SB3's PPO logs each of the eight rollouts, its A2C every hundredth; each segment adds a line.
    assert len(curves) == (10 if algo == "ppo" else 2)
    assert "episodes/return_mean" in curves[-1]
    assert train(spec, 3) == (digest, curves)


def test_any_number_of_processes_gives_the_same_bytes() -> None:
    """Up to one for each shard."""
    spec = sharded_spec("ppo", "CartPole", normalize=True)
    assert len({train(spec, number)[0] for number in (0, 1, 2, 4)}) == 1


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
    with pytest.raises(OutOfMemoryError, match=r"collector 2 \(process \d+\) was killed"):
        trainer.train(0, None, Killing(Interruption()))
    assert time.monotonic() - began < 60
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def _odd(odd: str, after: int = 0) -> Spec:
    """Freeze a sharded training on environments that do something odd in each process."""
    changes = {
        "env_id": ODD,
        "env_kwargs": {"odd": odd, "after": after},
        "total_timesteps": 3_000,
        "checkpoint_every": 3_000,
    }
    return frozen(merged(_document(sharded_spec("ppo", "CartPole", normalize=False)), **changes))


def test_an_environment_may_start_processes() -> None:
    """A simulator is often one. multiprocessing would refuse it in a daemon."""
    assert train(_odd("spawn"), 2) == train(_odd(""), 0)


@pytest.mark.parametrize(
    ("odd", "how"), [("crash_apart", "signal SIGSEGV"), ("leave_apart", "exit status 5")]
)
def test_an_environment_that_ends_its_collector_is_named_as_the_reason(odd: str, how: str) -> None:
    """As in a worker."""
    trainer, _ = _trainer_with(_odd(odd, after=20), 1)
    with pytest.raises(EnvironmentFailedError, match=rf"collector 1 \(.*\) ended with {how}: the"):
        trainer.train(0, None, TrainingWatch(Interruption()))


def test_an_environment_that_ends_its_collector_without_an_error_is_named_too() -> None:
    """Only a process that was told to may end."""
    trainer, _ = _trainer_with(_odd("vanish_apart", after=20), 1)
    with pytest.raises(EnvironmentFailedError, match=r"ended with exit status 0: the environment"):
        trainer.train(0, None, TrainingWatch(Interruption()))


def test_a_collector_that_hangs_is_named_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker. The limit is for each environment of the shards, and begins with each step."""
    monkeypatch.setattr("rl_trainer.gangs.processes.LIMIT_S", 1.0)
    trainer, collectors = _trainer_with(_odd("hang_apart", after=20), 1)
    with pytest.raises(EnvironmentFailedError, match=r"collector 1 .* has not answered for 1 s"):
        trainer.train(0, None, TrainingWatch(Interruption()))
    assert collectors.pids == []


def _document(spec: Spec) -> dict[str, Any]:
    return spec.experiment.model_dump(mode="json", exclude={"name"})


def test_the_number_of_processes_may_change_between_two_segments() -> None:
    """The curve and the digest are those of one process."""
    spec = sharded_spec("ppo", "LunarLander", normalize=True)
    trainer, gang = _trainer_with(spec, 2)
    first = trainer.train(0, None, TrainingWatch(Interruption()))
    assert len(gang.pids) == 2
    gang.processes = 2
    last = trainer.train(1, first.state, TrainingWatch(Interruption()))
    assert len(gang.pids) == 1
    gang.close()
    assert (whole_digest(last), curve(first) + curve(last)) == train(spec, 0)


def _longer(**compute: Any) -> dict[str, Any]:
    """Return a sharded training of twenty segments."""
    document = _document(sharded_spec("ppo", "CartPole", normalize=True))
    return {**document, "total_timesteps": 40_000, "trials": 1, "compute": compute}


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


def test_a_killed_trainer_leaves_no_process_and_a_killed_collector_no_gap(
    trainer: Trainer,
    start_trainer: Callable[..., TrainerProcess],
    tmp_path: Path,
    write_spec: Callable[[dict[str, Any]], Path],
) -> None:
    """The trainer is killed, then a collector. Each start resumes, and the end is the same."""
    store = tmp_path / "killed"
    whole, arguments = (
        ("train", "--spec", str(write_spec(_longer(workers=3))), "--store", str(folder), "--json")
        for folder in (tmp_path / "whole", store)
    )
    first = start_trainer(*arguments)
    _wait_until(lambda: _step(store) >= 2_000, first)
    orphans = _collectors_of(first.pid)
    first.send_signal(signal.SIGKILL)
    first.finish()
    assert len(orphans) == 2
    psutil.wait_procs(orphans, timeout=30)
    assert not any(orphan.is_running() for orphan in orphans)

    killed = _kill_a_collector(start_trainer(*arguments), store)
    assert killed.returncode == 71, killed.stderr
    # Both were killed, and the end of either may be known first.
    assert re.search(r"collector [12] \(process \d+\) was killed", killed.stderr), killed.stderr

    last = json_of(trainer(*arguments))
    assert last["resumed_from"] > 0
    assert last["digest"] == json_of(trainer(*whole))["digest"]


def _kill_a_collector(process: TrainerProcess, store: Path) -> Done:
    before = _step(store)
    _wait_until(lambda: _step(store) > before, process)
    for collector in _collectors_of(process.pid):
        collector.kill()
    return process.finish()
