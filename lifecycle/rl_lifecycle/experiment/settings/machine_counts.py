"""The machines and processes of a trial, compared with the shards that they are to collect."""

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.algorithms import ALGORITHMS, Family
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.hyperparameters import why_too_many_workers
from rl_lifecycle.experiment.settings.shards import SHARDS


def check_machines(compute: Compute, algo: str, shards: int, n_envs: int, source: str) -> None:
    """Refuse machines and processes that would have nothing to collect.

    :param shards: the number that was frozen.
    :raises InvalidExperimentError: with what is allowed.
    """
    if problem := why_too_many_workers(compute.workers, n_envs, shards):
        raise InvalidExperimentError(source, "compute.workers", problem)
    machines = compute.machines
    if machines == 1 and compute.collectors is not None:
        raise InvalidExperimentError(
            source,
            "compute.collectors",
            "is for a trial with several machines: set compute.machines to at least 2, or remove "
            "this key",
        )
    if machines > 1 and ALGORITHMS[algo].family is not Family.ON_POLICY:
        raise InvalidExperimentError(
            source,
            "compute.machines",
            f"is {machines}, but {algo} is not on-policy, so its rollouts cannot be shared: "
            "set it to 1; compute.workers uses more cores of one machine",
        )
    most = compute.max_parallel
    if most is not None and machines > most:
        raise InvalidExperimentError(
            source,
            "compute.max_parallel",
            f"is {most}, but a trial has {machines} machines, and all of them count: set it to at "
            f"least {machines}, or lower compute.machines",
        )
    if machines > shards:
        raise InvalidExperimentError(
            source,
            "compute.machines",
            f"is {machines}, but there {'are' if shards > 1 else 'is'} only {shards} "
            f"shard{'s' * (shards > 1)} to collect: set it to at most {shards}, or set {SHARDS} to "
            f"a divisor of hyperparameters.n_envs = {n_envs} that is at least {machines}",
        )
