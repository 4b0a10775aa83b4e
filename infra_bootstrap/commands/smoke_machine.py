"""The one machine of a smoke run.

EC2 shows a new machine late. So a machine that is not shown counts as gone only after minutes.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra_bootstrap.clients import code_of
from infra_bootstrap.reaper.reaper import PRESENT, find_machines
from infra_bootstrap.reaper.termination import terminate_until_gone

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

#: A machine that EC2 does not show counts as gone only after this time. AWS gives no figure.
#: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
UNSEEN_S = 180.0
TERMINATE_WITHIN_S = 600.0


class SmokeMachine:
    """What is known about the machine that the run asked for.

    :param environment: the run's own environment, which has no other machine.
    :ivar instance_id: its id, once EC2 has answered with it.
    :ivar reason: why it ended, in EC2's words. It is empty as long as EC2 has not said it.
    """

    def __init__(
        self,
        ec2: "EC2Client",
        environment: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ec2, self._environment = ec2, environment
        self._clock, self._sleep = clock, sleep
        self._known_at: float | None = None
        self._seen = False
        self.instance_id: str | None = None
        self.reason = ""

    def asked(self) -> None:
        """Note that EC2 is being asked for a machine. From now on there may be one."""
        self._known_at = self._clock()

    def refused(self) -> None:
        """Note that EC2 has answered without a machine, so none can appear."""
        self._known_at = None

    def is_gone(self) -> bool:
        """Tell whether the machine has ended: EC2 says so, or has not shown it for minutes."""
        machine = self._look()
        if machine is None:
            return not self._may_appear()
        return machine["State"]["Name"] not in PRESENT

    def end(self) -> tuple[str, ...]:
        """Terminate the machine, also one that EC2 does not show yet.

        :return: the ids of machines that are left. An empty tuple is the proof that none is.
        """
        while not self._seen and self._may_appear():
            if self._look() is None:
                self._sleep(2.0)
        return terminate_until_gone(
            self._ec2, lambda: list(self._present()), wait_s=TERMINATE_WITHIN_S, sleep=self._sleep
        )

    def _may_appear(self) -> bool:
        return self._known_at is not None and self._clock() - self._known_at < UNSEEN_S

    def _present(self) -> "Iterator[InstanceTypeDef]":
        """List the machines that exist, by tag and by id, because the two lag differently."""
        found = {
            machine["InstanceId"]: machine
            for machine in find_machines(self._ec2, self._environment, states=PRESENT)
        }
        own = self._look()
        if own is not None and own["State"]["Name"] in PRESENT:
            found[own["InstanceId"]] = own
        yield from found.values()

    def _look(self) -> "InstanceTypeDef | None":
        """Look for the machine by its id, or by the environment's tag if there is no id."""
        machine = (
            self._describe(self.instance_id)
            if self.instance_id
            else next(find_machines(self._ec2, self._environment, states=None), None)
        )
        if machine is not None:
            self._seen, self._known_at = True, self._clock()
            self.reason = machine.get("StateReason", {}).get("Message", "") or self.reason
        return machine

    def _describe(self, instance_id: str) -> "InstanceTypeDef | None":
        try:
            found = self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        except ClientError as error:
            if code_of(error) != "InvalidInstanceID.NotFound":
                raise
            return None
        return next((machine for group in found for machine in group["Instances"]), None)
