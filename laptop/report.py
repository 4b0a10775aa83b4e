"""The result of a night, read from the account: stacks, the run's summary, machines left."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import boto3

from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.reports.run_summary import latest_spec, render_summary, summarise_run
from rl_lifecycle.storage.layout import attempt_prefix
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.storage.s3_store import S3Store

CONCERNS = ("identity", "network", "storage", "training", "evaluation")
ENVIRONMENT = "dev"


def read_stacks(cloudformation: Any) -> dict[str, str]:
    """Read the state of each stack of the environment.

    :return: stack name → status and time of the last change.
    """
    found = {}
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            changed = stack.get("LastUpdatedTime") or stack["CreationTime"]
            found[stack["StackName"]] = f"{stack['StackStatus']} {changed.isoformat()}"
    return {
        name: found[name]
        for concern in CONCERNS
        if (name := f"nightshift-{ENVIRONMENT}-{concern}") in found
    }


def stack_outcomes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Compare two results of :func:`read_stacks`.

    :return: stack name → `created`, `updated`, `unchanged`, or the status of a stack that failed.

    >>> before = {"a": "CREATE_COMPLETE 1"}
    >>> stack_outcomes(before, before | {"b": "CREATE_COMPLETE 2"})
    {'a': 'unchanged', 'b': 'created'}
    """
    outcomes = {}
    for name, reading in after.items():
        status = reading.split()[0]
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            outcomes[name] = status.lower()
        elif name not in before:
            outcomes[name] = "created"
        else:
            outcomes[name] = "unchanged" if before[name] == reading else "updated"
    return outcomes


def instances_left(ec2: Any) -> list[str]:
    """List the ids of all machines of the environment that are not terminated."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": "tag:nightshift:environment", "Values": [ENVIRONMENT]},
            {
                "Name": "instance-state-name",
                "Values": ["pending", "running", "stopping", "stopped", "shutting-down"],
            },
        ]
    )
    return [
        instance["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def read_night(experiment: str) -> dict[str, Any]:
    """Read the newest run of an experiment, with the client's own credentials."""
    session = boto3.Session()
    bucket = _bucket(session.client("cloudformation"))
    store = S3Store(session.client("s3"), bucket)
    spec = latest_spec(store, experiment)
    summary = summarise_run(store, experiment, spec.run)
    attempts = [
        Attempt.from_json(get(store, item.key).data, item.key).outcome.model_dump(mode="json")
        for seat in spec.seats
        for item in store.list(attempt_prefix(seat))
    ]
    return {
        "summary": summary.model_dump(mode="json"),
        "text": render_summary(summary),
        "attempts": attempts,
        "instances_left": instances_left(session.client("ec2")),
    }


def render_stacks(outcomes: Mapping[str, str]) -> str:
    """Say in one line what happened to which stacks.

    >>> render_stacks({"nightshift-dev-identity": "unchanged", "nightshift-dev-network": "updated"})
    'stacks     unchanged: identity; updated: network'
    """
    groups: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        groups.setdefault(outcome, []).append(name.rsplit("-", 1)[-1])
    return "stacks     " + (
        "; ".join(f"{outcome}: {', '.join(names)}" for outcome, names in groups.items()) or "none"
    )


def _bucket(cloudformation: Any) -> str:
    stack = cloudformation.describe_stacks(StackName=f"nightshift-{ENVIRONMENT}-storage")["Stacks"][
        0
    ]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
    return str(next(value for key, value in outputs.items() if key in ("Bucket", "BucketName")))


def main(arguments: list[str]) -> int:
    """Print the stacks (`stacks`) or a night (`night EXPERIMENT`) as JSON."""
    answer = (
        read_stacks(boto3.client("cloudformation"))
        if arguments[0] == "stacks"
        else read_night(arguments[1])
    )
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
