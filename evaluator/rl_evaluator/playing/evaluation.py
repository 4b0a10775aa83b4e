"""Evaluate a policy on consecutive seeds, and return the result as a shard."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import onnxruntime as ort

from rl_evaluator.errors import EnvironmentFailedError
from rl_evaluator.playing.environments import close_environment, environment_maker, make_environment
from rl_evaluator.playing.episodes import Episode, run_episodes
from rl_evaluator.playing.policies import Policy
from rl_evaluator.playing.spaces import check_spaces, describe_space
from rl_evaluator.playing.wrappers import wrap_environment
from rl_lifecycle.evaluation.action_masks import METHOD
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.experiment.evaluation_settings import UNDISTURBED, Perturbation

#: The greatest number of different problems of lost episodes that a shard lists.
MOST_PROBLEMS = 5


@dataclass(frozen=True)
class Task:
    """The environment, the seeds and the kind of actions of the episodes to run.

    :param refuse_endless: whether an episode that does not end is an error. False loses it.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    first_seed: int
    n_episodes: int
    deterministic: bool = True
    perturbation: Perturbation = UNDISTURBED
    refuse_endless: bool = False


def evaluate(
    policy: Policy,
    task: Task,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = time.perf_counter,
) -> Shard:
    """Run the task's episodes.

    :param keep_going: called at every step. If it returns False, the evaluation stops. The shard
        then has all ended episodes before the first seed that has not ended, and can be empty. So
        the missing seeds are one range, which the caller can request. This causes no bias, because
        a seed has the same return at any time, and the missing seeds are run, too.
    :raises EnvironmentFailedError: if the environment cannot be made.
    :raises SpaceMismatchError: if the policy was trained for other spaces.
    :raises EndlessEpisodeError: if the task refuses such episodes.
    """
    check_fits(policy, task.env_id, task.env_kwargs)

    started = clock()
    episodes = run_episodes(
        policy,
        environment_maker(task.env_id, task.env_kwargs, task.perturbation),
        range(task.first_seed, task.first_seed + task.n_episodes),
        deterministic=task.deterministic,
        keep_going=keep_going,
        refuse_endless=task.refuse_endless,
    )
    return _shard(policy, task, _prefix(episodes, task), clock() - started)


def check_fits(policy: Policy, env_id: str, env_kwargs: Mapping[str, Any]) -> None:
    """Compare a policy's spaces with an environment's, and look for the action masks it needs.

    :raises EnvironmentFailedError: if the environment cannot be made, or has no action masks.
    :raises SpaceMismatchError: if a space differs; the message names the space.
    """
    env = wrap_environment(make_environment(env_id, env_kwargs), policy.metadata.wrappers, env_id)
    try:
        check_spaces(
            env_id,
            (policy.metadata.observation_space, describe_space(env.observation_space, env_id)),
            (policy.metadata.action_space, describe_space(env.action_space, env_id)),
        )
        if policy.metadata.action_masks and not env.has_wrapper_attr(METHOD):
            raise EnvironmentFailedError(
                env_id,
                f"its policy was trained under action masks, but it has no method {METHOD}(); "
                "evaluate the policy on the environment that it was trained on",
            )
    finally:
        close_environment(env)


def _prefix(episodes: Mapping[int, Episode], task: Task) -> list[Episode]:
    kept: list[Episode] = []
    for seed in range(task.first_seed, task.first_seed + task.n_episodes):
        if seed not in episodes:
            break
        kept.append(episodes[seed])
    return kept


def _shard(policy: Policy, task: Task, episodes: list[Episode], seconds: float) -> Shard:
    problems = dict.fromkeys(f"seed {one.seed}: {one.problem}" for one in episodes if one.problem)
    return Shard(
        env_id=task.env_id,
        env_kwargs=dict(task.env_kwargs),
        perturbation=task.perturbation,
        policy_sha256=policy.sha256,
        policy_digest=policy.metadata.digest,
        deterministic=task.deterministic,
        first_seed=task.first_seed,
        returns=tuple(one.total for one in episodes),
        lengths=tuple(one.length for one in episodes),
        ends=tuple(one.end for one in episodes),
        steps=sum(one.length or 0 for one in episodes),
        seconds=round(seconds, 6),
        versions=versions(),
        problems=tuple(problems)[:MOST_PROBLEMS],
    )


def versions() -> dict[str, str]:
    """Return the versions of the libraries and the kind of machine that returns may depend on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
        "gymnasium": gymnasium.__version__,
        "machine": platform.machine(),
    }
