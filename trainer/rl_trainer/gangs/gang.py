"""The gang of a trial as its learner sees it: forms generations, and collects with them.

A generation lasts until a machine joins, leaves or is lost. A machine that is lost ends the segment
that is being collected: the trial goes back to its newest checkpoint, and the next generation
collects that segment again, without the lost machine. Who collects changes no byte.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.trials.gangs import LOOPBACK, GangReport, Member, MemberReport
from rl_trainer.checkpointing.model_state import Arrays
from rl_trainer.errors import LostMemberError, TrainerError
from rl_trainer.gangs.conversation import Conversation, share_out
from rl_trainer.gangs.liveness import SILENCE_S, SeatWatch
from rl_trainer.gangs.processes import CollectorProcesses
from rl_trainer.gangs.roster import FoundMachine, Roster, Start
from rl_trainer.gangs.transport import (
    CONNECT_S,
    LEARNER,
    Channel,
    LostPeerError,
    Rendezvous,
    bind,
)
from rl_trainer.shards.collecting import ShardWork
from rl_trainer.shards.learning import LocalCollectors, RolloutSource

#: Seconds that a called machine has to join.
JOIN_S = 30.0
#: Seconds that the members of a generation have to come back after it.
RETURN_S = 10.0
#: Seconds until the end of a process of this machine is known, after its connection has broken.
UNKNOWN_S = 1.0
#: Seconds that a learner waits for all machines of its trial before its first generation.
GATHER_S = 60.0
#: Shortest and longest time between two looks for machines that could join, seconds. It is
#: LOOK_SHARE of the generation's age, because a machine mostly comes soon, or after hours.
LOOK_S, MOST_LOOK_S, LOOK_SHARE = 1.0, 15.0, 0.05
#: Seconds between two looks while the learner waits.
WAIT_LOOK_S = 0.5


@dataclass(frozen=True)
class GangJob:
    """What a gang works on.

    :param address: this machine's own address.
    :param learner_collects: whether this machine collects, too. One with a GPU only learns.
    :param waiting: called with a sentence while the learner waits. An error that it raises ends
        the wait.
    :param start: returns what a generation begins with, for a segment.
    """

    spec: Spec
    trial: str
    work: ShardWork
    address: str = LOOPBACK
    learner_collects: bool = True
    waiting: Callable[[str], None] = lambda _problem: None
    start: Callable[[int], Start] = Start


@dataclass(frozen=True)
class _Crew:
    """Those who collect in one generation: machines, and processes of this machine."""

    members: tuple[Member, ...] = ()
    shards: tuple[int, ...] = ()
    processes: CollectorProcesses | None = None

    @property
    def nonces(self) -> dict[int, str]:
        """The seats of the other machines, with their nonces."""
        return {one.seat: one.nonce for one in self.members if one.seat != LEARNER}

    def seats_of(self, ranks: Sequence[int]) -> list[int]:
        """The seats to which ranks belong."""
        return [one.seat for one in self.members if set(one.ranks) & set(ranks)]

    def kill_processes(self) -> None:
        """End this machine's processes at once."""
        if self.processes is not None:
            self.processes.kill()


@dataclass(frozen=True)
class _Generation:
    """A crew that has met. The defaults are those of this process alone."""

    collectors: RolloutSource
    crew: _Crew = _Crew()
    channel: Channel | None = None
    watch: SeatWatch | None = None
    waited_s: Mapping[int, float] = field(default_factory=dict)

    @property
    def leaving_seats(self) -> list[int]:
        """The machines that asked to be left out of the next generation."""
        return self.watch.leaving_seats() if self.watch is not None else []

    def abort(self) -> None:
        """End this machine's processes, and break the connections with the other machines."""
        self.crew.kill_processes()
        if self.channel is not None:
            self.channel.abort()


class Gang:
    """Collects shards in this process, in others of this machine, and on other machines.

    :param roster: the other machines; None if the trial has one machine.
    """

    def __init__(self, job: GangJob, roster: Roster | None = None) -> None:
        self._job, self._roster = job, roster
        #: How many processes of this machine collect, this one included. It may be changed between
        #: two segments.
        self.processes = 1
        self._now: _Generation | None = None
        self._made_with = 1
        self._gathered = roster is None
        self._look_at = self._formed_at = 0.0
        self._newcomers = False
        #: The other machines of the newest generation with their nonces, and those of them that
        #: should come back.
        self._called: dict[int, str] = {}
        self._expected: set[int] = set(roster.seats) if roster is not None else set()
        self._joined: set[tuple[int, str]] = set()
        self._lost = 0

    @property
    def pids(self) -> list[int]:
        """The ids of this machine's other processes in the present generation."""
        processes = self._now.crew.processes if self._now is not None else None
        return processes.pids if processes is not None else []

    @property
    def collectors_class(self) -> str:
        """The name of the numeric class of the machines that only collect; empty if unknown."""
        return (self._roster.collectors_class or "") if self._roster is not None else ""

    @property
    def report(self) -> GangReport | None:
        """What a person may want to know; None if the trial has one machine."""
        if self._roster is None:
            return None
        now = self._now
        return GangReport(
            generation=self._roster.generation if now is not None and now.channel else 0,
            members=_member_reports(now) if now is not None else (),
            joined=len(self._joined),
            lost=self._lost,
        )

    def begin(self, segment: int) -> None:
        """Form a generation if the gang has changed, and make the environments of a segment.

        :raises LostMemberError: if another machine is lost.
        :raises TrainerError: if an environment or a process of this machine fails.
        """
        if self._must_form():
            self._disband()
            self._form(segment)
        with _Explained(self):
            self._collectors.begin(segment)

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> list[Arrays]:
        """Collect one rollout of every shard.

        :raises LostMemberError: if another machine is lost.
        :raises TrainerError: if an environment or a process of this machine fails.
        """

        def step(n_steps: int) -> None:
            on_step(n_steps)
            self._look_for_newcomers()

        with _Explained(self):
            return self._collectors.collect(base, step)

    def end(self) -> None:
        """Close the environments of the segment."""
        if self._now is not None:
            with _Explained(self):
                self._now.collectors.end()

    def close(self) -> None:
        """Let all machines go."""
        self._disband()

    @property
    def _collectors(self) -> RolloutSource:
        if self._now is None:
            raise RuntimeError("the segment has not begun: call begin() first")
        return self._now.collectors

    def _must_form(self) -> bool:
        now = self._now
        if now is None or self.processes != self._made_with:
            return True
        return self._newcomers or bool(now.leaving_seats)

    def _look_for_newcomers(self) -> None:
        """Look every few seconds, during a segment, for machines that could join after it."""
        now = time.monotonic()
        if self._roster is None or self._now is None or now < self._look_at:
            return
        age_s = now - self._formed_at
        self._look_at = now + min(MOST_LOOK_S, max(LOOK_S, LOOK_SHARE * age_s))
        called = self._now.crew.nonces
        if len(called) < len(self._roster.seats):
            self._newcomers = any(one.seat not in called for one in self._roster.find(called))

    def _form(self, segment: int) -> None:
        """Form a generation of this machine's processes and of all machines that can be called."""
        while self._now is None:
            candidates = self._candidates()
            if not candidates and not self._job.learner_collects:
                self._job.waiting("waits for a machine that collects")
                time.sleep(WAIT_LOOK_S)
            elif not candidates and self.processes == 1:
                self._now = _Generation(LocalCollectors(self._job.work))
            else:
                self._now = self._call(segment, candidates)
        self._made_with, self._newcomers = self.processes, False
        self._formed_at = time.monotonic()
        self._look_at = self._formed_at + LOOK_S

    def _candidates(self) -> list[FoundMachine]:
        """Wait a while for the machines that should be there, and return those that are."""
        roster = self._roster
        if roster is None:
            return []
        deadline = time.monotonic() + (RETURN_S if self._gathered else GATHER_S)
        while True:
            found = roster.find(self._called)
            missing = self._expected - {one.seat for one in found}
            if not missing or time.monotonic() > deadline:
                break
            seats = ", ".join(map(str, sorted(missing)))
            self._job.waiting(f"waits for the machine of seat {seats}")
            time.sleep(WAIT_LOOK_S)
        missing = self._called.keys() - {one.seat for one in found}
        roster.set_aside({seat: self._called[seat] for seat in missing})
        self._gathered, self._expected, self._called = True, set(), {}
        return found

    def _call(self, segment: int, candidates: Sequence[FoundMachine]) -> "_Generation | None":
        """Call machines and start this machine's processes.

        :return: None if a machine did not join. It is set aside then.
        """
        job = self._job
        members, collecting = _members(self.processes, candidates, job)
        shards = tuple(share_out(job.work.n_shards, collecting))
        processes = CollectorProcesses(job.spec, job.trial, job.address)
        crew = _Crew(members, shards, processes)
        with bind(job.address) as listening:
            world = sum(len(member.ranks) for member in members)
            meeting = Rendezvous(job.address, listening.getsockname()[1], world)
            if self._roster is not None and candidates:
                self._roster.call(meeting, members, shards, job.start(segment))
            processes.start(meeting, members[0].ranks[1:])
            try:
                channel = Channel(
                    meeting,
                    LEARNER,
                    job.address,
                    listening,
                    watch=lambda: self._watch_start(processes),
                    connect_s=JOIN_S if candidates else CONNECT_S,
                )
            except LostPeerError as error:
                self._set_late_aside(crew, candidates, error)
                return None
            except BaseException:
                processes.kill()
                raise
        watch = SeatWatch(channel.store, crew.nonces) if candidates else None
        conversation = Conversation(channel, job.work, shards, lambda: _check(crew, watch))
        self._joined |= {(one.seat, one.announcement.nonce) for one in candidates}
        return _Generation(conversation, crew, channel, watch, conversation.waited_s)

    def _watch_start(self, processes: CollectorProcesses) -> None:
        """Notice a process of this machine that has ended before it could connect."""
        processes.check_alive()
        self._job.waiting("waits until all that collect have connected")

    def _set_late_aside(
        self, crew: _Crew, candidates: Sequence[FoundMachine], error: LostPeerError
    ) -> None:
        """Set aside the machines that did not join; or explain why this machine's own did not.

        :raises TrainerError: if a process of this machine did not connect.
        """
        explained = crew.processes.why_ended() if crew.processes is not None else None
        crew.kill_processes()
        if explained is not None:
            raise explained from error
        seats = crew.seats_of(error.ranks) if error.ranks else list(crew.nonces)
        late = [one for one in candidates if one.seat in seats]
        if not late or self._roster is None:
            raise TrainerError(f"a collector did not start: {error}") from error
        self._roster.set_aside({one.seat: one.announcement.nonce for one in late})
        self._called = crew.nonces
        self._expected = self._called.keys() - {one.seat for one in late}

    def _disband(self) -> None:
        """End the generation. Its machines announce themselves anew when they have left it."""
        made, self._now = self._now, None
        if made is None:
            return
        self._called = made.crew.nonces
        self._expected = self._called.keys() - set(made.leaving_seats)
        made.collectors.close()
        if made.crew.processes is not None:
            made.crew.processes.join()

    def lose(self, error: LostPeerError) -> TrainerError:
        """End a generation in the middle, and return the error that explains it best."""
        made, self._now = self._now, None
        if made is None:
            return TrainerError(f"a collector does not answer: {error}")
        crew = made.crew
        explained = _why_ours_ended(crew, error)
        made.abort()
        if explained is not None:
            return explained
        if not crew.nonces:
            return TrainerError(f"a collector does not answer: {error}")
        lost = [seat for seat in crew.seats_of(error.ranks) if seat != LEARNER]
        self._called = crew.nonces
        self._expected = self._called.keys() - set(lost)
        self._lost += max(1, len(lost))
        names = ", ".join(map(str, lost)) or "one of " + ", ".join(map(str, crew.nonces))
        return LostMemberError(f"the machine of seat {names} was lost: {error}")

    def end_after_error(self) -> None:
        """End the processes after an error of an environment or of the trainer."""
        made, self._now = self._now, None
        if made is None:
            return
        self._called = made.crew.nonces
        self._expected = set(self._called)
        made.abort()


class _Explained:
    """Ends the generation if an error occurs, because its processes may be in mid-answer."""

    def __init__(self, gang: Gang) -> None:
        self._gang = gang

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error that explains it best."""
        if isinstance(error, LostPeerError):
            raise self._gang.lose(error) from error
        if error is not None:
            self._gang.end_after_error()


def _check(crew: _Crew, watch: SeatWatch | None) -> None:
    """Notice machines that are silent, and processes of this machine that have ended.

    :raises LostPeerError: naming them.
    """
    if crew.processes is not None:
        crew.processes.check_alive()
    if watch is not None and (silent := watch.silent_seats()):
        ranks = [rank for one in crew.members if one.seat in silent for rank in one.ranks]
        raise LostPeerError(f"no sign of life for {SILENCE_S:g} s", ranks)


def _why_ours_ended(crew: _Crew, error: LostPeerError) -> TrainerError | None:
    """Explain the end of a process of this machine; None if all others were well.

    A connection breaks a moment before the end of its process is known.
    """
    if crew.processes is None:
        return None
    if not crew.nonces or crew.seats_of(error.ranks) == [LEARNER]:
        crew.processes.wait(RETURN_S)
    elif not error.ranks:
        crew.processes.wait(UNKNOWN_S)
    return crew.processes.why_ended()


def _member_reports(now: _Generation) -> tuple[MemberReport, ...]:
    """Tell of each machine how much it collects, and how long the learner has waited for it."""
    waited_s, crew = now.waited_s, now.crew
    return tuple(
        MemberReport(
            seat=one.seat,
            processes=len(one.ranks),
            shards=sum(rank in one.ranks for rank in crew.shards),
            waited_s=round(max((waited_s.get(r, 0.0) for r in one.ranks), default=0), 3),
        )
        for one in crew.members
    )


def _members(
    own: int, candidates: Sequence[FoundMachine], job: GangJob
) -> tuple[tuple[Member, ...], list[int]]:
    """Give every process of the gang a rank. :return: the machines, and the ranks that collect."""
    own = own if job.learner_collects else 1
    members = [Member(seat=LEARNER, nonce="", address=job.address, ranks=tuple(range(own)))]
    taken = own
    for one in candidates:
        count = one.announcement.processes
        members.append(
            Member(
                seat=one.seat,
                nonce=one.announcement.nonce,
                address=one.announcement.address,
                ranks=tuple(range(taken, taken + count)),
            )
        )
        taken += count
    collecting = range(taken) if job.learner_collects else range(own, taken)
    return tuple(members), list(collecting)
