"""The life of an instance: pending, running, notices and its end."""

from __future__ import annotations

import base64
import datetime as dt
import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from local_aws.ec2 import metadata
from local_aws.ec2.launch_spec import LaunchSpec
from local_aws.ec2.store import Instance, Store, new_id, now, strip_after_end
from local_aws.iam.sessions import Issuer
from local_aws.machines.imds import Metadata
from local_aws.machines.loopback import loopback_address
from local_aws.machines.machine import Host, MachineProcess
from local_aws.pace import Lag, Lags, Pace

log = logging.getLogger("local_aws")
USER_INITIATED = (
    "Client.UserInitiatedShutdown",
    "Client.UserInitiatedShutdown: User initiated shutdown",
    "User initiated",
)
SHUT_ITSELF_DOWN = (
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
    "User initiated",
)
INTERRUPTED = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Spot instance termination",
    "Server.SpotInstanceTermination",
)
KILLED = (
    "Server.InternalError",
    "Server.InternalError: Internal error on launch",
    "Server.InternalError",
)
KEY_REFUSALS = {
    "Client.InternalError": "Client error on launch",
    "Client.InvalidKMSKey.InvalidState": "The KMS key provided is in an incorrect state",
}
"""How an instance ends whose disks are encrypted with a key that EC2 may not use, by code:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html"""
Reason = tuple[str, str, str]
"""The code and message of StateReason, and the text of StateTransitionReason."""


class Life:
    """Starts and ends instances.

    :ivar lag: called at each launch; returns for how long calls do not find the new instance.
    :ivar key_refusal: called at each launch; returns why EC2 may not use the key of the instance's
        disks, or None.
    :ivar on_change: called after each change of an instance's state.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        issuer: Issuer,
        account_id: str,
        pace: Pace,
        lags: Lags,
    ) -> None:
        self._store = store
        self._host = host
        self._issuer = issuer
        self._account_id = account_id
        self._pace = pace
        self.lag: Callable[[], Lag] = lags.draw
        self.key_refusal: Callable[[Instance], Reason | None] = lambda _instance: None
        self.on_change: Callable[[Instance], None] = lambda _instance: None

    @property
    def ami(self) -> Path:
        """The path of the environment that stands for the machine image."""
        return self._host.ami

    # --- Start ---

    def launch(
        self,
        spec: LaunchSpec,
        extra_tags: dict[str, str],
        client_token: str,
        index: int,
        reservation_id: str,
    ) -> Instance:
        """Create an instance in state pending, and boot it soon: this starts a process group."""
        with self._store.lock:
            instance = self._create(spec, extra_tags, client_token, index, reservation_id)
            instance.machine = self._make_machine(instance)
            self._store.instances[instance.id] = instance
        refusal = self.key_refusal(instance)
        self._later(
            instance,
            self._pace.pending_s,
            self._boot if refusal is None else lambda refused: self.end(refused, refusal),
        )
        return instance

    def _create(
        self,
        spec: LaunchSpec,
        extra_tags: dict[str, str],
        client_token: str,
        index: int,
        reservation_id: str,
    ) -> Instance:
        """Create the record of an instance, with its disks and its network interface."""
        address = self._store.free_address(spec.subnet["CidrBlock"])
        lag, at = self.lag(), time.time()
        record = _record(
            spec, address, {**spec.tags("instance"), **extra_tags}, client_token, index
        )
        made = Instance(
            record,
            reservation_id,
            spec.user_data,
            spec.on_shutdown,
            spec.profile["Roles"][0]["RoleName"] if spec.profile else None,
            volumes=[],
            interfaces=[],
            found_by_id_at=at + lag.by_id_s,
            listed_at=at + lag.by_filter_s,
        )
        made.volumes = [_volume(volume, spec, made.id) for volume in spec.volumes]
        made.interfaces = [_interface(spec, made.id, address, self._account_id)]
        record["BlockDeviceMappings"] = [_mapping(volume) for volume in made.volumes]
        record["NetworkInterfaces"] = [_attached(made.interfaces[0], address)]
        return made

    def _make_machine(self, instance: Instance) -> MachineProcess:
        """Create the instance's folder and start its metadata service."""
        credentials = None
        if instance.role_name:
            place = f"{self._host.region}:{self._account_id}"
            keys = {"aws:SourceArn": f"arn:aws:ec2:{place}:instance/{instance.id}"}
            credentials = self._issuer.holder(
                instance.role_name, instance.id, "ec2.amazonaws.com", keys
            )
        network = f"{self._host.folder} {instance.record['VpcId']}"
        address = loopback_address(instance.record["PrivateIpAddress"], network)
        shown = Metadata(
            metadata.tree(instance, address, self._account_id, self._host.region, credentials),
            lambda: instance.record["MetadataOptions"],
        )
        user_data = base64.b64decode(instance.user_data)
        return MachineProcess(
            self._host, instance.id, user_data, shown, lambda: self._powered_off(instance)
        )

    def _later(self, instance: Instance, delay_s: float, act: Callable[[Instance], None]) -> None:
        """Call a function with an instance after a delay."""
        timer = threading.Timer(delay_s, act, [instance])
        timer.daemon = True
        instance.timers.append(timer)
        timer.start()

    def _boot(self, instance: Instance) -> None:
        """Change an instance from pending to running and start its user data."""
        with self._store.lock:
            if instance.state != "pending" or instance.machine is None:
                return
            instance.enter("running")
            machine = instance.machine
        try:
            machine.boot()
        except OSError as error:
            log.error("%s does not boot: %s", instance.id, error)
            machine.say(f"boot failed: {error}")
            self.end(instance, KILLED)
        self.on_change(instance)

    # --- End ---

    def _powered_off(self, instance: Instance) -> None:
        """Terminate or stop an instance that shut itself down, as its launch requested."""
        self.end(instance, SHUT_ITSELF_DOWN, stop=instance.on_shutdown == "stop")

    def end(
        self, instance: Instance, reason: Reason, stop: bool = False, grace_s: float | None = None
    ) -> None:
        """Terminate or stop an instance: kill its processes and erase its disk. Return at once.

        :param grace_s: seconds between SIGTERM and SIGKILL; None for the default.
        """
        via, last = ("stopping", "stopped") if stop else ("shutting-down", "terminated")
        with self._store.lock:
            if instance.state in ("shutting-down", "terminated") or (
                stop and instance.state in ("stopping", "stopped")
            ):
                return
            for timer in instance.timers:
                timer.cancel()
            was_stopped = instance.state == "stopped"
            instance.enter(via)
            instance.record["StateReason"] = {"Code": reason[0], "Message": reason[1]}
            instance.record["StateTransitionReason"] = (
                f"{reason[2]} ({now():%Y-%m-%d %H:%M:%S} GMT)"
            )
        self.on_change(instance)
        threading.Thread(
            target=self._finish,
            args=[instance, last, was_stopped, grace_s],
            daemon=True,
            name="ending",
        ).start()

    def _finish(
        self, instance: Instance, last: str, was_stopped: bool, grace_s: float | None
    ) -> None:
        """End the processes of an instance, then set its last state."""
        began = time.monotonic()
        try:
            if instance.machine and not was_stopped:
                instance.machine.stop(*([] if grace_s is None else [grace_s]))
        except Exception:  # after any error, the instance must not stay in "shutting-down"
            log.exception("ending %s", instance.id)
        time.sleep(max(0.0, self._pace.ending_s - (time.monotonic() - began)))
        with self._store.lock:
            instance.enter(last)
            if last == "terminated":
                instance.ended_at = time.time()
                instance.volumes = [v for v in instance.volumes if _outlives(v)]
                instance.interfaces = []
                strip_after_end(instance.record)
        self.on_change(instance)

    def interrupt(self, instance: Instance, notice_s: float) -> None:
        """Interrupt a spot instance: show the notice now, and end the instance after `notice_s`.

        :param notice_s: seconds from the notice to the end; 0 for no notice.
        """
        if notice_s:
            at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=notice_s)
            instance.notice = {"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        self._later(instance, notice_s, lambda i: self.end(i, INTERRUPTED))

    def recommend_rebalance(self, instance: Instance) -> None:
        """Show a rebalance recommendation in the metadata service."""
        instance.rebalance_at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def kill(self, instance: Instance) -> None:
        """End an instance as a failing host does: its processes get SIGKILL at once."""
        self.end(instance, KILLED, grace_s=0.0)

    def end_all(self) -> None:
        """End every machine and wait for the ends, because the server ends."""
        ending = [
            i for i in self._store.instances.values() if i.machine and i.state != "terminated"
        ]
        for instance in ending:
            self.end(instance, KILLED, grace_s=1.0)
        end = time.monotonic() + 5
        while any(i.state != "terminated" for i in ending) and time.monotonic() < end:
            time.sleep(0.02)


def _outlives(volume: dict[str, object]) -> bool:
    """Say whether a disk remains when its instance ends."""
    return volume["_DeleteOnTermination"] is False


def _record(
    spec: LaunchSpec, address: str, tags: dict[str, str], client_token: str, index: int
) -> dict[str, object]:
    """Return what DescribeInstances reports of a new instance."""
    name = f"ip-{address.replace('.', '-')}.{spec.zone[:-1]}.compute.internal"
    spot = (
        {"InstanceLifecycle": "spot", "SpotInstanceRequestId": f"sir-{secrets.token_hex(4)}"}
        if spec.market == "spot"
        else {}
    )
    profile = (
        {
            "IamInstanceProfile": {
                "Arn": spec.profile["Arn"],
                "Id": spec.profile["InstanceProfileId"],
            }
        }
        if spec.profile
        else {}
    )
    template = (
        {
            "aws:ec2launchtemplate:id": spec.template_id,
            "aws:ec2launchtemplate:version": spec.template_version,
        }
        if spec.template_id
        else {}
    )
    all_tags = {**tags, **{key: str(value) for key, value in template.items()}}
    key = {"KeyName": spec.key_name} if spec.key_name else {}
    return {
        "InstanceId": new_id("i"),
        "ImageId": spec.image["ImageId"],
        "State": {"Code": 0, "Name": "pending"},
        "PrivateDnsName": name,
        "PublicDnsName": "",
        "StateTransitionReason": "",
        "AmiLaunchIndex": index,
        "ProductCodes": [],
        "InstanceType": spec.instance_type,
        "LaunchTime": now(),
        "Placement": {"AvailabilityZone": spec.zone, "GroupName": "", "Tenancy": "default"},
        "Monitoring": {"State": "enabled" if spec.monitoring else "disabled"},
        "SubnetId": spec.subnet["SubnetId"],
        "VpcId": spec.subnet["VpcId"],
        "PrivateIpAddress": address,
        "Architecture": spec.image["Architecture"],
        "ClientToken": client_token,
        "EbsOptimized": spec.ebs_optimized,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "RootDeviceName": spec.image.get("RootDeviceName", "/dev/sda1"),
        "RootDeviceType": "ebs",
        "SecurityGroups": [
            {"GroupId": g["GroupId"], "GroupName": g["GroupName"]} for g in spec.groups
        ],
        "SourceDestCheck": True,
        "Tags": [{"Key": k, "Value": v} for k, v in all_tags.items()],
        "VirtualizationType": "hvm",
        "MetadataOptions": dict(spec.metadata_options),
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        **spot,
        **profile,
        **key,
    }


def _volume(wanted: object, spec: LaunchSpec, instance_id: str) -> dict[str, object]:
    """Return what DescribeVolumes reports of one disk."""
    disk = dict(wanted)  # type: ignore[call-overload]
    keep, device = disk.pop("DeleteOnTermination"), disk.pop("Device")
    attachment = {
        "InstanceId": instance_id,
        "Device": device,
        "State": "attached",
        "AttachTime": now(),
        "DeleteOnTermination": keep,
    }
    made = {
        "VolumeId": new_id("vol"),
        "State": "in-use",
        "AvailabilityZone": spec.zone,
        "CreateTime": now(),
        "MultiAttachEnabled": False,
    }
    tags = [{"Key": key, "Value": value} for key, value in spec.tags("volume").items()]
    return {
        **disk,
        **made,
        "Attachments": [{**attachment, "VolumeId": made["VolumeId"]}],
        "Tags": tags,
        "_DeleteOnTermination": keep,
    }


def _mapping(volume: dict[str, object]) -> dict[str, object]:
    """Return a disk as DescribeInstances reports it."""
    attachment = volume["Attachments"][0]  # type: ignore[index]
    ebs = {
        "VolumeId": volume["VolumeId"],
        "Status": "attached",
        "AttachTime": attachment["AttachTime"],
        "DeleteOnTermination": attachment["DeleteOnTermination"],
    }
    return {"DeviceName": attachment["Device"], "Ebs": ebs}


def _interface(
    spec: LaunchSpec, instance_id: str, address: str, account_id: str
) -> dict[str, object]:
    """Return what DescribeNetworkInterfaces reports of the one interface."""
    mac = ":".join(["0a", *(f"{secrets.randbelow(256):02x}" for _ in range(5))])
    attachment = {
        "AttachmentId": new_id("eni-attach"),
        "InstanceId": instance_id,
        "DeviceIndex": 0,
        "Status": "attached",
        "AttachTime": now(),
        "DeleteOnTermination": True,
        "InstanceOwnerId": account_id,
    }
    return {
        "NetworkInterfaceId": new_id("eni"),
        "SubnetId": spec.subnet["SubnetId"],
        "VpcId": spec.subnet["VpcId"],
        "AvailabilityZone": spec.zone,
        "Description": "",
        "OwnerId": account_id,
        "RequesterManaged": False,
        "Status": "in-use",
        "MacAddress": mac,
        "InterfaceType": "interface",
        "PrivateIpAddress": address,
        "SourceDestCheck": True,
        "Groups": [{"GroupId": g["GroupId"], "GroupName": g["GroupName"]} for g in spec.groups],
        "Attachment": attachment,
        "TagSet": [{"Key": k, "Value": v} for k, v in spec.tags("network-interface").items()],
        "Tags": [{"Key": k, "Value": v} for k, v in spec.tags("network-interface").items()],
    }


def _attached(interface: dict[str, object], address: str) -> dict[str, object]:
    """Return the interface as DescribeInstances reports it."""
    kept = (
        "NetworkInterfaceId",
        "SubnetId",
        "VpcId",
        "Description",
        "OwnerId",
        "Status",
        "MacAddress",
        "InterfaceType",
        "PrivateIpAddress",
        "SourceDestCheck",
        "Groups",
    )
    attachment = {
        k: v
        for k, v in interface["Attachment"].items()  # type: ignore[attr-defined]
        if k not in ("InstanceId", "InstanceOwnerId")
    }
    return {
        **{name: interface[name] for name in kept},
        "Attachment": attachment,
        "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": address}],
    }
