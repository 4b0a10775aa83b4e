"""An attempt: one machine for a trial.

An attempt is written before its machine is requested, and settled after the machine has ended.
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, JsonValue

from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import TrialId


class AttemptEnd(StrEnum):
    """How an attempt ended."""

    FINISHED = "finished"
    STOPPED_EARLY = "stopped_early"  # its target was reached or hopeless
    INTERRUPTED = "interrupted"  # AWS took the machine back
    NO_CAPACITY = "no_capacity"  # every pool refused
    MACHINE_LOST = "machine_lost"  # the machine ended, and the reason is not known
    STALLED = "stalled"  # alive, but its step did not move
    OTHER_HARDWARE = "other_hardware"  # the machine is of another numeric class than the checkpoint
    CODE_FAILED = "code_failed"  # the trainer, the environment, or the spec
    DIVERGED = "diverged"  # NaN
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    REFUSED = "refused"  # AWS refused the request itself


#: The reason of an attempt that ended because a person marked its waiting task as failed, or
#: cleared it. Only a person's act ends the machine of a task that Airflow's triggerer waits for.
ENDED_BY_HAND = "its task was killed or cleared while it waited"


class Refusal(Record):
    """The answer of a pool that gave no machine."""

    instance_type: str
    zone: str
    market: Literal["spot", "on-demand"]
    code: str
    message: str = ""


class AttemptOutcome(Record):
    """What happened to an attempt. It is filled in step by step, until the machine has ended."""

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
    usd_per_hour: float | None = Field(None, description="the price from which `usd` was computed")
    reached_step: int | None = Field(None, description="the last step that the machine reported")
    committed_step: int | None = Field(
        None, description="the step that the next attempt resumes from"
    )
    notice_at: datetime | None = Field(
        None, description="when the machine reported its interruption notice"
    )
    first_step_at: datetime | None = Field(
        None, description="when the machine trained its first new step, as far as known"
    )
    saved_usd: float | None = Field(
        None,
        description="estimated cost of the steps that an early stop saved",
    )
    refusals: tuple[Refusal, ...] = ()
    services_usd: float | None = Field(
        None,
        description="the part of `usd` that is not the instance: volumes, addresses and requests; "
        "None in older attempts, which do not count it",
    )

    def launched(
        self,
        *,
        instance_id: str,
        instance_type: str | None,
        market: Literal["spot", "on-demand"] | None,
        zone: str | None,
        at: datetime,
    ) -> Self:
        """Record the machine that the attempt got."""
        return self.model_copy(
            update={
                "instance_id": instance_id,
                "instance_type": instance_type,
                "market": market,
                "zone": zone,
                "launched_at": at,
            }
        )

    def refused(
        self,
        end: AttemptEnd,
        reason: str,
        refusals: tuple[Refusal, ...],
        *,
        market: Literal["spot", "on-demand"] | None,
        at: datetime,
        seconds: float = 0.0,
        usd: float = 0.0,
    ) -> Self:
        """Record that the attempt has no machine.

        :param seconds: 0, unless it had one that ended unseen; then how long it may have run.
        :param usd: what that may have cost.
        """
        return self.model_copy(
            update={
                "end": end,
                "reason": reason,
                "refusals": refusals,
                "market": market,
                "ended_at": at,
                "seconds": seconds,
                "usd": usd,
            }
        )

    def without_refusals(self) -> Self:
        """The same outcome without what each pool answered."""
        return self.model_copy(update={"refusals": ()})

    def settled(
        self,
        *,
        end: AttemptEnd | None,
        reason: str,
        at: datetime,
        seconds: float,
        usd: float,
        services_usd: float,
        usd_per_hour: float,
        reached_step: int | None,
        committed_step: int | None,
        notice_at: datetime | None,
        first_step_at: datetime | None,
        saved_usd: float | None,
    ) -> Self:
        """Record how the attempt ended and what it cost. The fields say what each is."""
        return self.model_copy(
            update={
                "end": end,
                "reason": reason,
                "ended_at": at,
                "seconds": seconds,
                "usd": usd,
                "services_usd": services_usd,
                "usd_per_hour": usd_per_hour,
                "reached_step": reached_step,
                "committed_step": committed_step,
                "notice_at": notice_at,
                "first_step_at": first_step_at,
                "saved_usd": saved_usd,
            }
        )


class Attempt(Record):
    """One machine for a trial, with the frozen request for it.

    The request is frozen because EC2 accepts a token again only with the same request.
    """

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    trial: str
    attempt: int = Field(ge=1)
    token: str = Field(max_length=64)
    nonce: str = Field(description="distinguishes two writers of the same attempt")
    request: dict[str, JsonValue] = Field(
        description="the CreateFleet request, without its ClientToken"
    )
    created_at: datetime
    deadline_at: datetime
    price_reserved_usd: float = Field(ge=0, description="the most that all of it may cost")
    services_reserved_usd: float = Field(
        0.0, ge=0, description="the part of it that is not the instance"
    )
    volume_gib: float = Field(
        0.0, ge=0, description="the machine's volumes; 0 in older attempts, which do not count them"
    )
    outcome: AttemptOutcome = AttemptOutcome()

    def with_outcome(self, outcome: AttemptOutcome) -> Self:
        """Replace the outcome."""
        return self.model_copy(update={"outcome": outcome})

    def without_request(self) -> Self:
        """The attempt without the CreateFleet request, which is its largest part."""
        return self.model_copy(update={"request": {}})

    @property
    def reserved_usd_per_hour(self) -> float:
        """The highest on-demand price among the pools when the money was reserved.

        The machine cannot have cost more than this.
        """
        hours = (self.deadline_at - self.created_at).total_seconds() / 3600
        instance_usd = self.price_reserved_usd - self.services_reserved_usd
        return instance_usd / hours if hours > 0 else 0.0


def client_token(trial: TrialId, attempt: int) -> str:
    """Compute the idempotency token of an attempt: 64 ASCII characters, which is EC2's limit.

    Source: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html

    >>> len(client_token(TrialId("cartpole", "r1", "seed-0"), 1))
    64
    """
    return hashlib.sha256(f"nightshift\x1f{trial}\x1f{attempt}".encode()).hexdigest()
