"""EC2's state: instances with their disks and interfaces, and the answers to client tokens."""

from __future__ import annotations

import base64
import copy
import datetime as dt
import hashlib
import ipaddress
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_aws.emulator.wire import Ec2ApiError
from local_aws.machines.machine import MachineProcess

STATES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
LIVE = ("pending", "running", "stopping", "stopped", "shutting-down")
FORGET_TERMINATED_S = 3600.0
"""Terminated instances stay visible for about an hour:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html"""


def now() -> dt.datetime:
    """Return the time as EC2 reports it: UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def new_id(kind: str) -> str:
    """Return a new id such as `i-0123456789abcdef0`."""
    return f"{kind}-0{secrets.token_hex(8)}"


@dataclass
class Instance:
    """One instance.

    :param record: its record in DescribeInstances.
    :param volumes: its disks as DescribeVolumes reports them, while they exist.
    :param interfaces: its interfaces as DescribeNetworkInterfaces reports them, while they exist.
    :param found_by_id_at: calls with the instance's id do not find it before this time
        (`time.time`).
    :param listed_at: calls without its id do not list it before this time.
    """

    record: dict[str, Any]
    reservation_id: str
    user_data: str
    on_shutdown: str
    role_name: str | None
    volumes: list[dict[str, Any]]
    interfaces: list[dict[str, Any]]
    found_by_id_at: float = 0.0
    listed_at: float = 0.0
    ended_at: float | None = None
    notice: dict[str, str] | None = None
    rebalance_at: str | None = None
    machine: MachineProcess | None = field(default=None, repr=False)
    timers: list[threading.Timer] = field(default_factory=list, repr=False)

    @property
    def id(self) -> str:
        """The id of the instance."""
        return str(self.record["InstanceId"])

    @property
    def state(self) -> str:
        """The name of its state."""
        return str(self.record["State"]["Name"])

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, by key."""
        return {tag["Key"]: tag["Value"] for tag in self.record["Tags"]}

    def enter(self, state: str) -> None:
        """Change its state."""
        self.record["State"] = {"Code": STATES[state], "Name": state}

    def described(self) -> dict[str, Any]:
        """Return a copy of its record, with the values that only filters use."""
        return copy.deepcopy(self.record) | {"_ReservationId": self.reservation_id}

    def as_json(self) -> dict[str, Any]:
        """Return what survives a restart."""
        kept = (
            "record",
            "reservation_id",
            "user_data",
            "on_shutdown",
            "role_name",
            "volumes",
            "interfaces",
            "ended_at",
        )
        return {name: getattr(self, name) for name in kept}


@dataclass(frozen=True)
class Answer:
    """The answer that a client token stands for.

    :param digest: the digest of the request that used the token first.
    """

    digest: str
    response: dict[str, Any]
    at: float


class Store:
    """All instances and client tokens, with a lock for changes and a file that survives a crash."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self._file_lock = threading.Lock()
        self._version = self._written = 0
        self.instances: dict[str, Instance] = {}
        self._answers: dict[str, Answer] = {}
        self._path = path

    # --- Client tokens ---

    def find_answer(
        self, action: str, token: str, request: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return the answer that a token stands for, or None.

        :raises Ec2ApiError: IdempotentParameterMismatch if the token was used for another request.
        """
        known = self._answers.get(f"{action}/{token}")
        if known is None:
            return None
        if known.digest != digest(request):
            raise Ec2ApiError(
                "IdempotentParameterMismatch",
                "The request uses the same client token as a previous, but non-identical request.",
            )
        return known.response

    def remember(
        self, action: str, token: str, request: dict[str, Any], response: dict[str, Any]
    ) -> None:
        """Remember the answer of a request for its token."""
        self._answers[f"{action}/{token}"] = Answer(digest(request), response, time.time())

    # --- Instances ---

    def find(self, instance_id: str) -> Instance | None:
        """Return an instance that calls with its id find, or None."""
        found = self.instances.get(instance_id)
        return found if found and found.found_by_id_at <= time.time() else None

    def get(self, instance_ids: list[str]) -> list[Instance]:
        """Return instances by their ids.

        :raises Ec2ApiError: InvalidInstanceID.Malformed or .NotFound, naming all missing ids.
        """
        for given in instance_ids:
            if not (
                given.startswith("i-")
                and all(c in "0123456789abcdef" for c in given[2:])
                and len(given) in (10, 19)
            ):
                raise Ec2ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{given}"')
        missing = [given for given in instance_ids if self.find(given) is None]
        if missing:
            ids, verb = ("ID", "does") if len(missing) == 1 else ("IDs", "do")
            raise Ec2ApiError(
                "InvalidInstanceID.NotFound",
                f"The instance {ids} '{', '.join(missing)}' {verb} not exist",
            )
        return [self.instances[given] for given in instance_ids]

    def listed(self) -> list[Instance]:
        """Return the instances that calls without ids list, the oldest first."""
        at = time.time()
        return [i for i in self.known() if i.listed_at <= at]

    def known(self) -> list[Instance]:
        """Return all instances, also those that calls do not find yet, the oldest first.

        Instances that ended long ago are removed.
        """
        at = time.time()
        for known in [
            i
            for i in self.instances.values()
            if i.ended_at and at - i.ended_at > FORGET_TERMINATED_S
        ]:
            del self.instances[known.id]
        return list(self.instances.values())

    def free_address(self, cidr: str) -> str:
        """Return an address of a subnet that no live instance uses.

        :raises Ec2ApiError: InsufficientFreeAddressesInSubnet.
        """
        taken = {
            i.record.get("PrivateIpAddress")
            for i in self.instances.values()
            if i.state != "terminated"
        }
        hosts = list(ipaddress.ip_network(cidr))[4:-1]  # AWS keeps the first four and the last
        for host in secrets.SystemRandom().sample(hosts, min(len(hosts), len(taken) + 1)):
            if str(host) not in taken:
                return str(host)
        raise Ec2ApiError(
            "InsufficientFreeAddressesInSubnet",
            "There are not enough free addresses in the subnet.",
        )

    # --- Persistence ---

    def as_json(self) -> dict[str, Any]:
        """Return everything that survives a restart."""
        with self.lock:
            return {
                "instances": [copy.deepcopy(i.as_json()) for i in self.instances.values()],
                "answers": {
                    key: [a.digest, copy.deepcopy(a.response), a.at]
                    for key, a in self._answers.items()
                },
            }

    def save(self) -> None:
        """Write the file atomically. An older state never replaces a newer one.

        The state is read before the file's lock is taken, because a caller may already hold
        :attr:`lock`.
        """
        with self.lock:
            self._version += 1
            version, text = self._version, json.dumps(self.as_json(), default=_encode)
        with self._file_lock:
            if version > self._written:
                fresh = self._path.with_suffix(".new")
                fresh.write_text(text)
                fresh.replace(self._path)
                self._written = version

    def load(self) -> None:
        """Read the file. Instances that were alive ended with the server that ran them."""
        if not self._path.exists():
            return
        saved = json.loads(self._path.read_text(), object_hook=_decode)
        for known in saved["instances"]:
            instance = Instance(**known)
            if instance.state in LIVE:
                end_with_server(instance)
            self.instances[instance.id] = instance
        self._answers = {key: Answer(*values) for key, values in saved["answers"].items()}


def end_with_server(instance: Instance) -> None:
    """Mark an instance as terminated, because the local AWS that ran it has ended."""
    instance.enter("terminated")
    instance.record["StateReason"] = {
        "Code": "Server.InternalError",
        "Message": "Server.InternalError: the local AWS that ran it was stopped",
    }
    instance.record["StateTransitionReason"] = (
        f"Server.InternalError ({now():%Y-%m-%d %H:%M:%S} GMT)"
    )
    instance.volumes, instance.interfaces, instance.ended_at = [], [], time.time()
    strip_after_end(instance.record)


def strip_after_end(record: dict[str, Any]) -> None:
    """Remove the members that a terminated instance no longer reports."""
    for name in ("BlockDeviceMappings", "NetworkInterfaces", "SecurityGroups"):
        record[name] = []
    for name in ("PrivateIpAddress", "SubnetId", "VpcId", "IamInstanceProfile"):
        record.pop(name, None)
    record["PrivateDnsName"] = ""


def digest(request: dict[str, Any]) -> str:
    """Return the digest of a request. Equal requests have equal digests."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def _encode(value: Any) -> Any:
    """Encode a value that JSON does not have."""
    if isinstance(value, dt.datetime):
        return {"__at__": value.isoformat()}
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


def _decode(value: dict[str, Any]) -> Any:
    """Decode the values that :func:`_encode` encoded."""
    if "__at__" in value:
        return dt.datetime.fromisoformat(value["__at__"])
    if "__bytes__" in value:
        return base64.b64decode(value["__bytes__"])
    return value
