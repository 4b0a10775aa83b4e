"""EC2 calls: request a machine, find machines by tag, terminate, prove that none is left."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from infra_bootstrap.reaper.reaper import ALIVE, PRESENT, find_machines
from infra_bootstrap.reaper.termination import terminate, terminate_until_gone
from rl_airflow.infrastructure.aws_errors import client_error
from rl_lifecycle.aws_errors import error_code
from rl_lifecycle.machines.launch_requests import SEAT_TAG, TAG_PREFIX, Market, market_of
from rl_lifecycle.machines.machine_attempts import Attempt, Refusal
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId
from rl_lifecycle.trials.evidence import InstanceState, Machine

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

#: DescribeInstances takes at most this many ids, and the filters of one call this many values.
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html (FilterLimitExceeded)
DESCRIBED_AT_ONCE, FILTERED_AT_ONCE = 1000, 200
END_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
#: EC2 shows a new machine after a few seconds. `on_kill` has about five seconds in all.
NEW_PAUSES_S = (0.2, 0.4, 0.8, 1.6)
#: EC2 posts a machine's console "shortly after" its end, which can be minutes. See
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html and
#: https://github.com/canonical/pycloudlib/pull/193
CONSOLE_PAUSES_S = (0.0, 2.0, 5.0, 8.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0)
NO_LONGER_ALIVE = tuple(state.value for state in InstanceState if not state.alive)


class Granted(NamedTuple):
    """EC2's answer to a request: a machine, or the pools that refused."""

    instance_id: str | None
    instance_type: str | None
    zone: str | None
    market: Market
    refusals: tuple[Refusal, ...]


class TaggedMachine(NamedTuple):
    """A machine with its tags."""

    machine: Machine
    tags: Mapping[str, str]

    @property
    def trial(self) -> str:
        """`experiment/run/trial`, with `?` for a missing tag."""
        return "/".join(
            self.tags.get(f"{TAG_PREFIX}{name}", "?") for name in ("experiment", "run", "trial")
        )

    @property
    def seat(self) -> int:
        """The machine's seat. The learner's machine has no tag for it, and EC2 cannot list
        machines without a tag.
        """
        number = self.tags.get(SEAT_TAG, "")
        return int(number) if number.isdigit() else LEARNER_SEAT


class Machines:
    """The machines of one environment.

    :param ec2: a boto3 EC2 client of the launcher or the reaper.
    :param environment: only machines with this tag are listed or terminated by tag.
    :param zones: subnet id → zone, because EC2's answer to a request names only the subnet.
    :param sleep: waits the given number of seconds.
    """

    def __init__(
        self,
        ec2: "EC2Client",
        environment: str,
        zones: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.ec2, self.environment, self.zones, self.sleep = ec2, environment, zones or {}, sleep

    def request(self, attempt: Attempt) -> Granted:
        """Ask EC2 Fleet for the machine of an attempt. This starts billing.

        The call can be repeated, because AWS returns the same machine for the same token.
        """
        request: Any = attempt.request  # the frozen JSON has no static types
        answer = self.ec2.create_fleet(**request, ClientToken=attempt.token)
        market = market_of(attempt)
        for group in answer.get("Instances", ()):
            for instance_id in group.get("InstanceIds", ()):
                override = group.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
                lifecycle: Market = "spot" if group.get("Lifecycle") == "spot" else market
                return Granted(
                    instance_id,
                    group.get("InstanceType") or override.get("InstanceType"),
                    self._zone(override),
                    lifecycle,
                    (),
                )
        return Granted(
            None,
            None,
            None,
            market,
            tuple(self._refusal(error, market) for error in answer.get("Errors", ())),
        )

    def _zone(self, override: Mapping[str, Any]) -> str | None:
        return override.get("AvailabilityZone") or self.zones.get(override.get("SubnetId", ""))

    def _refusal(self, error: Mapping[str, Any], market: Market) -> Refusal:
        override = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        return Refusal(
            instance_type=override.get("InstanceType", "?"),
            market=market,
            zone=self._zone(override) or override.get("SubnetId") or "?",
            code=error.get("ErrorCode", "?"),
            message=error.get("ErrorMessage", ""),
        )

    def find(self, trial: TrialId, attempt: int) -> Machine | None:
        """Find the machine of a seat's attempt by its tags. Living machines come before others."""
        tags = {**_trial_filter(trial), "attempt": str(attempt)}
        found = [
            tagged.machine for tagged in self.list(tags, states=None) if tagged.seat == trial.seat
        ]
        return min(
            found, key=lambda machine: (not machine.state.alive, machine.launched_at), default=None
        )

    def list(
        self, tags: Mapping[str, str], states: Sequence[str] | None = ALIVE
    ) -> Iterator[TaggedMachine]:
        """List machines of the environment with the given tags.

        :param tags: names without our prefix → values.
        :param states: EC2's names of states. None means all states, also terminated.
        """
        for instance in find_machines(self.ec2, self.environment, tags, states):
            yield _tagged_machine(instance)

    def list_of_trial(self, trial: TrialId) -> Iterator[TaggedMachine]:
        """List the living machines of all attempts and seats of a trial."""
        return self.list(_trial_filter(trial))

    def terminate_attempts(self, trial: TrialId, last_attempts: Sequence[int]) -> None:
        """Terminate the machines of a trial's attempts up to a number, but no later ones.

        :param last_attempts: the number for each seat. Other seats have no machine.
        """
        self.terminate(
            tagged.machine.instance_id
            for tagged in self.list_of_trial(trial)
            if tagged.seat >= len(last_attempts)
            or tagged.machine.attempt <= last_attempts[tagged.seat]
        )

    def describe(self, instance_ids: Iterable[str]) -> dict[str, Machine]:
        """Describe machines, with one call for each 200. Machines unknown to EC2 are absent."""
        found: dict[str, Machine] = {}
        for some in batches(instance_ids, FILTERED_AT_ONCE):
            # This uses a filter, because one unknown id in InstanceIds would fail the whole call.
            found |= self._describe(Filters=[{"Name": "instance-id", "Values": some}])
        return found

    def describe_ended(self, instance_ids: Iterable[str]) -> dict[str, Machine]:
        """Describe only the machines that are no longer alive, with one call for each 1,000.

        A running machine has not changed, and reading it takes half a millisecond.

        :raises botocore.exceptions.ClientError: `InvalidInstanceID.NotFound` if EC2 does not show
            one of them.
        """
        found: dict[str, Machine] = {}
        for some in batches(instance_ids, DESCRIBED_AT_ONCE):
            found |= self._describe(
                InstanceIds=some,
                Filters=[{"Name": "instance-state-name", "Values": list(NO_LONGER_ALIVE)}],
            )
        return found

    def _describe(self, **chosen: Any) -> dict[str, Machine]:
        pages = self.ec2.get_paginator("describe_instances").paginate(**chosen)
        return {
            tagged.machine.instance_id: tagged.machine
            for page in pages
            for tagged in _machines(page)
        }

    def terminate(self, instance_ids: Iterable[str]) -> None:
        """Terminate machines that EC2 has just made or listed.

        :raises botocore.exceptions.ClientError: if EC2 still does not know one of them after all
            tries. Then the machine may run.
        """
        terminate(self.ec2, instance_ids, NEW_PAUSES_S, self.sleep)

    def terminate_unseen(self, instance_id: str) -> None:
        """Terminate an older machine that EC2 does not show. It is no error if it is gone."""
        terminate(self.ec2, [instance_id])

    def read_console(self, instance_id: str) -> Iterator[str]:
        """Read the console of a machine that has ended, again and again for five minutes.

        EC2 posts it in parts, so the last lines may be missing at first. `Latest` shows more
        earlier, if the type supports it. botocore decodes the text.

        :return: the last 64 KiB at each time, in both forms.
        """
        latest = True
        for pause_s in CONSOLE_PAUSES_S:
            self.sleep(pause_s)
            if latest:
                try:
                    answer = self.ec2.get_console_output(InstanceId=instance_id, Latest=True)
                    yield answer.get("Output", "")
                except client_error() as error:
                    if error_code(error) != "UnsupportedOperation":
                        raise
                    latest = False
            yield self.ec2.get_console_output(InstanceId=instance_id).get("Output", "")

    def terminate_run(
        self, experiment: str, run: str, *, wait_s: float, sleep: Callable[[float], None]
    ) -> tuple[str, ...]:
        """Terminate a run's machines until none is left, or the time is over.

        :return: the ids of machines that are left. An empty result is the proof.
        """
        tags = {"experiment": experiment, "run": run}
        return terminate_until_gone(
            self.ec2,
            lambda: find_machines(self.ec2, self.environment, tags, PRESENT),
            wait_s=wait_s,
            sleep=sleep,
        )


class KnownMachines:
    """A cache of machines. A machine is read when it is new, and when it is no longer alive."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self._known: dict[str, Machine] = {}

    def look(self, instance_ids: Iterable[str]) -> dict[str, Machine]:
        """Look at machines, with one call for 1,000 running ones and one call for 200 others.

        A machine that EC2 does not show is absent.
        """
        wanted = dict.fromkeys(instance_ids)
        alive = {
            name: machine
            for name in wanted
            if (machine := self._known.get(name)) is not None and machine.state.alive
        }
        try:
            alive |= self.machines.describe_ended(alive)
        except client_error() as error:
            if error_code(error) != "InvalidInstanceID.NotFound":
                raise
            alive = {}  # EC2 no longer shows one of them, so read all of them again
        found = alive | self.machines.describe(name for name in wanted if name not in alive)
        self._known |= found
        return found

    def forget_all(self) -> None:
        """Clear the cache."""
        self._known.clear()


def batches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    """Split names into lists of at most `size`, without duplicates.

    >>> list(batches("abcab", 2))
    [['a', 'b'], ['c']]
    """
    distinct = list(dict.fromkeys(names))
    return (distinct[start : start + size] for start in range(0, len(distinct), size))


def _trial_filter(trial: TrialId) -> dict[str, str]:
    return {"experiment": trial.experiment, "run": trial.run, "trial": trial.trial}


def _machines(page: Mapping[str, Any]) -> Iterator[TaggedMachine]:
    for reservation in page.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            yield _tagged_machine(instance)


def _tagged_machine(instance: Mapping[str, Any]) -> TaggedMachine:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
    return TaggedMachine(_machine(instance, tags), tags)


def _machine(instance: Mapping[str, Any], tags: Mapping[str, str]) -> Machine:
    reason = instance.get("StateReason") or {}
    number = tags.get(f"{TAG_PREFIX}attempt", "")
    return Machine(
        instance_id=instance["InstanceId"],
        attempt=int(number) if number.isdigit() else 0,
        state=InstanceState(instance["State"]["Name"]),
        reason_code=reason.get("Code", ""),
        reason=reason.get("Message") or instance.get("StateTransitionReason", ""),
        instance_type=instance.get("InstanceType", ""),
        zone=(instance.get("Placement") or {}).get("AvailabilityZone", ""),
        market="spot" if instance.get("InstanceLifecycle") == "spot" else "on-demand",
        launched_at=instance["LaunchTime"],
        ended_at=_read_end(instance.get("StateTransitionReason", "")),
    )


def _read_end(reason: str) -> datetime | None:
    """Read the end time from EC2's state transition reason; None if it has no time.

    >>> _read_end("User initiated (2026-11-22 18:51:12 GMT)").isoformat()
    '2026-11-22T18:51:12+00:00'
    """
    found = END_TIME.search(reason)
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
