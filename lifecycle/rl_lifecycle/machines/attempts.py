"""An attempt is one machine for a trial. It is written before the machine is asked for, and settled
when it ended.
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import TrialId


class AttemptEnd(StrEnum):
    """How an attempt ended."""

    FINISHED = "finished"
    STOPPED_EARLY = "stopped_early"  # its target was reached, or it was hopeless
    INTERRUPTED = "interrupted"  # AWS took the machine back
    NO_CAPACITY = "no_capacity"  # every pool refused
    MACHINE_LOST = "machine_lost"  # it ended, and nobody said why
    STALLED = "stalled"  # alive, but its step did not move
    OTHER_HARDWARE = "other_hardware"  # the machine is of another numeric class than the checkpoint
    CODE_FAILED = "code_failed"  # the trainer, the environment, or the spec
    DIVERGED = "diverged"  # NaN
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    REFUSED = "refused"  # AWS refused the request itself


class Refusal(Record):
    """A pool that did not give a machine."""

    instance_type: str
    zone: str
    market: Literal["spot", "on-demand"]
    code: str
    message: str = ""


class AttemptOutcome(Record):
    """What became of an attempt: filled in as it is known, complete when the machine is gone."""

    instance_id: str | None = None
    instance_type: str | None = None
    market: Literal["spot", "on-demand"] | None = None
    zone: str | None = None
    launched_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    usd: float | None = None
    end: AttemptEnd | None = None
    reason: str = ""
    usd_per_hour: float | None = Field(None, description="the price that `usd` is reckoned with")
    reached_step: int | None = Field(None, description="the last step that the machine told of")
    committed_step: int | None = Field(
        None, description="the step that the next attempt resumes from"
    )
    notice_at: datetime | None = Field(
        None, description="when the machine said that it was given notice"
    )
    first_step_at: datetime | None = Field(
        None, description="when it trained its first new step, as far as seen"
    )
    saved_usd: float | None = Field(
        None,
        description="about what the rest of the training would have cost, if it was stopped early",
    )
    refusals: tuple[Refusal, ...] = ()


class Attempt(Record):
    """One machine for a trial, with the request that asks for it frozen: the same token means the
    same request.
    """

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    trial: str
    attempt: int = Field(ge=1)
    token: str = Field(max_length=64)
    nonce: str = Field(description="tells two writers of the same attempt apart")
    request: dict[str, JsonValue] = Field(
        description="the CreateFleet request, without its ClientToken"
    )
    created_at: datetime
    deadline_at: datetime
    price_reserved_usd: float = Field(ge=0)
    outcome: AttemptOutcome = AttemptOutcome()

    @property
    def reserved_usd_per_hour(self) -> float:
        """The highest on-demand price among its pools, as it was when the money was set aside: more
        than it can have cost.
        """
        hours = (self.deadline_at - self.created_at).total_seconds() / 3600
        return self.price_reserved_usd / hours if hours > 0 else 0.0


def client_token(trial: TrialId, attempt: int) -> str:
    """The idempotency token of an attempt: 64 ASCII characters, EC2's limit.

    Source: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html

    >>> len(client_token(TrialId("cartpole", "r1", "seed-0"), 1))
    64
    """
    return hashlib.sha256(f"nightshift\x1f{trial}\x1f{attempt}".encode()).hexdigest()
