"""What the tests know about processes: which run, and which environments they step."""

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.settings.model_settings import read_settings


def make_factory(
    env_id: str,
    env_kwargs: dict[str, Any] | None = None,
    n_envs: int = 4,
    algo: str = "ppo",
    **hyperparameters: Any,
) -> EnvironmentFactory:
    """Make a factory of environments for an algorithm."""
    settings = read_settings(algo, {"n_envs": n_envs, **hyperparameters})
    return EnvironmentFactory(env_id, env_kwargs or {}, settings)


def is_running(pid: int) -> bool:
    """Tell whether a process runs. A process that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children_of(pid: int) -> set[int]:
    """Return the ids of a process's children and of all their children."""
    direct = _direct_children(pid)
    return direct.union(*(children_of(child) for child in direct))


def _direct_children(pid: int) -> set[int]:
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the process has just ended
            found |= set(map(int, path.read_text().split()))
    return found


def workers_of(trainer: int) -> set[int]:
    """Return the ids of a trainer's workers, which are children of its fork server."""
    direct = _direct_children(trainer)
    return {worker for child in direct for worker in _direct_children(child)}


def wait_until_ended(pids: Iterable[int], seconds: float = 20.0) -> float:
    """Wait until none of these processes runs.

    :return: the seconds that it took.
    """
    return wait_until(lambda: not any(is_running(pid) for pid in pids), seconds)


def wait_until(done: Callable[[], bool], seconds: float = 60.0) -> float:
    """Wait until something is so. :return: the seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, "it took too long"
        time.sleep(0.01)
    return time.monotonic() - began
