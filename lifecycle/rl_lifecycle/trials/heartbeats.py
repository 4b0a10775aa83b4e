"""The heartbeat of a training machine.

It is small and is overwritten. One LIST at each look shows the heartbeats of hundreds of trials.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.gangs import Announcement, GangReport


class TrainerState(StrEnum):
    """The activity of the trainer."""

    STARTING = "starting"
    TRAINING = "training"
    WAITING = "waiting"  # for the store, or for other machines of the gang
    FINISHED = "finished"  # all steps done, final checkpoint and policy committed
    INTERRUPTED = "interrupted"  # after a notice or SIGTERM: the state is stored
    FENCED = "fenced"  # a later attempt took over the head
    FAILED = "failed"


class TrainerCause(StrEnum):
    """Why the trainer failed, as far as the trainer knows."""

    SPEC = "spec"
    ENVIRONMENT = "environment"
    CODE = "code"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    STORE = "store"
    # The checkpoint is of another numeric class, so the trial waits for a machine of that class
    OTHER_HARDWARE = "other_hardware"


class Heartbeat(Record):
    """One heartbeat. Only a changed `step` shows that the training is alive.

    A thread writes the heartbeats, so a new heartbeat alone does not show it. `rebalance_at` is the
    time since when AWS recommends to leave the machine. It is None if AWS does not.
    """

    schema_version: Literal[1] = 1
    attempt: int
    state: TrainerState
    step: int
    total_timesteps: int
    steps_per_s: float
    at: datetime
    segment: int = 0
    episode_return_mean: float | None = None
    cause: TrainerCause | None = None
    message: str = ""
    numeric_class: str = ""
    rebalance_at: datetime | None = None
    announcement: Announcement | None = Field(
        None,
        description="of a machine that only collects; its `step` counts environment steps",
        exclude_if=lambda value: value is None,
    )
    gang: GangReport | None = Field(
        None, description="of a learner with a gang", exclude_if=lambda value: value is None
    )
