"""Choose how many processes step the environments of a trial."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from rl_lifecycle.experiment.hyperparameters import why_too_many_workers
from rl_lifecycle.machines.worker_counts import StepCosts, WorkerChoice, choose_workers
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.environments.rehearsal import Played, play_together, why_not_apart
from rl_trainer.environments.worker_vec_env import start_fork_server
from rl_trainer.errors import BadInputError, EnvironmentFailedError

Asked = Literal["auto"] | int


@dataclass(frozen=True)
class Processes:
    """The number of processes that step the environments, why, and what a step takes.

    :param step_s: seconds of one environment step; None if it was not measured.
    """

    number: int
    reason: str
    cores: int
    step_s: float | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The values for the journal."""
        step_ms = None if self.step_s is None else round(1000 * self.step_s, 4)
        return {"workers": self.number, "cores": self.cores, "step_ms": step_ms}

    def describe(self, n_envs: int) -> str:
        """Return a sentence for the log."""
        environments = f"{n_envs} environment{'s' * (n_envs > 1)}"
        return (
            f"{self.number} process{'es step' if self.number > 1 else ' steps'} {environments} on "
            f"{self.cores} core{'s' * (self.cores > 1)}: {self.reason}"
        )


def choose_processes(
    asked: Asked,
    factory: EnvironmentFactory,
    trial_seed: int,
    cores: int | None = None,
    n_shards: int = 1,
) -> Processes:
    """Choose before the first segment. This plays some steps of the environments.

    Environments that need one process get one, whatever was asked for.

    :param asked: `compute.workers`.
    :param cores: None means those that this process may use.
    :param n_shards: the process that collects a shard also steps its environments.
    :raises BadInputError: if more workers than environments were asked for, or if an environment
        cannot be stepped in a worker.
    """
    n_envs, cores = factory.settings.n_envs, cores or usable_cores()
    if problem := why_too_many_workers(asked, n_envs):
        raise BadInputError(f"compute.workers: {problem}")
    if n_shards > 1:
        return Processes(1, "they are a shard's, and compute.workers is not for shards", cores)
    if asked == 1:
        return Processes(1, "compute.workers is 1", cores)
    if n_envs == 1 or (asked == "auto" and cores == 1):
        return Processes(1, choose_workers(n_envs, cores, StepCosts(0.0)).reason, cores)
    if asked != "auto":
        start_fork_server()  # imports torch while the environments are played here
    try:
        played = play_together(factory, trial_seed)
    except EnvironmentFailedError as error:  # the training may avoid it, or reports it
        return Processes(1, f"{factory.env_id} fails with random actions: {error}", cores)
    if asked == "auto":
        choice = choose_workers(n_envs, cores, StepCosts(played.step_s))
    else:
        choice = WorkerChoice(asked, f"compute.workers is {asked}")
    if choice.workers > 1 and (reason := _why_one(asked, factory, trial_seed, played)):
        choice = WorkerChoice(1, reason)
    return Processes(choice.workers, choice.reason, cores, played.step_s)


def _why_one(asked: Asked, factory: EnvironmentFactory, trial_seed: int, played: Played) -> str:
    """Explain why one process must step the environments. It is empty if several may.

    :raises BadInputError: if they fail in workers, and workers were asked for.
    """
    try:
        return why_not_apart(factory, trial_seed, played)
    except (BadInputError, EnvironmentFailedError) as error:
        problem = f"{factory.env_id} works in one process, and fails in several: {error}"
        if asked == "auto":
            return problem
        raise BadInputError(f"compute.workers: {problem}; set compute.workers: 1") from error


def choose_again(processes: Processes, n_envs: int, steps_per_s: float) -> Processes:
    """Choose for `auto` after a segment, when the time of the updates is known, too.

    :param processes: the choice that the segment was trained with.
    :param steps_per_s: environment steps per second in that segment.
    """
    if processes.number == 1 or processes.step_s is None or steps_per_s <= 0:
        return processes
    costs = StepCosts.of_training(processes.step_s, n_envs, processes.number, steps_per_s)
    choice = choose_workers(n_envs, processes.cores, costs)
    return Processes(choice.workers, choice.reason, processes.cores, processes.step_s)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
