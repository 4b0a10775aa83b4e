"""A gang: the machines of one trial, and what they tell each other through the bucket.

The learner writes one :class:`Generation` each time when its gang changes, under a key that can be
written only once. A collector announces itself in its heartbeat. It joins a generation only if that
names its nonce, and only if no later generation exists. So a machine that AWS has taken back, or an
old learner that still runs, never works for the wrong gang.
"""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from rl_lifecycle.records.record import Record

#: The address of a machine that no other machine must reach.
LOOPBACK = "127.0.0.1"


class Announcement(Record):
    """What a collector says about itself in its heartbeat, so that the learner can call it."""

    nonce: str = Field(description="another one for each start of a collector's process")
    address: str = Field(description="the machine's own IP address")
    processes: int = Field(ge=1, description="how many processes of the machine collect")
    numeric_class: str = Field(description="the name of the machine's numeric class")
    leaving: bool = Field(
        False, description="whether it ends soon, so the next generation is to be without it"
    )
    left: str = Field(
        "", description="the generation that it has left last, as `<attempt>-<generation>`"
    )

    @property
    def mark(self) -> str:
        """What changes when the machine announces itself anew."""
        return f"{self.nonce} {self.left}"

    def as_leaving(self) -> Self:
        """The same announcement by a machine that ends soon."""
        return self.model_copy(update={"leaving": True})

    def after(self, generation: str) -> Self:
        """The same announcement after the machine has left a generation."""
        return self.model_copy(update={"left": generation})


class Member(Record):
    """A machine that collects in a generation, and the ranks of its processes."""

    seat: int = Field(ge=0)
    nonce: str
    address: str
    ranks: tuple[int, ...]


class Generation(Record):
    """Who collects what, from one change of the gang to the next.

    `shards` gives the rank that collects each shard. The learner's first process has rank 0.
    """

    schema_version: Literal[1] = 1
    attempt: int = Field(ge=1, description="the learner's attempt")
    generation: int = Field(ge=1, description="within this attempt")
    at: datetime
    address: str = Field(description="where the learner's store listens")
    port: int = Field(ge=1, le=65535)
    collectors_class: str = Field(description="name of the numeric class of all that collect")
    segment: int = Field(ge=0, description="the first segment that it collects")
    manifest: str = Field("", description="key of the checkpoint before it; empty at the beginning")
    manifest_sha256: str = Field("", description="SHA-256 of that manifest")
    members: tuple[Member, ...]
    shards: tuple[int, ...]

    @property
    def name(self) -> str:
        """`<attempt>-<generation>`."""
        return f"{self.attempt}-{self.generation}"

    @property
    def world(self) -> int:
        """The number of processes, the learner's included."""
        return sum(len(member.ranks) for member in self.members)

    def find(self, seat: int, nonce: str) -> Member | None:
        """Find a machine among the members; None if this generation is without it."""
        return next(
            (one for one in self.members if (one.seat, one.nonce) == (seat, nonce)),
            None,
        )


class MemberReport(Record):
    """What a machine of the gang does, for a person who looks at the run."""

    seat: int = Field(ge=0)
    processes: int = Field(ge=0)
    shards: int = Field(ge=0, description="how many shards it collects")
    waited_s: float = Field(
        0.0, ge=0, description="how long the learner waited for it in this generation, seconds"
    )


class GangReport(Record):
    """The gang in the learner's heartbeat."""

    generation: int = Field(ge=0, description="0 while the learner collects alone")
    members: tuple[MemberReport, ...] = ()
    joined: int = Field(0, ge=0, description="machines that have joined since the attempt began")
    lost: int = Field(0, ge=0, description="machines that were lost since the attempt began")
