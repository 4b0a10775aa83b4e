"""End machines of ours whose deadline has passed, whether Airflow is alive or not.

Needs boto3 alone, which Lambda's runtime has. A machine without a readable deadline gets an hour:
the launcher's policy never lets one start without, so somebody tagged it by hand, or changed the
tag.
"""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ENVIRONMENT_TAG = "nightshift:environment"
DEADLINE_TAG = "nightshift:deadline"
WITHOUT_DEADLINE = timedelta(hours=1)
ALIVE = ("pending", "running", "stopping", "stopped")


def handle(_event: Mapping[str, Any], _context: Any = None) -> dict[str, Any]:
    """Look at every machine of the environment, and end those that are late.

    :raises RuntimeError: if a machine could not be ended, so that the alarm rings.
    """
    import boto3  # not before it is needed: the module is also read without it

    return reap(boto3.client("ec2"), os.environ["NIGHTSHIFT_ENVIRONMENT"], datetime.now(UTC))


def reap(ec2: Any, environment: str, now: datetime) -> dict[str, Any]:
    """End what is late. Stops billing.

    :return: `{"seen": n, "ended": [ids]}`.
    :raises RuntimeError: if one could not be ended; the others are ended all the same.
    """
    seen = list(find_machines(ec2, environment))
    late = [str(machine["InstanceId"]) for machine in seen if is_late(machine, now)]
    failed = [problem for instance_id in late if (problem := _terminate(ec2, instance_id))]
    answer = {"seen": len(seen), "ended": late}
    print(json.dumps({"at": now.isoformat(), "environment": environment, **answer}))  # noqa: T201  Lambda's log
    if failed:
        raise RuntimeError("; ".join(failed))
    return answer


def find_machines(ec2: Any, environment: str) -> Iterator[Mapping[str, Any]]:
    """List the environment's machines that are not gone."""
    filters = [
        {"Name": f"tag:{ENVIRONMENT_TAG}", "Values": [environment]},
        {"Name": "instance-state-name", "Values": list(ALIVE)},
    ]
    for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def is_late(machine: Mapping[str, Any], now: datetime) -> bool:
    """Whether a machine should be gone.

    >>> at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> is_late({"Tags": [{"Key": "nightshift:deadline", "Value": "2026-01-01T11:59:59Z"}]}, at)
    True
    """
    tags = {tag["Key"]: tag["Value"] for tag in machine.get("Tags", ())}
    deadline = read_deadline(tags.get(DEADLINE_TAG, ""))
    if deadline is None:
        launched: datetime = machine.get("LaunchTime", now)
        return now - launched > WITHOUT_DEADLINE
    return deadline <= now


def read_deadline(text: str) -> datetime | None:
    """Read an ISO time; without an offset it is UTC. None if it is none."""
    try:
        deadline = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)


def _terminate(ec2: Any, instance_id: str) -> str:
    """End one machine. :return: what went wrong; empty when nothing did."""
    try:
        ec2.terminate_instances(InstanceIds=[instance_id])
    except Exception as error:
        return f"{instance_id}: {error}"
    return ""
