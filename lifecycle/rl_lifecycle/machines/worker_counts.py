"""How many processes step the environments of a trial: the choice, and its reason in words.

The number changes only how long a training takes. It changes no byte of the result.
"""

import math
from typing import NamedTuple

#: How many times as fast the training must become before more than one process is used.
LEAST_GAIN = 1.3
#: Seconds of a step below which the messages to workers cost more than they save.
LEAST_STEP_S = 0.0002
#: Seconds of the trainer's own work for each worker and step: a message, an answer, a wake-up.
MESSAGE_S = 0.00006


class WorkerChoice(NamedTuple):
    """A number of processes, and why it was chosen."""

    workers: int
    reason: str


class Parts(NamedTuple):
    """What the processes of one machine can share: environments, or whole shards.

    :param envs: environments of each part.
    """

    number: int
    envs: int

    @classmethod
    def of(cls, n_envs: int, shards: int, machines: int) -> "Parts":
        """Divide a trial's environments.

        >>> Parts.of(16, 1, 1), Parts.of(16, 8, 1), Parts.of(16, 8, 3)
        (Parts(number=16, envs=1), Parts(number=8, envs=2), Parts(number=3, envs=2))
        """
        if shards == 1:
            return cls(n_envs, 1)
        return cls(math.ceil(shards / machines), n_envs // shards)


class StepCosts(NamedTuple):
    """Seconds of one environment step, measured.

    :param environment_s: in the environment.
    :param training_s: of all other work, mostly the updates. It is not divided among workers.
    """

    environment_s: float
    training_s: float = 0.0

    @classmethod
    def of_training(
        cls, environment_s: float, n_envs: int, workers: int, steps_per_s: float
    ) -> "StepCosts":
        """Compute the costs from the speed of a training: what is not the environments' is other.

        >>> round(StepCosts.of_training(0.001, 8, 2, 100.0).training_s, 4)
        0.0095
        """
        stepping_s = vector_step_s(n_envs, workers, cls(environment_s)) / n_envs
        return cls(environment_s, max(0.0, 1 / steps_per_s - stepping_s))


def choose_workers(n_envs: int, cores: int, costs: StepCosts) -> WorkerChoice:
    """Choose the number of processes for `compute.workers: auto`.

    >>> choose_workers(16, 4, StepCosts(0.0008))
    WorkerChoice(workers=4, reason='a step takes 0.80 ms, so 4 processes are 3.8 times as fast')
    >>> choose_workers(16, 4, StepCosts(0.00001)).reason
    'a step takes only 0.01 ms'
    >>> choose_workers(4, 4, StepCosts(0.001, 0.005)).reason
    'a step takes 1.00 ms and the training 5.00 ms, so 4 processes would be only 1.1 times as fast'
    """
    if n_envs == 1:
        return WorkerChoice(1, "there is one environment")
    if cores == 1:
        return WorkerChoice(1, "the machine has one core")
    step = f"a step takes {1000 * costs.environment_s:.2f} ms"
    if costs.environment_s < LEAST_STEP_S:
        return WorkerChoice(1, f"a step takes only {1000 * costs.environment_s:.2f} ms")
    if costs.training_s:
        step += f" and the training {1000 * costs.training_s:.2f} ms"
    workers = min(
        range(2, min(cores, n_envs) + 1), key=lambda count: vector_step_s(n_envs, count, costs)
    )
    gain = vector_step_s(n_envs, 1, costs) / vector_step_s(n_envs, workers, costs)
    if gain < LEAST_GAIN:
        would = f"{workers} processes would be only {gain:.1f} times as fast"
        return WorkerChoice(1, f"{step}, so {would}")
    return WorkerChoice(workers, f"{step}, so {workers} processes are {gain:.1f} times as fast")


def vector_step_s(n_envs: int, workers: int, costs: StepCosts) -> float:
    """Estimate the seconds of one step of all environments.

    >>> vector_step_s(8, 1, StepCosts(0.001)), round(vector_step_s(8, 4, StepCosts(0.001)), 5)
    (0.008, 0.00218)
    """
    largest_block = math.ceil(n_envs / workers)
    return (
        largest_block * costs.environment_s + (workers - 1) * MESSAGE_S + n_envs * costs.training_s
    )
