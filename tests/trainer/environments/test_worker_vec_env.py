"""Environments in workers give the same bytes as in one process, and fail with one line."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.environments.worker import READ_INFOS
from rl_trainer.environments.worker_vec_env import WorkerVecEnv, divide
from rl_trainer.errors import (
    BadInputError,
    EnvironmentFailedError,
    OutOfMemoryError,
    TrainerError,
)
from tests.trainer.chains import TOY
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.environments.processes import (
    is_running,
    make_factory,
    wait_until_ended,
)
from tests.trainer.toy_envs import ACTIONS, OBSERVATIONS

#: Seconds that a prompt answer may take on a busy machine. Alone it takes less than 0.1 s.
PROMPT_S = 20.0
SEEDS = [11, 12, 13, 14, 15]


@contextmanager
def odd(n_envs: int = 4, processes: int = 2, **env_kwargs: Any) -> Iterator[WorkerVecEnv]:
    """Make odd environments, reset them, and close them in the end."""
    factory = make_factory(ODD, env_kwargs, n_envs)
    env = factory.make_plain(SEEDS[:n_envs], processes)
    assert isinstance(env, WorkerVecEnv)
    try:
        env.reset()
        yield env
    finally:
        env.close()


def step(env: VecEnv, number: int = 0) -> Any:
    """Step with actions that differ from step to step and from environment to environment."""
    rows = [[np.sin(number + row), np.cos(number - row)] for row in range(env.num_envs)]
    return env.step(np.array(rows, np.float32))


def flat(value: Any) -> list[bytes]:
    """Return the bytes of an observation's parts."""
    parts = list(value.values()) if isinstance(value, dict) else [value]
    return [str(part.dtype).encode() + part.tobytes() for part in parts]


def played(env: VecEnv, steps: int = 60) -> list[Any]:
    """Play sampled actions, and return all that training reads."""
    space = pickle.loads(pickle.dumps(env.action_space))
    space.seed(3)
    found: list[Any] = [flat(env.reset())]
    for number in range(steps):
        actions = np.array([space.sample() for _ in range(env.num_envs)])
        observations, rewards, ends, infos = env.step(actions)
        found.append((*flat(observations), rewards.tobytes(), ends.tobytes()))
        for info in infos:
            last = info.get("terminal_observation")
            episode = info.get("episode", {})
            found.append(
                (
                    bool(info["TimeLimit.truncated"]),
                    None if last is None else flat(last),
                    (episode.get("r"), episode.get("l"), info.get("is_success")),
                )
            )
        if number == steps // 2:
            found.append(flat(env.reset()))
    found.append([env.env_method("get_episode_rewards"), env.env_method("get_episode_lengths")])
    env.close()
    return found


@pytest.mark.parametrize("observation", sorted(OBSERVATIONS))
@pytest.mark.parametrize("processes", [2, 5])
def test_every_observation_space_gives_the_same_bytes(observation: str, processes: int) -> None:
    """Observations, rewards, ends, last observations and episodes, with resets between."""
    factory = make_factory(TOY, {"observation": observation}, len(SEEDS))
    here, apart = factory.make_plain(SEEDS, 1), factory.make_plain(SEEDS, processes)
    assert isinstance(apart, WorkerVecEnv)
    assert played(here) == played(apart)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_space_gives_the_same_bytes(action: str) -> None:
    """Also the rewards, which the toy computes from the action's type and value."""
    factory = make_factory(TOY, {"action": action}, len(SEEDS))
    assert played(factory.make_plain(SEEDS, 1)) == played(factory.make_plain(SEEDS, 3))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "LunarLander-v3"])
def test_gymnasiums_environments_give_the_same_bytes(env_id: str) -> None:
    """Environments that are used in practice draw from their own generators."""
    factory = make_factory(env_id, n_envs=3)
    assert played(factory.make_plain(SEEDS[:3], 1)) == played(factory.make_plain(SEEDS[:3], 2))


@pytest.mark.parametrize(
    "wrapper",
    ["sb3_contrib.common.wrappers.TimeFeatureWrapper", "gymnasium.wrappers.FlattenObservation"],
)
def test_wrappers_are_made_in_the_workers(wrapper: str) -> None:
    """An experiment's wrappers are around each environment, wherever it is."""
    factory = make_factory(TOY, {"observation": "matrix"}, len(SEEDS), env_wrapper=wrapper)
    if "TimeFeature" in wrapper:
        factory = make_factory(TOY, {}, len(SEEDS), env_wrapper=wrapper)
    assert played(factory.make_plain(SEEDS, 1)) == played(factory.make_plain(SEEDS, 3))


def test_the_infos_that_nothing_reads_stay_in_the_worker() -> None:
    """One of them could not even be pickled. The trainer's own environments keep all of theirs."""
    with odd() as env:
        *_, infos = step(env)
        assert {"TimeLimit.truncated", "is_success"} <= set(infos[3]) <= set(READ_INFOS)
        assert "lambda" in infos[0]


def test_an_environment_can_keep_its_last_action() -> None:
    """Its reward depends on the last action, whose array must not change with the next one."""
    with odd() as env:
        for number in range(5):
            rewards = step(env, number)[1]
        assert (rewards > 0.1).all()


def test_methods_and_attributes_reach_the_environments_by_index() -> None:
    """`env_method`, `get_attr`, `set_attr`, `has_attr` and `env_is_wrapped` as in one process."""
    with odd(n_envs=5, processes=3) as env:
        pids = env.env_method("where")
        assert [len(set(pids[low:high])) for low, high in divide(5, 3)] == [1, 1, 1]
        assert pids[0] == os.getpid()
        assert len(set(pids)) == 3
        assert env.env_method("where", indices=[4, 0]) == [pids[4], pids[0]]
        assert env.env_method("where", indices=1) == [pids[1]]
        env.set_attr("mark", 7, indices=[0, 3])
        assert env.get_attr("mark", indices=[3, 0]) == [7, 7]
        assert env.has_attr("odd")
        assert not env.has_attr("mark")
        assert not env.has_attr("nothing")
        assert env.env_is_wrapped(Monitor) == [True] * 5
        with pytest.raises(AttributeError):
            env.get_attr("nothing", indices=[4])
        assert env.get_attr("odd") == [""] * 5  # the answers after an error are the right ones


@pytest.mark.parametrize("env_id", [TOY, "CartPole-v1"])
def test_first_actions_are_drawn_from_the_same_space(env_id: str) -> None:
    """Also if all environments of a process have one space, which the last one seeds."""
    factory = make_factory(env_id, n_envs=len(SEEDS))
    drawn = []
    for processes in (1, 2, 5):
        env = factory.make_plain(SEEDS, processes)
        drawn.append([int(env.action_space.sample()) for _ in range(40)])
        env.close()
    assert drawn[0] == drawn[1] == drawn[2]


def test_the_largest_reward_is_that_of_all_processes() -> None:
    """The check for divergence needs it."""
    with odd() as env:
        rewards = [step(env, number)[1] for number in range(3)]
        assert env.largest_reward == pytest.approx(np.abs(rewards).max(), rel=1e-6)


def test_actions_of_another_shape_are_refused() -> None:
    """The shared memory has room for the actions of the space only."""
    with odd() as env, pytest.raises(ValueError, match="broadcast"):
        env.step(np.zeros((4, 3), np.float32))


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("die", OutOfMemoryError, r"worker 2 \(environments 2 to 3\) was killed \(SIGKILL\)"),
        ("crash", EnvironmentFailedError, r"worker 2 \(environments 2 to 3\) .* signal SIGSEGV"),
        ("leave", EnvironmentFailedError, r"worker 2 \(environments 2 to 3\) .* exit status 5"),
    ],
)
def test_a_worker_that_ends_is_named_at_once(
    what: str, error: type[TrainerError], words: str
) -> None:
    """The error names the worker, its environments and how it ended."""
    with odd() as env:
        step(env)
        env.env_method("become", what, indices=[3])
        began = time.monotonic()
        with pytest.raises(error, match=words):
            step(env, 1)
        assert time.monotonic() - began < PROMPT_S


def test_a_worker_that_is_killed_between_steps_is_named() -> None:
    """The next message finds the end of its pipe."""
    with odd() as env:
        (pid,) = env.env_method("where", indices=[2])
        os.kill(pid, signal.SIGKILL)
        wait_until_ended([pid])
        with pytest.raises(OutOfMemoryError, match=r"worker 2 \(environments 2 to 3\)"):
            step(env)


def test_a_dead_worker_is_noticed_while_another_one_is_slow() -> None:
    """The trainer waits for all workers at once, and not for one after the other."""
    with odd(processes=4) as env:
        env.env_method("become", step_s=3600.0, indices=[1])
        env.env_method("become", "die", indices=[3])
        began = time.monotonic()
        with pytest.raises(OutOfMemoryError, match="worker 4"):
            step(env)
        assert time.monotonic() - began < PROMPT_S
        env._finalizer()  # closing would wait for the step of the slow one


def test_a_worker_that_hangs_is_named_at_the_limit() -> None:
    """It is killed afterwards, also if it ignores signals."""
    with odd() as env:
        (pid,) = env.env_method("where", indices=[2])
        env.env_method("become", "hang", indices=[2])
        env.limit_s = 0.5
        began = time.monotonic()
        with pytest.raises(EnvironmentFailedError, match=r"worker 2 .* has not answered for 1 s"):
            step(env)
        assert 0.9 < time.monotonic() - began < 1 + PROMPT_S
        env._finalizer()  # closing would wait for it
        wait_until_ended([pid])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("exit", r"the environment raised an error in step\(\): SystemExit: 3"),
        ("fail", r"the environment raised an error in step\(\): .*: the simulator has gone"),
    ],
)
def test_an_error_in_a_worker_is_that_of_one_process(what: str, words: str) -> None:
    """The trainer's exit status and message are the same, and the traceback is a note."""
    with odd() as env:
        env.env_method("become", what, indices=[3])
        with pytest.raises(EnvironmentFailedError, match=words) as raised:
            step(env)
        assert "odd_envs.py" in raised.value.__notes__[0]
        env.env_method("become", "", indices=[3])
        step(env)  # no answer is left from the step that failed


def test_an_environment_that_cannot_be_made_in_a_worker_is_an_error() -> None:
    """The error is that of the environment, and no process is left."""
    factory = make_factory(ODD)
    before = set(multiprocessing.active_children())

    def makers(seeds: Any) -> Any:
        made: Any = factory.makers(seeds)
        return made

    with pytest.raises((AttributeError, pickle.PicklingError)):
        WorkerVecEnv(makers, SEEDS[:4], 2)
    assert set(multiprocessing.active_children()) <= before
    with pytest.raises(BadInputError, match="Odd-v0 cannot be made: there is no display"):
        WorkerVecEnv(make_factory(ODD, {"only_here": True}).makers, SEEDS[:4], 2)
    assert set(multiprocessing.active_children()) <= before


def test_closed_environments_leave_no_process() -> None:
    """Also those whose object is forgotten."""
    with odd(processes=4) as env:
        pids = [pid for pid in env.env_method("where") if pid != os.getpid()]
        assert all(map(is_running, pids))
    wait_until_ended(pids, 5)
    with odd(processes=2) as env:
        pids = [pid for pid in env.env_method("where") if pid != os.getpid()]
        env._finalizer()
        wait_until_ended(pids, 5)


def test_signals_to_the_group_are_for_the_trainer() -> None:
    """A worker lives on after SIGTERM and SIGINT, and so does the process that makes workers."""
    with odd() as env:
        (pid,) = env.env_method("where", indices=[2])
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
            os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, number)  # type: ignore[attr-defined]
        step(env)
        assert is_running(pid)
    with odd() as env:
        step(env)


def test_the_blocks_cover_all_environments_in_order() -> None:
    """The trainer's own block is never the largest."""
    for n_envs in range(1, 40):
        for processes in range(1, n_envs + 1):
            blocks = divide(n_envs, processes)
            assert [index for low, high in blocks for index in range(low, high)] == list(
                range(n_envs)
            )
            sizes = [high - low for low, high in blocks]
            assert min(sizes) == sizes[0] >= 1
            assert max(sizes) - min(sizes) <= 1
