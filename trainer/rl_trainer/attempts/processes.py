"""Choose how many processes step the environments of a trial."""

import dataclasses
import functools
import os
from dataclasses import dataclass
from typing import Any, Literal

from rl_lifecycle.experiment.hyperparameters import why_too_many_workers
from rl_lifecycle.machines.worker_counts import Parts, StepCosts, WorkerChoice, choose_workers
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.environments.fork_server import start_fork_server
from rl_trainer.environments.rehearsal import Played, play_together, why_not_apart
from rl_trainer.errors import BadInputError, EnvironmentFailedError

Asked = Literal["auto"] | int


@dataclass(frozen=True)
class Processes:
    """The number of processes that step the environments, why, and what a step takes.

    :param step_s: seconds of one environment step; None if it was not measured.
    :param parts: what can be divided among processes: the environments, or the shards of this
        machine.
    :param envs_per_part: the environments of each part.
    """

    number: int
    reason: str
    cores: int
    step_s: float | None = None
    parts: int = 1
    envs_per_part: int = 1

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
    *,
    shards: int = 1,
    machines: int = 1,
) -> Processes:
    """Choose before the first segment. This plays some steps of the environments.

    Environments that need one process get one, whatever was asked for.

    :param asked: `compute.workers`.
    :param cores: None means those that this process may use.
    :param shards: with more than one, each process collects whole shards.
    :param machines: the machines that share the shards.
    :raises BadInputError: if more workers than environments or shards were asked for, if an
        environment cannot be stepped in a worker, or if it needs one process and the trial has
        several machines.
    """
    n_envs, cores = factory.settings.n_envs, cores or usable_cores()
    if problem := why_too_many_workers(asked, n_envs, shards):
        raise BadInputError(f"compute.workers: {problem}")
    parts, envs = Parts.of(n_envs, shards, machines)
    choose = functools.partial(Processes, cores=cores, parts=parts, envs_per_part=envs)
    if machines == 1:
        if asked == 1:
            return choose(1, "compute.workers is 1")
        if parts == 1 or (asked == "auto" and cores == 1):
            return choose(1, choose_workers(parts, cores, StepCosts(0.0)).reason)
    if asked != "auto":
        start_fork_server()  # imports torch while the environments are played here
    try:
        played = play_together(factory, trial_seed)
    except EnvironmentFailedError as error:  # the training may avoid it, or reports it
        return choose(1, f"{factory.env_id} fails with random actions: {error}")
    if asked == "auto":
        costs = StepCosts(played.step_s * envs)
        choice = choose_workers(parts, cores, costs)
    else:
        choice = WorkerChoice(min(asked, parts), f"compute.workers is {asked}")
    if max(choice.workers, machines) > 1 and (
        reason := _why_one(asked, factory, trial_seed, played)
    ):
        if machines > 1:
            raise BadInputError(f"compute.machines: {reason}; set it to 1")
        choice = WorkerChoice(1, reason)
    return choose(choice.workers, choice.reason, step_s=played.step_s)


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


def choose_again(processes: Processes, steps_per_s: float) -> Processes:
    """Choose for `auto` after a segment, when the time of the updates is known, too.

    :param processes: the choice that the segment was trained with.
    :param steps_per_s: environment steps per second in that segment.
    """
    if processes.number == 1 or processes.step_s is None or steps_per_s <= 0:
        return processes
    parts, envs = processes.parts, processes.envs_per_part
    costs = StepCosts.of_training(
        processes.step_s * envs, parts, processes.number, steps_per_s / envs
    )
    choice = choose_workers(parts, processes.cores, costs)
    return dataclasses.replace(processes, number=choice.workers, reason=choice.reason)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
