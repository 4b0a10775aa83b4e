"""Any number of machines, which join, leave and are lost: the same bytes and curves."""

import signal
from typing import Any

import pytest

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.checkpointing.model_state import capture_normalisation, capture_policy
from rl_trainer.gangs.gang import Gang, GangJob
from rl_trainer.gangs.roster import Roster
from rl_trainer.shards.learning import LocalCollectors
from rl_trainer.training.preparation import make_trainer
from tests.trainer.conftest import Trainer, Zygote
from tests.trainer.gangs.machines import listening_addresses, wake
from tests.trainer.gangs.stage import PACED, Stage, curves, document


@pytest.fixture(scope="module")
def alone(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Any]]:
    """The digest and the curves of the paced training on one machine."""
    folder = tmp_path_factory.mktemp("alone")
    stage = Stage(folder, lambda *arguments: zygote.start(list(arguments), folder))
    return stage.alone(document(**PACED))


@pytest.mark.parametrize(
    ("algo", "environment", "normalize"),
    [
        ("ppo", "CartPole", True),
        ("a2c", "LunarLander", False),
        ("ppo", "Dict", True),
    ],
)
def test_one_two_and_four_machines_give_the_same_bytes_and_curves(
    stage: Stage, algo: str, environment: str, normalize: bool
) -> None:
    """And one generation is enough, if nothing happens to them."""
    experiment = document(algo, environment, normalize=normalize)
    wanted = stage.alone(experiment)
    for number in (2, 4):
        machines = stage.machines(experiment, number)
        machines.boot(range(number))
        assert (machines.to_the_end()["digest"], curves(machines.store)) == wanted
        [generation] = machines.generations
        assert {member["seat"] for member in generation["members"]} == set(range(number))


def test_machines_join_and_leave_at_the_ends_of_segments(
    stage: Stage, alone: tuple[str, list[Any]]
) -> None:
    """A machine that joins, and one that leaves after a notice, cost no segment."""
    machines = stage.machines(document(**PACED), 3)
    machines.gather_s = 3.0
    machines.boot([0, 1])
    machines.until(lambda: machines.seats_now() == {0, 1})
    machines.join(2)
    assert machines.seats_now() == {0, 1, 2}
    machines.kill(1, signal.SIGTERM)
    machines.until(lambda: (1, 75) in machines.ends)
    machines.join(1)
    assert (machines.gang["lost"], machines.gang["joined"]) == (0, 3)
    assert machines.to_the_end()["digest"] == alone[0]


def test_a_machine_that_vanishes_is_left_out_and_comes_back(
    stage: Stage, alone: tuple[str, list[Any]]
) -> None:
    """Its connections stay open, so only its silence tells. The others keep their machines."""
    machines = stage.machines(document(**PACED), 3)
    machines.boot(range(3))
    machines.until(lambda: machines.seats_now() == {0, 1, 2} and machines.step > 0)
    pids = [machines.processes[seat].pid for seat in (0, 1)]
    step = machines.step
    machines.vanish(2)
    machines.until(lambda: machines.gang["lost"] == 1 and machines.step > step)
    assert machines.seats_now() == {0, 1}
    machines.wake(2)
    machines.join(2)
    assert [machines.processes[seat].pid for seat in (0, 1)] == pids
    assert machines.to_the_end()["digest"] == alone[0]


def test_a_learner_is_killed_while_a_machine_joins(
    stage: Stage, alone: tuple[str, list[Any]]
) -> None:
    """The next learner has a higher attempt, and everybody joins that one."""
    machines = stage.machines(document(**PACED), 3)
    machines.gather_s = 3.0
    machines.boot([0, 1])
    machines.until(lambda: machines.seats_now() == {0, 1} and machines.step > 0)
    before = len(machines.generations)
    machines.boot([2])
    machines.until(lambda: len(machines.generations) > before)
    machines.kill(0)
    machines.until(lambda: machines.generations[-1]["attempt"] == 2)
    machines.until(lambda: machines.seats_now() == {0, 1, 2})
    assert machines.to_the_end()["digest"] == alone[0]


def test_two_gangs_train_at_once_and_listen_only_on_their_own_addresses(
    stage: Stage, alone: tuple[str, list[Any]]
) -> None:
    """Each machine listens on its own address alone, and the gangs do not mix."""
    gangs = [stage.machines(document(**PACED), 2) for _ in range(2)]
    for machines in gangs:
        machines.boot(range(2))
    for machines in gangs:
        machines.until(lambda machines=machines: machines.seats_now() == {0, 1})  # type: ignore[misc]
        for seat, process in machines.processes.items():
            assert listening_addresses(process.pid) == {machines.address(seat)}
    assert [machines.to_the_end()["digest"] for machines in gangs] == [alone[0]] * 2


def test_a_zombie_learner_neither_collects_nor_commits(
    stage: Stage, alone: tuple[str, list[Any]]
) -> None:
    """A learner that was stopped wakes up when its successor has taken over."""
    machines = stage.machines(document(**PACED), 2)
    machines.boot(range(2))
    machines.until(lambda: machines.seats_now() == {0, 1} and machines.step > 0)
    machines.vanish(0)
    zombie = machines.processes[0]
    machines.boot([0])
    machines.until(lambda: machines.generations[-1]["attempt"] == 2)
    wake(zombie.pid)
    assert zombie.finish().returncode == 76
    assert machines.to_the_end()["digest"] == alone[0]


def test_an_error_of_an_environment_in_a_collector_is_the_trials_error(stage: Stage) -> None:
    """The learner ends with the message and exit status 72, and the collector ends, too."""
    machines = stage.machines(document(**PACED), 2)
    machines.boot(range(2))
    machines.until(lambda: machines.seats_now() == {0, 1})
    machines.pace(-1)
    learner = machines.processes[0].finish()
    assert learner.returncode == 72, learner.stderr
    assert "the simulator has exploded" in learner.stderr
    assert machines.processes[1].finish(60).returncode == 0


def test_a_learner_with_a_gpu_waits_for_machines_and_collects_nothing(stage: Stage) -> None:
    """The rollouts are those of one process, and the class is that of the first machine."""
    path = stage.write(document(), 2)
    spec = Spec.from_json(path.read_bytes())
    store = DirectoryStore(stage.folder / "gpu")
    trainer = make_trainer(spec, "seed-0", None)
    model = trainer.prepare(0, None)
    base = capture_policy(model) | capture_normalisation(model.get_vec_normalize_env())
    waits: list[str] = []

    def wait(problem: str) -> None:
        if not waits:
            where = ("--spec", str(path), "--store", str(stage.folder / "gpu"))
            stage.start("collect", "--seat", "1", "--address", "127.9.99.2", *where)
        waits.append(problem)

    chain = CheckpointChain(store, spec.trial_id("seed-0"), 1, spec.sha256, 1)
    chain.take_over()
    roster = Roster(store, spec.trial_id("seed-0"), 1, 2, None)
    job = GangJob(spec, "seed-0", trainer.work, "127.9.99.1", learner_collects=False, waiting=wait)
    gang = Gang(job, roster)
    gang.begin(0)
    rollouts = gang.collect(base, lambda _steps: None)
    report = gang.report
    gang.close()

    assert waits[0] == "waits for the machine of seat 1"
    assert report is not None
    assert [(one.seat, one.shards) for one in report.members] == [(0, 0), (1, 5)]
    assert len(gang.collectors_class) == 12
    alone = LocalCollectors(trainer.work)
    alone.begin(0)
    for ours, theirs in zip(rollouts, alone.collect(base, lambda _steps: None), strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.tobytes() == theirs[name].tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("collect", "--seat", "2"),
            "rl_trainer collect: --seat 2: the trial has 2 machines, so its seats are 0 to 1; "
            "set compute.machines of the experiment",
        ),
        (
            ("collect", "--seat", "1", "--address", "here"),
            "python -m rl_trainer collect: argument --address: must be an IP address such as "
            "10.64.0.7, not 'here'; see python -m rl_trainer collect --help",
        ),
        (
            ("train", "--address", "0.0.0.0"),
            "python -m rl_trainer train: argument --address: must be one machine's own address, "
            "not '0.0.0.0'; see python -m rl_trainer train --help",
        ),
        (
            ("train", "--address", "192.0.2.1"),  # of documentation, so no machine has it
            "python -m rl_trainer train: argument --address: must be an IPv4 address of this "
            "machine, not '192.0.2.1'; see python -m rl_trainer train --help",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    stage: Stage, trainer: Trainer, arguments: tuple[str, ...], words: str
) -> None:
    """The exit status is 2."""
    spec = stage.write(document(), 2)
    done = trainer(*arguments, "--spec", str(spec), "--store", str(stage.folder / "store"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == words
