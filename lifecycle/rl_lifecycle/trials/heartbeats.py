"""The heartbeat of a training machine.

It is small and is overwritten. One LIST at each look shows the heartbeats of hundreds of trials.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from rl_lifecycle.records.record import Record


class TrainerState(StrEnum):
    """The activity of the trainer."""

    STARTING = "starting"
    TRAINING = "training"
    WAITING = "waiting"  # for the store
    FINISHED = "finished"  # all steps done, final checkpoint and policy committed
    INTERRUPTED = "interrupted"  # notice or SIGTERM: state written, exit
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
    """One heartbeat. A changed `step` is the sign of life: a beat alone may come from a thread.

    `rebalance_at`: since when AWS recommends to leave the machine; None if it does not.
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
