"""Terminate machines whose deadline has passed, whether Airflow runs or not.

This module is the whole zip of the scheduled Lambda function, so it imports boto3 and the standard
library alone. It holds the one rule for overdue machines: Airflow's reap operator, the smoke run
and `destroy` import it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef

#: The same prefix as in `rl_lifecycle.machines.launch_requests`, which the zip does not contain.
TAG_PREFIX = "nightshift:"
ENVIRONMENT_TAG = f"{TAG_PREFIX}environment"
DEADLINE_TAG = f"{TAG_PREFIX}deadline"
#: How long a machine without a readable deadline may run. The launcher's policy refuses a launch
#: without a deadline, so a person tagged the machine by hand or changed its tag.
WITHOUT_DEADLINE = timedelta(hours=1)
NO_GRACE = timedelta(0)
ALIVE = ("pending", "running", "stopping", "stopped")
#: A machine that is shutting down costs nothing any more, but it still exists.
PRESENT = (*ALIVE, "shutting-down")


def handle(_event: Mapping[str, Any], _context: Any = None) -> dict[str, Any]:
    """Terminate the overdue machines of the environment that the function belongs to.

    :raises RuntimeError: if a machine could not be terminated, so that the alarm goes off.
    """
    import boto3  # here, because other modules import the rule without needing a client

    return reap(boto3.client("ec2"), os.environ["NIGHTSHIFT_ENVIRONMENT"], datetime.now(UTC))


def reap(ec2: EC2Client, environment: str, now: datetime) -> dict[str, Any]:
    """Terminate the overdue machines of an environment. This stops billing for them.

    :return: `{"seen": n, "ended": [ids]}`.
    :raises RuntimeError: if a machine could not be terminated. The others are terminated first.
    """
    seen = list(find_machines(ec2, environment))
    overdue = [str(machine["InstanceId"]) for machine in seen if is_overdue(machine, now)]
    problems = [problem for name in overdue if (problem := _terminate(ec2, name))]

    answer = {"seen": len(seen), "ended": overdue}
    print(json.dumps({"at": now.isoformat(), "environment": environment, **answer}))  # noqa: T201  Lambda's log
    if problems:
        raise RuntimeError("; ".join(problems))
    return answer


def find_machines(
    ec2: EC2Client,
    environment: str,
    tags: Mapping[str, str] | None = None,
    states: Sequence[str] | None = ALIVE,
) -> Iterator[InstanceTypeDef]:
    """List the machines of an environment, as DescribeInstances shows them.

    :param tags: more tags that a machine must have, by name without our prefix.
    :param states: EC2's names of states. None means all states, also terminated machines.
    """
    wanted = {"environment": environment, **(tags or {})}
    filters: list[FilterTypeDef] = [
        {"Name": f"tag:{TAG_PREFIX}{name}", "Values": [value]} for name, value in wanted.items()
    ]
    if states is not None:
        filters.append({"Name": "instance-state-name", "Values": list(states)})

    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page.get("Reservations", ()):
            yield from reservation.get("Instances", ())


def is_overdue(machine: InstanceTypeDef, now: datetime) -> bool:
    """Tell whether a machine, as DescribeInstances shows it, should be gone.

    >>> at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> is_overdue({"Tags": [{"Key": "nightshift:deadline", "Value": "2026-01-01T11:59:59Z"}]}, at)
    True
    """
    tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}
    return overdue_reason(tags, machine.get("LaunchTime", now), now) is not None


def overdue_reason(
    tags: Mapping[str, str], launched_at: datetime, now: datetime, grace: timedelta = NO_GRACE
) -> str | None:
    """Say why a machine should be gone. The answer is None if it may continue to run.

    :param grace: how long a machine may outlive its deadline before it counts as overdue. It does
        not apply to a machine without a readable deadline.

    >>> at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> overdue_reason({"nightshift:deadline": "2026-01-01T11:00:00Z"}, at, at)
    'its deadline was 2026-01-01 11:00 UTC'
    >>> overdue_reason({}, at, at) is None
    True
    """
    deadline = read_deadline(tags.get(DEADLINE_TAG, ""))
    if deadline is None:
        return "it has no readable deadline" if now - launched_at > WITHOUT_DEADLINE else None
    if now < deadline + grace:
        return None
    return f"its deadline was {deadline:%Y-%m-%d %H:%M} UTC"


def read_deadline(text: str) -> datetime | None:
    """Read an ISO 8601 time. A time without an offset is UTC. Other texts give None."""
    try:
        deadline = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)


def _terminate(ec2: EC2Client, instance_id: str) -> str:
    """Terminate a machine. :return: the problem, or an empty text if there was none."""
    try:
        ec2.terminate_instances(InstanceIds=[instance_id])
    except Exception as error:  # of any kind: the other overdue machines must still be terminated
        return f"{instance_id}: {error}"
    return ""
