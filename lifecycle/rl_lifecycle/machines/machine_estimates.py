"""How long a trial takes on each machine, and how many steps a dollar buys there.

More cores and more machines divide the time in the environments. They do not divide the updates,
and they cost as many times as much. So they buy hours, and rarely steps per dollar. The estimates
are for people and for the log: no machine is chosen from them.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, Self

from rl_lifecycle.experiment.compute_settings import MOST_MACHINES, Compute
from rl_lifecycle.experiment.hyperparameters import count_environments
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.auto_types import steps_per_usd
from rl_lifecycle.machines.instance_types import AS_OF, INSTANCE_TYPES
from rl_lifecycle.machines.launch_requests import (
    collector_types_of,
    has_gpu,
    instance_types_of,
)
from rl_lifecycle.machines.prices import FALL_BACK, table_usd
from rl_lifecycle.machines.quotas import vcpus_of
from rl_lifecycle.machines.worker_counts import (
    Parts,
    StepCosts,
    WorkerChoice,
    choose_workers,
    vector_step_s,
)

#: The most instance types that are compared. An experiment may allow any number.
MOST_TYPES = 8


class MeasuredStep(NamedTuple):
    """Seconds of one environment step, where they were measured.

    :param environment_s: in the environment; None if it was not measured apart from the rest.
    :param training_s: of all other work, mostly the updates; None if it is not known yet.
    :param instance_type: of the machine that learned; empty if no update was measured.
    """

    environment_s: float | None
    training_s: float | None = None
    instance_type: str = ""

    def training_on(self, instance_type: str) -> float | None:
        """The updates' seconds on a machine. With and without a GPU they have nothing in common.

        >>> step = MeasuredStep(0.001, 0.002, "c7i.large")
        >>> step.training_on("c7i.4xlarge"), step.training_on("g5.xlarge")
        (0.002, None)
        """
        return self.training_s if _gpu(self.instance_type) == _gpu(instance_type) else None


class TrialWork(NamedTuple):
    """What a trial has to do, and how its steps are divided.

    :param workers: `compute.workers`.
    :param waits: whether the environments wait and need no core meanwhile.
    """

    timesteps: int
    n_envs: int
    shards: int = 1
    workers: Literal["auto"] | int = "auto"
    waits: bool = False

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Read it from a spec.

        More processes than any allowed machine has cores make sense only if the environments wait.
        """
        experiment, compute = spec.experiment, spec.experiment.compute
        types = (*instance_types_of(compute), *collector_types_of(compute))
        return cls(
            experiment.total_timesteps,
            count_environments(experiment.algo, spec.hyperparameters),
            spec.shards,
            compute.workers,
            compute.workers != "auto" and compute.workers > max(map(vcpus_of, types)),
        )


class MachineSet(NamedTuple):
    """The machines of a trial: one that learns, and others that only collect.

    :param collector: the instance type of the others.
    :param usd_per_hour: of all machines together; None if a price is not known.
    :param taken: whether the run takes such machines; else it is only compared.
    """

    instance_type: str
    usd_per_hour: float | None
    machines: int = 1
    collector: str = ""
    taken: bool = True

    @property
    def name(self) -> str:
        """The name for a person.

        >>> MachineSet("g5.xlarge", 1.2, 3, "c7i.large").name
        'g5.xlarge + 2 c7i.large'
        """
        if self.machines == 1:
            return self.instance_type
        if self.collector == self.instance_type:
            return f"{self.machines} {self.instance_type}"
        return f"{self.instance_type} + {self.machines - 1} {self.collector}"

    @property
    def collecting(self) -> int:
        """How many machines collect. A learner with a GPU only learns if there are others."""
        only_learns = self.machines > 1 and has_gpu(self.instance_type)
        return self.machines - only_learns

    @property
    def cores(self) -> int:
        """The cores of each machine that collects; where they differ, the fewest."""
        if self.machines == 1:
            return vcpus_of(self.instance_type)
        others = vcpus_of(self.collector)
        if has_gpu(self.instance_type):
            return others
        return min(vcpus_of(self.instance_type), others)


class Estimate(NamedTuple):
    """What a set of machines would do with a trial.

    :param processes: of each machine that collects, and why.
    :param step_s: seconds of one environment step of the trial; None if it cannot be computed.
    :param at_least: whether the updates are not known, so that `step_s` lacks them.
    """

    machines: MachineSet
    processes: WorkerChoice
    step_s: float | None
    at_least: bool
    timesteps: int

    @property
    def hours(self) -> float | None:
        """How long all steps of the trial take."""
        return None if self.step_s is None else self.step_s * self.timesteps / 3600

    @property
    def usd(self) -> float | None:
        """What the machines cost in that time."""
        price = self.machines.usd_per_hour
        return None if self.hours is None or price is None else self.hours * price

    @property
    def steps_per_usd(self) -> float | None:
        """How many steps a dollar buys."""
        price = self.machines.usd_per_hour
        return None if self.step_s is None or not price else steps_per_usd(1 / self.step_s, price)


def split_step(
    work: TrialWork, machines: MachineSet, workers: int, environment_s: float, steps_per_s: float
) -> MeasuredStep:
    """Split the measured speed of a training into the environment's time and all other time.

    >>> work = TrialWork(1_000_000, 8)
    >>> step = split_step(work, MachineSet("c7i.large", None), 1, 0.001, 400.0)
    >>> round(step.training_s, 6), step.instance_type
    (0.0015, 'c7i.large')
    """
    stepping_s = _stepping_s(work, machines, workers, environment_s)
    return MeasuredStep(
        environment_s, max(0.0, 1 / steps_per_s - stepping_s), machines.instance_type
    )


def plan_machine_sets(
    compute: Compute, shards: int, usd_per_hour: Mapping[str, float]
) -> list[MachineSet]:
    """List the machines to compare: those that a run takes, then others for comparison.

    The others are a larger or smaller type of a family, and, with shards, one or more machines.

    :param usd_per_hour: prices by type. A type may be missing.
    """
    allowed = cheapest_types(compute, usd_per_hour)

    def made(name: str, machines: int, *, taken: bool) -> MachineSet:
        other = collector_beside(compute, name)
        first, each = usd_per_hour.get(name), usd_per_hour.get(other) if machines > 1 else 0.0
        usd = None if first is None or each is None else first + (machines - 1) * each
        return MachineSet(name, usd, machines, other if machines > 1 else "", taken)

    sets = [made(name, compute.machines, taken=True) for name in allowed]
    other_number = min(shards, MOST_MACHINES) if compute.machines == 1 else 1
    if other_number != compute.machines:
        sets.append(made(allowed[0], other_number, taken=False))
    if other := other_type(allowed):
        sets.append(made(other, 1, taken=False))
    return sets


def collector_beside(compute: Compute, learner: str) -> str:
    """The type of the machines that only collect: the learner's if it is allowed, else the first.

    >>> collector_beside(Compute(instance_types=("g5.xlarge", "c7i.large")), "g5.xlarge")
    'c7i.large'
    """
    allowed = collector_types_of(compute)
    return learner if learner in allowed else allowed[0]


def cheapest_types(compute: Compute, usd_per_hour: Mapping[str, float]) -> tuple[str, ...]:
    """The cheapest of the allowed instance types, at most :data:`MOST_TYPES`.

    >>> cheapest_types(Compute(instance_types=("a.large", "b.large", "c.large")), {"b.large": 0.1})
    ('b.large', 'a.large', 'c.large')
    """
    allowed = instance_types_of(compute)
    by_price = sorted(allowed, key=lambda name: usd_per_hour.get(name, float("inf")))
    return tuple(by_price[:MOST_TYPES])


def other_type(allowed: Iterable[str]) -> str | None:
    """A type of the allowed families to compare with: the largest, or else the smallest.

    It is None if the table has no type that is larger, or smaller, than all allowed types.

    >>> other_type(["c7i.large", "c6i.large"]), other_type(["c7i.4xlarge"])
    ('c7i.4xlarge', 'c7i.large')
    >>> [other_type(names) for names in (["c7i.large", "c7i.4xlarge"], ["g5.xlarge"], ["x9.large"])]
    [None, None, None]
    """
    names = [name for name in allowed if not has_gpu(name)]
    families = {name.partition(".")[0] for name in names}
    found = [row for row in INSTANCE_TYPES.values() if row.family in families]
    if not found:
        return None
    sizes = [vcpus_of(name) for name in names]
    largest, smallest = (pick(found, key=lambda row: row.vcpus) for pick in (max, min))
    if largest.vcpus > max(sizes):
        return largest.name
    return smallest.name if smallest.vcpus < min(sizes) else None


def describe_best_case(compute: Compute) -> str:
    """Compare a small type with the largest one, before anything is measured.

    It is empty where the table of prices has nothing to compare. A form may show it, because it
    needs no request to AWS.

    >>> print(describe_best_case(Compute(instance_types=("c7i.large",), market="on-demand")))
    c7i.4xlarge has 8 times the vCPUs of c7i.large for 8.0 times the price (on-demand, table of
    2026-11-22), so at best it takes 1/8 of the hours, and a dollar buys 1.00 times the steps.
    c7i.4xlarge is not taken by itself
    >>> describe_best_case(Compute(instance_types=("x9.large",)))
    ''
    """
    prices = {
        name: usd for name in FALL_BACK if (usd := table_usd(name, compute.market)) is not None
    }
    allowed = [name for name in instance_types_of(compute) if name in prices and not has_gpu(name)]
    if not allowed:
        return ""
    other = other_type(allowed)
    compared = [*allowed, *([other] if other in prices else [])]
    small = min(compared, key=lambda name: (vcpus_of(name), prices[name]))
    large = max(compared, key=vcpus_of)
    cores = vcpus_of(large) / vcpus_of(small)
    if cores <= 1:
        return ""
    usd = prices[large] / prices[small]
    return (
        f"{large} has {cores:g} times the vCPUs of {small} for {usd:.1f} times the price "
        f"({compute.market}, table of {AS_OF}), so at best it takes 1/{cores:g} of the hours, and "
        f"a dollar buys {cores / usd:.2f} times the steps"
        + ("" if large in allowed else f". {large} is not taken by itself")
    )


def estimate(work: TrialWork, machines: MachineSet, step: MeasuredStep) -> Estimate:
    """Estimate a trial's time on some machines. All cores count as equally fast.

    The hours lack the updates where these are not known.
    """
    training_s = step.training_on(machines.instance_type)
    processes = _choose_processes(work, machines, step, training_s)
    return Estimate(
        machines,
        processes,
        _step_s(work, machines, processes.workers, step, training_s),
        training_s is None,
        work.timesteps,
    )


def _choose_processes(
    work: TrialWork, machines: MachineSet, step: MeasuredStep, training_s: float | None
) -> WorkerChoice:
    """Choose as the trainer will. With several machines it does not count the updates."""
    parts = Parts.of(work.n_envs, work.shards, machines.collecting)
    if work.workers != "auto":
        return WorkerChoice(min(work.workers, parts.number), f"compute.workers is {work.workers}")
    if parts.number == 1 and work.shards > 1:
        return WorkerChoice(1, "each machine collects one shard")
    if parts.number > 1 and step.environment_s is None:
        return WorkerChoice(1, "a step was not measured apart from the updates")
    others_s = training_s if training_s is not None and machines.machines == 1 else 0.0
    costs = StepCosts(
        parts.envs * (step.environment_s or 0.0), work.n_envs * others_s / parts.number
    )
    return choose_workers(parts.number, machines.cores, costs)


def _step_s(
    work: TrialWork,
    machines: MachineSet,
    workers: int,
    step: MeasuredStep,
    training_s: float | None,
) -> float | None:
    """Compute the seconds of one environment step; None if nothing was measured for it."""
    if step.environment_s is None and (machines.machines, workers) != (1, 1):
        return None
    stepping_s = _stepping_s(work, machines, workers, step.environment_s or 0.0)
    return (stepping_s + (training_s or 0.0)) or None


def _stepping_s(work: TrialWork, machines: MachineSet, workers: int, environment_s: float) -> float:
    """Compute the environments' part of one step, and the messages to the workers."""
    parts = Parts.of(work.n_envs, work.shards, machines.collecting)
    at_once = min(workers, parts.number, workers if work.waits else machines.cores)
    costs = StepCosts(parts.envs * environment_s)
    return vector_step_s(parts.number, at_once, costs) / work.n_envs


def _gpu(instance_type: str) -> str:
    """The GPU of a type: its model, else the family's name; empty without one."""
    if not has_gpu(instance_type):
        return ""
    row = INSTANCE_TYPES.get(instance_type)
    return row.gpu.model if row and row.gpu else instance_type.partition(".")[0]
