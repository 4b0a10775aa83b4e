"""Play environments together in this process, and apart in workers, and compare what they give.

An environment whose numbers depend on its process must be stepped in one process. This is so if it
draws from global random generators, or shares state with the other environments of its process.
"""

import copy
import hashlib
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from rl_lifecycle.evaluation.action_masks import METHOD, allowed_options
from rl_trainer.environments.action_masks import choices_of
from rl_trainer.environments.factory import (
    EnvironmentFactory,
    environment_seed,
    used_generators,
)

#: How many environments are played, how many steps of each, and how many seconds at most.
ENVIRONMENTS = 3
STEPS = 200
SECONDS = 2.0
#: The fewest steps of each, however long they take.
LEAST_STEPS = 4


@dataclass(frozen=True)
class Played:
    """What environments have returned.

    :param digests: one of each step, over everything that training reads. Resets count as steps.
    :param step_s: seconds of one step of one environment. It is a median, because a busy machine
        makes some steps look long.
    """

    digests: tuple[str, ...]
    step_s: float


def play_together(factory: EnvironmentFactory, trial_seed: int) -> Played:
    """Play some environments in this process, and measure how long a step takes."""
    environments = factory.make_plain(_seeds(factory, trial_seed), processes=1)
    try:
        return _play(environments, factory, STEPS, SECONDS)
    finally:
        environments.close()


def why_not_apart(factory: EnvironmentFactory, trial_seed: int, together: Played) -> str:
    """Play the same environments in a process each, and explain the first difference.

    :return: empty if there is none.
    :raises TrainerError: if an environment cannot be made or stepped in a worker.
    """
    name, seeds = factory.env_id, _seeds(factory, trial_seed)
    environments = factory.make_plain(seeds, processes=len(seeds))
    try:
        apart = _play(environments, factory, len(together.digests), None)
        if drawn := used_generators(environments):
            return (
                f"{name} draws from its process's generator {drawn}; with self.np_random it could "
                "be stepped in several processes"
            )
    finally:
        environments.close()
    pairs = zip(together.digests, apart.digests, strict=True)
    for step, (here, there) in enumerate(pairs):
        if here != there:
            return (
                f"{name} gives other numbers in a process of its own, from step {step} on, so it "
                "shares state with other environments"
            )
    return ""


def _seeds(factory: EnvironmentFactory, trial_seed: int) -> list[int]:
    count = min(ENVIRONMENTS, factory.settings.n_envs)
    return [environment_seed(trial_seed, 0, rank) for rank in range(count)]


def _play(
    environments: VecEnv, factory: EnvironmentFactory, steps: int, seconds: float | None
) -> Played:
    """Play random actions, with a reset in the middle. The actions are the same in every call.

    :param steps: the number of digests.
    :param seconds: None means that all steps are played.
    """
    digests: list[str] = []
    actions = _actions(environments, masks=factory.settings.algorithm.action_masks)
    durations: list[float] = []
    began = time.perf_counter()
    while len(digests) < steps:
        if len(digests) in (0, LEAST_STEPS, STEPS // 2):
            digests.append(_digest(environments.reset()))
            continue
        given = next(actions)
        started = time.perf_counter()
        observations, rewards, ends, infos = environments.step(given)
        durations.append(time.perf_counter() - started)
        last = [info.get("terminal_observation") for info in infos]
        digests.append(_digest(observations, rewards, ends, *last))
        spent = time.perf_counter() - began
        if seconds is not None and spent > seconds and len(digests) > LEAST_STEPS:
            break
    return Played(tuple(digests), statistics.median(durations) / environments.num_envs)


def _actions(environments: VecEnv, *, masks: bool) -> Iterator[Any]:
    """Draw actions for all environments, without the environments' own generators.

    :param masks: whether only allowed actions may be taken.
    """
    space = copy.deepcopy(environments.action_space)
    space.seed(0)
    for _ in itertools.count():
        drawn = [space.sample() for _ in range(environments.num_envs)]
        if masks:
            allowed = environments.env_method(METHOD)
            drawn = [
                _allowed(action, mask, space) for action, mask in zip(drawn, allowed, strict=True)
            ]
        yield np.array(drawn)


def _allowed(action: Any, mask: Any, space: spaces.Space[Any]) -> Any:
    options = allowed_options(
        np.asarray(action, np.int64).reshape(-1).tolist(),
        np.asarray(mask, bool).reshape(-1).tolist(),
        choices_of(space),
    )
    return np.array(options, np.int64).reshape(space.shape or ())


def _digest(*values: Any) -> str:
    digest = hashlib.sha256()
    for value in values:
        _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        for part in value.values():
            _add(digest, part)
    elif isinstance(value, tuple):
        for part in value:
            _add(digest, part)
    elif value is not None:
        digest.update(np.ascontiguousarray(value).tobytes())
