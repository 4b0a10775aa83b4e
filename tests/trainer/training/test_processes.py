"""How many processes step the environments: the choice, its reason, and what changes it later."""

import pytest

from rl_trainer.attempts.processes import Processes, choose_again, choose_processes, usable_cores
from rl_trainer.errors import BadInputError
from tests.trainer.chains import TOY
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.environments.processes import make_factory


def test_a_cheap_environment_gets_one_process() -> None:
    """The messages would cost more than the steps."""
    chosen = choose_processes("auto", make_factory(TOY), 1, cores=8)
    assert chosen.number == 1
    assert chosen.describe(4).startswith(
        "1 process steps 4 environments on 8 cores: a step takes only 0."
    )


def test_an_expensive_environment_gets_the_cores() -> None:
    """As many processes as cores, and as environments."""
    chosen = choose_processes("auto", make_factory(ODD, {"step_s": 0.01}), 1, cores=2)
    assert chosen.number == 2
    assert "so 2 processes are 2.0 times as fast" in chosen.reason
    assert chosen.facts["workers"] == 2
    assert chosen.facts["step_ms"] >= 10


@pytest.mark.parametrize("asked", ["auto", 4])
def test_an_environment_that_depends_on_its_process_gets_one(asked: str | int) -> None:
    """Whatever was asked for, because the bytes are promised. The reason says why."""
    factory = make_factory(ODD, {"odd": "draw_numpy", "step_s": 0.002})
    chosen = choose_processes(asked, factory, 1, cores=4)  # type: ignore[arg-type]
    assert chosen.number == 1
    assert "draws from its process's generator numpy.random" in chosen.reason


def test_an_environment_that_fails_in_a_worker_is_refused_if_workers_were_asked_for() -> None:
    """With `auto` it gets one process."""
    factory = make_factory(ODD, {"only_here": True, "step_s": 0.002})
    with pytest.raises(BadInputError) as raised:
        choose_processes(2, factory, 1)
    assert str(raised.value) == (
        f"compute.workers: {ODD} works in one process, and fails in several: env_id: {ODD} cannot "
        "be made: there is no display; set compute.workers: 1"
    )
    chosen = choose_processes("auto", factory, 1, cores=4)
    assert chosen.number == 1
    assert "there is no display" in chosen.reason


def test_more_workers_than_environments_are_refused() -> None:
    """The sentence says what to set."""
    with pytest.raises(BadInputError, match=r"^compute.workers: is 5, .* only 4 environments"):
        choose_processes(5, make_factory(TOY), 1)


@pytest.mark.parametrize(
    ("asked", "n_envs", "cores", "reason"),
    [
        (1, 4, 8, "compute.workers is 1"),
        ("auto", 1, 8, "there is one environment"),
        ("auto", 4, 1, "the machine has one core"),
    ],
)
def test_without_a_choice_nothing_is_played(
    asked: str | int, n_envs: int, cores: int, reason: str
) -> None:
    """An environment that hangs would be noticed here."""
    factory = make_factory(ODD, {"odd": "hang"}, n_envs)
    chosen = choose_processes(asked, factory, 1, cores=cores)  # type: ignore[arg-type]
    assert (chosen.number, chosen.reason, chosen.step_s) == (1, reason, None)


def test_each_process_collects_whole_shards() -> None:
    """A shard is not divided, and several machines share the shards."""
    factory = make_factory(ODD, {"step_s": 0.01}, 8)
    chosen = choose_processes("auto", factory, 1, cores=8, shards=4)
    assert (chosen.number, chosen.parts, chosen.envs_per_part) == (4, 4, 2)
    halved = choose_processes("auto", factory, 1, cores=8, shards=4, machines=2)
    assert (halved.number, halved.parts) == (2, 2)
    with pytest.raises(BadInputError, match="is 5, but a trial has only 4 shards; set it to"):
        choose_processes(5, factory, 1, shards=4)


def test_an_environment_that_needs_one_process_cannot_be_on_several_machines() -> None:
    """Nothing is trained, because it would end with other bytes."""
    factory = make_factory(ODD, {"odd": "draw_numpy"}, 4)
    with pytest.raises(BadInputError, match=r"^compute.machines: .*numpy.random.*; set it to 1$"):
        choose_processes(1, factory, 1, shards=4, machines=2)
    assert choose_processes(2, factory, 1, shards=4).number == 1


def test_slow_updates_take_the_workers_back() -> None:
    """After a segment the time of the updates is known. A gain below 1.3 is too small."""
    first = Processes(4, "a step takes 1.00 ms", cores=4, step_s=0.001, parts=16)
    assert choose_again(first, steps_per_s=3000.0).number == 4
    again = choose_again(first, steps_per_s=100.0)
    assert again.number == 1
    assert "so 4 processes would be only 1.1 times as fast" in again.reason
    one = Processes(1, "a step takes only 0.01 ms", cores=4, step_s=0.00001, parts=16)
    assert choose_again(one, steps_per_s=100.0) is one


def test_the_cores_are_those_that_this_process_may_use() -> None:
    """At least the one that runs this test."""
    assert usable_cores() >= 1
