"""Hyper-parameters with rl_zoo3's keys: tuned values, and the steps of a rollout and a segment.

Values are data. rl_zoo3 writes some of them as Python expressions (`dict(...)` strings). The
trainer parses these with a whitelist and never evaluates them. Source of the tuned values:
DLR-RM/rl-baselines3-zoo, hyperparams/*.yml (MIT), numbers only.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.algorithms import ALGORITHMS, Family
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.tuned import TUNED

#: On every environment, a segment must be at least this many times as long as the longest episode.
EPISODES_IN_SEGMENT = 10


def resolve_hyperparameters(experiment: Experiment, source: str | None = None) -> dict[str, Any]:
    """Choose the hyper-parameters of a training: those of the experiment, or rl_zoo3's.

    `n_timesteps` is left out, because `total_timesteps` of the experiment replaces it.

    :raises InvalidExperimentError: if the experiment has `zoo`, and no tuned values are known for
        its algorithm and environment.
    """
    if experiment.hyperparameters != "zoo":
        return dict(experiment.hyperparameters)
    tuned = find_tuned(experiment.algo, experiment.env_id)
    if tuned is None:
        known = sorted(TUNED.get(experiment.algo, {}))
        nearest = ", ".join(
            difflib.get_close_matches(experiment.env_id, known, n=3, cutoff=0.3) or known[:3]
        )
        raise InvalidExperimentError(
            source or f"experiments/{experiment.name}.yaml",
            "hyperparameters",
            f"no tuned values for {experiment.algo} on {experiment.env_id}: write them as a "
            "mapping "
            f"({len(known)} environments are known for "
            f"{experiment.algo}{f', nearest: {nearest}' if nearest else ''})",
        )
    return _with_whole_minibatches(experiment.algo, tuned)


def _with_whole_minibatches(algo: str, tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Limit the minibatch to the rollout.

    Some tuned minibatches are larger than a rollout. SB3 then trains on the whole rollout.

    >>> _with_whole_minibatches("ppo", {"n_steps": 8, "n_envs": 1, "batch_size": 256})["batch_size"]
    8
    """
    if ALGORITHMS[algo].family is not Family.ON_POLICY or "batch_size" not in tuned:
        return dict(tuned)
    return {**tuned, "batch_size": min(tuned["batch_size"], rollout_timesteps(algo, tuned))}


def find_tuned(algo: str, env_id: str) -> dict[str, Any] | None:
    """Find rl_zoo3's values. The result is None if it has none.

    MuJoCo's -v5 environments use the values of -v4. They differ only in rewards and observations.

    >>> find_tuned("ppo", "CartPole-v1")["n_steps"], find_tuned("ppo", "CartPole-v99")
    (32, None)
    """
    known, name = TUNED.get(algo, {}), env_id.rsplit(":", 1)[-1]
    return known.get(name) or (
        known.get(f"{name.removesuffix('-v5')}-v4") if name.endswith("-v5") else None
    )


def rollout_timesteps(
    algo: str, hyperparameters: Mapping[str, Any], source: str = "experiment"
) -> int:
    """The environment steps between two updates, of all environments together.

    A segment is a multiple of this number.

    :raises InvalidExperimentError: if a number of steps or environments is not allowed.

    >>> rollout_timesteps("ppo", {"n_envs": 8, "n_steps": 32})
    256
    >>> rollout_timesteps("dqn", {"train_freq": [4, "step"]})
    4
    """
    row = ALGORITHMS[algo]
    if row.family is Family.EPISODES:
        return 1  # a segment may end after any iteration of whole episodes
    n_envs = _count(hyperparameters, "n_envs", 1, source)
    if row.family is Family.ON_POLICY:
        return n_envs * _count(hyperparameters, "n_steps", row.settings["n_steps"], source)
    default = row.settings["train_freq"]
    freq = hyperparameters.get("train_freq", default)
    if not isinstance(freq, list | tuple):
        return n_envs * _count(hyperparameters, "train_freq", default, source)
    if (
        len(freq) != 2
        or freq[1] not in ("step", "episode")
        or not isinstance(freq[0], int)
        or freq[0] < 1
    ):
        raise InvalidExperimentError(
            source,
            "hyperparameters.train_freq",
            f'must be a number, or a pair such as [1, "episode"], not {freq!r}',
        )
    return n_envs * (freq[0] if freq[1] == "step" else 1)


def _count(hyperparameters: Mapping[str, Any], key: str, default: int, source: str) -> int:
    """Read a number of steps or environments: a whole number of at least 1."""
    value = hyperparameters.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidExperimentError(
            source, f"hyperparameters.{key}", f"must be a whole number of at least 1, not {value!r}"
        )
    return value


def count_environments(
    algo: str, hyperparameters: Mapping[str, Any], source: str = "experiment"
) -> int:
    """The environments that a trial steps side by side.

    For an algorithm that plays whole episodes, rl_zoo3's `n_envs` counts worker processes. The
    trainer gives it one environment.

    :raises InvalidExperimentError: if the number is not allowed.

    >>> count_environments("ppo", {"n_envs": 8}), count_environments("ars", {"n_envs": 8})
    (8, 1)
    """
    if ALGORITHMS[algo].family is Family.EPISODES:
        return 1
    return _count(hyperparameters, "n_envs", 1, source)


def why_too_many_workers(workers: Literal["auto"] | int, n_envs: int, shards: int = 1) -> str:
    """Explain why `compute.workers` is too large. The answer is empty if it is not.

    :param shards: with more than one, each process collects at least one of them.

    >>> why_too_many_workers(8, 4)
    'is 8, but a trial has only 4 environments (n_envs); set it to at most 4, or to auto'
    >>> why_too_many_workers(8, 8, shards=4)
    'is 8, but a trial has only 4 shards; set it to at most 4, or to auto'
    >>> why_too_many_workers("auto", 4)
    ''
    """
    most = shards if shards > 1 else n_envs
    if workers == "auto" or workers <= most:
        return ""
    parts = (
        f"{shards} shards" if shards > 1 else f"{n_envs} environment{'s' * (n_envs > 1)} (n_envs)"
    )
    return f"is {workers}, but a trial has only {parts}; set it to at most {most}, or to auto"


def segment_timesteps(checkpoint_every: int, rollout: int) -> int:
    """Round a checkpoint interval to whole rollouts, at least one.

    >>> segment_timesteps(50_000, 16_384)
    49152
    """
    return max(1, round(checkpoint_every / rollout)) * rollout


def check_segment(
    experiment: Experiment,
    segment: int,
    hyperparameters: Mapping[str, Any],
    max_episode_steps: int | None,
    source: str | None = None,
) -> None:
    """Refuse a segment that is so short that the resets at its ends would affect the training.

    :param max_episode_steps: the longest episode of the environment. None means that it has no
        limit. Then only algorithms that play whole episodes are refused.
    :raises InvalidExperimentError: with a value of `checkpoint_every` that is long enough.
    """
    if ALGORITHMS[experiment.algo].family is Family.EPISODES:
        _check_iteration(
            experiment.algo,
            segment,
            hyperparameters,
            max_episode_steps,
            source or f"experiments/{experiment.name}.yaml",
        )
        return
    if max_episode_steps is None:
        return
    n_envs = _count(hyperparameters, "n_envs", 1, source or f"experiments/{experiment.name}.yaml")
    needed = EPISODES_IN_SEGMENT * max_episode_steps * n_envs
    if segment < needed:
        rollout = rollout_timesteps(experiment.algo, hyperparameters)
        raise InvalidExperimentError(
            source or f"experiments/{experiment.name}.yaml",
            "checkpoint_every",
            f"a segment of {segment} steps on {n_envs} environments is shorter than "
            f"{EPISODES_IN_SEGMENT} episodes of "
            f"{max_episode_steps} steps each; set checkpoint_every to at least "
            f"{math.ceil(needed / rollout) * rollout}",
        )


def _check_iteration(
    algo: str,
    segment: int,
    hyperparameters: Mapping[str, Any],
    max_episode_steps: int | None,
    source: str,
) -> None:
    """Refuse a segment that is shorter than one iteration.

    In an iteration, 2 n_delta candidates play whole episodes.
    """
    if max_episode_steps is None:
        raise InvalidExperimentError(
            source,
            "env_id",
            f"{algo} plays whole episodes, so the environment needs a time limit; give "
            "env_kwargs.max_episode_steps",
        )
    defaults = ALGORITHMS[algo].settings
    episodes = 2
    for key in ("n_delta", "n_eval_episodes"):
        episodes *= _count(hyperparameters, key, defaults[key], source)
    if segment < episodes * max_episode_steps:
        raise InvalidExperimentError(
            source,
            "checkpoint_every",
            f"a segment of {segment} steps is shorter than one iteration of {algo}, {episodes} "
            "episodes of "
            f"{max_episode_steps} steps each; set checkpoint_every to at least "
            f"{episodes * max_episode_steps}",
        )
