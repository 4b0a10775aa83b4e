"""Terminate machines, and prove that none of them is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rl_lifecycle.aws_errors import error_code

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef


#: EC2's answers about a machine that the part of EC2 which answers does not know yet. A role that
#: may act on our tags alone gets the second one, because that part does not know the tags either.
#: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
NOT_KNOWN, NOT_KNOWN_YET = (
    "InvalidInstanceID.NotFound",
    frozenset({"InvalidInstanceID.NotFound", "UnauthorizedOperation"}),
)


def terminate(
    ec2: EC2Client,
    instance_ids: Iterable[str],
    pauses_s: Sequence[float] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Terminate machines. A machine that EC2 no longer knows is not an error.

    :param pauses_s: the pauses before further tries, for machines that EC2 has just made or listed.
        EC2 answers for a while that it does not know such a machine, and the machine goes on. So
        this answer is an error after the last try. Without pauses, there is one try.
    """
    # Imported here, because Airflow parses DAG files that import this module and need no botocore.
    from botocore.exceptions import ClientError

    for instance_id in dict.fromkeys(instance_ids):
        for pause_s in (*pauses_s, None):
            try:
                ec2.terminate_instances(InstanceIds=[instance_id])
                break
            except ClientError as error:
                code = error_code(error)
                if not pauses_s and code == NOT_KNOWN:
                    break
                if pause_s is None or code not in NOT_KNOWN_YET:
                    raise
                sleep(pause_s)


def terminate_until_gone(
    ec2: EC2Client,
    list_present: Callable[[], Iterable[InstanceTypeDef]],
    *,
    wait_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, ...]:
    """Terminate machines and list them again, until none is left or the time is up.

    :param list_present: lists the machines that still exist, those that are shutting down included.
        It is called again each time, so a machine that appears late is terminated, too.
    :return: the ids of the machines that are left. An empty tuple is the proof that none is.
    """
    waited = 0.0
    while found := list(list_present()):
        terminate(
            ec2, (item["InstanceId"] for item in found if item["State"]["Name"] != "shutting-down")
        )
        if waited >= wait_s:
            return tuple(item["InstanceId"] for item in found)
        pause = min(2.0, max(0.2, waited / 4))
        sleep(pause)
        waited += pause
    return ()
