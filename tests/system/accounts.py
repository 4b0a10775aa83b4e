"""A run's machines, attempts and money, read from the local AWS."""

import json
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import boto3

from laptop import local_account
from laptop.stack.dotenv import LOG_BUCKET
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.storage.layout import TrialId, checkpoint_prefix, head_key, heartbeat_key
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.heartbeats import Heartbeat

TAG = "nightshift:"
#: The number of failing looks in a row that are accepted.
MOST_FAILURES = 5


class Account:
    """The local AWS as its administrator sees it."""

    def __init__(self) -> None:
        variables = local_account.call("env", "--as", "administrator")["set"]
        request = urllib.request.Request(
            variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
            headers={"Authorization": variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            keys = json.loads(answer.read())
        self._session = boto3.Session(
            keys["AccessKeyId"], keys["SecretAccessKey"], keys["Token"], variables["AWS_REGION"]
        )
        self._endpoint_url = variables["AWS_ENDPOINT_URL"]
        self.ec2 = self.client("ec2")
        names = [one["Name"] for one in self.client("s3").list_buckets()["Buckets"]]
        bucket = next(name for name in names if name != LOG_BUCKET)
        self.store = S3Store(self.client("s3"), bucket)

    def client(self, service: str) -> Any:
        """Return a client."""
        return self._session.client(service, endpoint_url=self._endpoint_url)

    def machines(self, run: str | None = None) -> Iterator[dict[str, Any]]:
        """List all machines with their tags, also terminated ones; of one run, or of all."""
        filters = [{"Name": f"tag:{TAG}run", "Values": [run]}] if run else []
        for page in self.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for reservation in page["Reservations"]:
                for one in reservation["Instances"]:
                    yield {
                        **one,
                        "tags": {
                            tag["Key"].removeprefix(TAG): tag["Value"]
                            for tag in one.get("Tags", ())
                        },
                    }

    def attempts(self, experiment: str, run: str) -> list[Attempt]:
        """List a run's attempts, oldest first."""
        found = [
            Attempt.from_json(get(self.store, item.key).data, item.key)
            for item in self.store.list(f"attempts/{experiment}/{run}/")
        ]
        return sorted(found, key=lambda one: (one.trial, one.attempt))

    def ledger(self, experiment: str, run: str) -> Ledger:
        """Return the run's ledger."""
        key = next(
            item.key
            for item in self.store.list("ledger/")
            if item.key.endswith(f"/{experiment}/{run}.json")
        )
        return Ledger.from_json(get(self.store, key).data, key)


def check_books(account: Account, experiment: str, run: str) -> None:
    """Check the records of a run of one trial that trained to its end.

    Each machine belongs to one attempt and has ended. Its money was settled once. No attempt
    committed after the next one took over.
    """
    machines, attempts = list(account.machines(run)), account.attempts(experiment, run)
    assert {one["State"]["Name"] for one in machines} == {"terminated"}
    granted = {
        one.outcome.instance_id: str(one.attempt) for one in attempts if one.outcome.instance_id
    }
    assert {one["InstanceId"]: one["tags"]["attempt"] for one in machines} == granted, (
        "a machine that no attempt knows"
    )
    assert [one.attempt for one in attempts] == list(range(1, len(attempts) + 1))
    assert attempts[-1].outcome.end is AttemptEnd.FINISHED
    entries = account.ledger(experiment, run).entries
    assert [(one.attempt, one.usd, one.seconds) for one in entries] == [
        (one.attempt, one.outcome.usd, one.outcome.seconds) for one in attempts
    ]
    assert all(one.usd is not None for one in entries)
    trial = TrialId(experiment, run, attempts[0].trial)
    committed = sorted(
        _step_and_attempt(item.key)
        for item in account.store.list(checkpoint_prefix(trial))
        if item.key.count("/") > 5
    )
    assert [attempt for _, attempt in committed] == sorted(attempt for _, attempt in committed), (
        "a zombie committed"
    )
    head = Head.from_json(get(account.store, head_key(trial)).data, head_key(trial))
    beat = Heartbeat.from_json(get(account.store, heartbeat_key(trial)).data, heartbeat_key(trial))
    assert head.attempt == beat.attempt == attempts[-1].attempt


def _step_and_attempt(key: str) -> tuple[int, int]:
    """Read step and attempt from `checkpoints/<experiment>/<run>/<trial>/<step>/<attempt>/…`."""
    step, attempt = key.split("/")[4:6]
    return int(step), int(attempt)


class MachineWatch(threading.Thread):
    """Watches which machines work on the same trial; `twice` keeps those that overlapped.

    A failing look is repeated. If looks keep failing, the watch ends, and its block ends with an
    error.
    """

    def __init__(self, account: Account) -> None:
        super().__init__(daemon=True)
        self.account = account
        self.seen: set[str] = set()
        self.twice: set[tuple[str, ...]] = set()
        self._over = threading.Event()
        self._failures: list[Exception] = []

    def run(self) -> None:
        """Look until the block ends."""
        while not self._over.wait(0.2) and len(self._failures) < MOST_FAILURES:
            try:
                self._look()
            except Exception as error:
                self._failures.append(error)
            else:
                self._failures.clear()

    def _look(self) -> None:
        working = defaultdict(list)
        for one in self.account.machines():
            if one["State"]["Name"] in ("pending", "running") and "trial" in one["tags"]:
                working[one["tags"]["experiment"], one["tags"]["run"], one["tags"]["trial"]].append(
                    one["InstanceId"]
                )
        self.seen |= {machine for ids in working.values() for machine in ids}
        self.twice |= {(*trial, *sorted(ids)) for trial, ids in working.items() if len(ids) > 1}

    def __enter__(self) -> "MachineWatch":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self.join(120)
        if kind is None and (self._failures or self.is_alive()):
            raise RuntimeError("the watch of the machines has ended") from (
                self._failures or [None]
            )[-1]
