"""The `compute` keys of an experiment: which machines may be rented, and at what cost."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
)

from rl_lifecycle.experiment.due_times import read_needed_by
from rl_lifecycle.records.record import Record

#: The release whose trainer no longer records updates as CUDA graphs.
GRAPHS_REMOVED_IN = "0.2.0"
#: The most processes that may step the environments of a trial.
MOST_WORKERS = 1024
#: The most machines of a trial. Its learner receives every rollout.
MOST_MACHINES = 32


def _instance_types(
    value: "Literal['auto'] | tuple[str, ...]",
) -> "Literal['auto'] | tuple[str, ...]":
    if value != "auto" and (
        not value or not all(re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", name) for name in value)
    ):
        raise ValueError("must be `auto` or a list of EC2 instance types such as c7i.large")
    return value


def _workers(value: object) -> object:
    """Refuse a wrong number with one sentence, where pydantic would have one for each form."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if number != "auto" and not (is_number and 1 <= number <= MOST_WORKERS):  # type: ignore[operator]
        raise ValueError(f"must be `auto` or a whole number from 1 to {MOST_WORKERS}")
    return number


class Collectors(Record):
    """The machines of a trial that only collect."""

    instance_types: Annotated[
        Literal["auto"] | tuple[str, ...], AfterValidator(_instance_types)
    ] = Field("auto", description="auto: those of the learner, without GPUs")


class Compute(Record):
    """The machines that may be rented, and their cost limits."""

    instance_types: Annotated[
        Literal["auto"] | tuple[str, ...], AfterValidator(_instance_types)
    ] = "auto"
    market: Literal["spot", "on-demand"] = "spot"
    on_demand_after: int = Field(
        3, ge=0, description="attempts on spot before on-demand; 0: any number of attempts on spot"
    )
    needed_by: Annotated[str | None, BeforeValidator(read_needed_by)] = Field(
        None,
        description='"HH:MM" in UTC, or a moment: on-demand when spot no longer leaves enough time',
    )
    max_parallel: int | None = Field(
        None,
        ge=1,
        le=100,
        description="machines of a run that work at the same time, those of all seats of its "
        "trials together; null: any number",
    )
    max_hours: float = Field(
        4, gt=0, le=168, description="hours that the attempts of a trial may take together"
    )
    budget_usd: float = Field(10, gt=0, le=100_000, description="US dollars for the whole run")
    on_other_hardware: Literal["wait", "continue"] = Field(
        "wait",
        description="continue: resume on another numeric class; the digest is then marked not "
        "comparable",
    )
    # It is left out while it is `auto`, so that earlier specs keep their digest.
    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_WORKERS)], BeforeValidator(_workers)
    ] = Field(
        "auto",
        description="processes of a machine that step the environments of a trial; auto: more than "
        "one if the trainer measures that it pays. The number changes no byte of the result",
        exclude_if=lambda value: value == "auto",
    )
    machines: int = Field(
        1,
        ge=1,
        le=MOST_MACHINES,
        description="machines of a trial: one learns, and all of them collect shards. The number "
        "changes no byte of the result, except that `shards: auto` follows from it",
        exclude_if=lambda value: value == 1,
    )
    collectors: Collectors | None = Field(
        None,
        description="the machines of a trial that only collect; null: as the learner's",
        exclude_if=lambda value: value is None,
    )
    gpu_updates: Literal["sb3", "cuda_graphs"] = Field(
        "sb3",
        description="only sb3; stored specs may say cuda_graphs, which release "
        f"{GRAPHS_REMOVED_IN} removed",
    )

    def without_due_time(self) -> Self:
        """The same machines, needed by no particular time."""
        return self.model_copy(update={"needed_by": None})

    def with_one_machine(self) -> Self:
        """The same settings for trials that have no machine beside their learner's."""
        return self.model_copy(update={"machines": 1, "collectors": None})

    def with_instance_types(self, instance_types: tuple[str, ...]) -> Self:
        """The same settings for machines of other types."""
        return self.model_copy(update={"instance_types": instance_types})


def why_removed(compute: Compute) -> str:
    """Explain which release removed a setting of a stored spec. It is empty if none was removed.

    >>> why_removed(Compute(gpu_updates="cuda_graphs"))
    'release 0.2.0 removed compute.gpu_updates: cuda_graphs'
    """
    if compute.gpu_updates == "sb3":
        return ""
    return f"release {GRAPHS_REMOVED_IN} removed compute.gpu_updates: {compute.gpu_updates}"
