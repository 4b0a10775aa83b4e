"""EC2's front: reads the wire, authorizes, repeats what a client token stands for, and passes on what is not ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from local_aws import emulator, wire
from local_aws.ec2 import fleet
from local_aws.ec2.catalog import CATALOG, QUOTAS, quota_of
from local_aws.ec2.launch import Resolver, Spec, as_fault
from local_aws.ec2.lifecycle import USER_INITIATED, Life
from local_aws.ec2.permissions import CALLER, Permissions, as_tags, tag_keys
from local_aws.ec2.reading import Reader
from local_aws.ec2.store import Instance, Store, new_id
from local_aws.wire import Fault

Request = dict[str, Any]
Response = dict[str, Any]
DRY_RUN = Fault("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
ENDPOINT_ID = re.compile(rb"<vpcEndpointId>([^<]+)<")
OPEN_POLICY = '{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}'
OURS = ("i-", "vol-", "eni-")
CAPACITY = (
    "We currently do not have sufficient {type} capacity in the Availability Zone you requested "
    "({zone}). Our system will be working on "
    "provisioning additional capacity. You can currently get {type} capacity by not specifying an "
    "Availability Zone in your request."
)


class Ec2:
    """The handler that takes the place of the emulator's."""

    def __init__(
        self, original: Any, store: Store, life: Life, reader: Reader, resolver: Resolver, permissions: Permissions,
        images: Callable[[], Mapping[str, Mapping[str, Any]]],
    ) -> None:  # fmt: skip
        self._original = original
        self.store = store
        self.life = life
        self._reader = reader
        self._resolver = resolver
        self._permissions = permissions
        self._images = images
        self.refuse: Callable[[str, str, str], Fault | None] = lambda _instance_type, _zone, _market: None
        self._reads: dict[str, Callable[[Request], Response]] = {
            "DescribeInstances": reader.describe_instances,
            "DescribeInstanceStatus": reader.describe_instance_status,
            "DescribeInstanceAttribute": reader.describe_instance_attribute,
            "DescribeInstanceTypes": reader.describe_instance_types,
            "DescribeInstanceTypeOfferings": reader.describe_instance_type_offerings,
            "DescribeSpotPriceHistory": reader.describe_spot_price_history,
            "DescribeImages": reader.describe_images,
            "DescribeVolumes": reader.describe_volumes,
            "DescribeNetworkInterfaces": reader.describe_network_interfaces,
            "DescribeTags": reader.describe_tags,
            "DescribeFlowLogs": reader.describe_flow_logs,
            "DescribeVpcEndpoints": reader.describe_vpc_endpoints,
            "DescribeLaunchTemplateVersions": reader.describe_launch_template_versions,
        }
        self._writes: dict[str, Callable[[Request, bool], Response]] = {
            "RunInstances": self.run_instances,
            "CreateFleet": self.create_fleet,
            "TerminateInstances": self.terminate_instances,
            "StopInstances": self.stop_instances,
            "GetConsoleOutput": self.get_console_output,
            "CreateTags": self.create_tags,
            "DeleteTags": self.delete_tags,
        }

    def authorizes(self, service: str, iam_action: str) -> bool:
        """Say whether an action is authorized here, resource by resource."""
        action = iam_action.partition(":")[2]
        return service == "ec2" and (action in self._reads or action in self._writes)

    async def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, list[str]]
    ) -> wire.Response:
        """Serve one request."""
        flat = wire.flatten(body, query)
        action = flat.get("Action", "")
        CALLER.set(headers)
        try:
            if action in ("CreateTags", "DeleteTags") and not _names_ours(flat):
                self._authorize_foreign_tags(action, wire.decode_request(action, flat))
            elif action in self._reads or action in self._writes:
                request = wire.decode_request(action, flat)
                return wire.encode_response(action, await asyncio.to_thread(self._serve, action, request))
        except Fault as fault:
            return fault.response()
        except ClientError as error:
            return as_fault(error).response()
        answer: wire.Response = await self._original(method, path, headers, body, query)
        if action == "CreateVpcEndpoint" and answer[0] == 200:
            keep_policy(answer[2], flat.get("PolicyDocument"))
        return answer

    def _serve(self, action: str, request: Request) -> Response:
        """Authorize and answer one request."""
        dry_run = bool(request.pop("DryRun", False))
        with self.store.lock:
            if action in self._reads:
                self._permissions.require_read(action)
                if dry_run:
                    raise DRY_RUN
                return self._reads[action](request)
            return self._writes[action](request, dry_run)

    # -- launching ----------------------------------------------------------------------------------------------
    def run_instances(self, request: Request, dry_run: bool) -> Response:
        """Launch instances: starts their machines."""
        least, most = int(request.pop("MinCount", 1)), int(request.pop("MaxCount", 1))
        if not 1 <= least <= most:
            raise Fault(
                "InvalidParameterValue",
                f"Value ({least}) for parameter minCount is invalid. minCount must be from 1 to maxCount.",
            )
        token = request.pop("ClientToken", "")
        spec = self._resolver.resolve(request, self._images())
        self._permissions.require_launch(spec)
        if dry_run:
            raise DRY_RUN
        asked = {**request, "MinCount": least, "MaxCount": most}
        if token and (known := self.store.find_answer("RunInstances", token, asked)):
            return self._replayed(known)
        made = self._launch_many(spec, least, most, {}, token)
        answer = {
            "ReservationId": made[0].reservation_id,
            "OwnerId": self._account(made[0]),
            "Groups": [],
            "Instances": [i.described() for i in made],
        }
        if token:
            self.store.remember("RunInstances", token, asked, {"instances": [i.id for i in made], "answer": answer})
        return answer

    @staticmethod
    def _account(instance: Instance) -> str:
        """Return the owner of an instance."""
        return str(instance.interfaces[0]["OwnerId"]) if instance.interfaces else ""

    def _replayed(self, known: Response) -> Response:
        """Return an earlier launch with its instances as they are now."""
        current = [self.store.instances[i].described() for i in known["instances"] if i in self.store.instances]
        return {**known["answer"], "Instances": current or known["answer"]["Instances"]}

    def _launch_many(self, spec: Spec, least: int, most: int, tags: dict[str, str], token: str) -> list[Instance]:
        """Launch as many as there is room for, at least ``least``.

        :raises Fault: the refusal, if there is room for fewer.
        """
        self._check_image()
        room, refusal = most, None
        for n in range(most):
            refusal = self._refusal(spec, n)
            if refusal:
                room = n
                break
        if refusal and room < least:
            raise refusal
        reservation = new_id("r")
        made = [self.life.launch(spec, tags, token, n, reservation) for n in range(room)]
        self.store.save()
        return made

    def _check_image(self) -> None:
        """Refuse to launch from an image that was never made.

        :raises Fault: InvalidAMIID.Unavailable, naming what to run.
        """
        if not (self.life.ami / "bin" / "python").exists():
            raise Fault("InvalidAMIID.Unavailable", f"The local AWS has no machine image at {self.life.ami}: run `make setup`")

    def _refusal(self, spec: Spec, already: int) -> Fault | None:
        """Return why one more instance cannot be launched, or None: a set fault, or the quota."""
        if fault := self.refuse(spec.instance_type, spec.zone, spec.market):
            return fault
        code = quota_of(spec.instance_type, spec.market)
        used = sum(
            CATALOG[i.record["InstanceType"]].vcpus
            for i in self.store.visible()
            if i.state in ("pending", "running") and _quota(i) == code
        )
        needed = used + (already + 1) * CATALOG[spec.instance_type].vcpus
        if needed <= QUOTAS[code][1]:
            return None
        if spec.market == "spot":
            return Fault("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        return Fault(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {QUOTAS[code][1]:.0f} allows "
            "for the instance bucket that the specified instance type belongs to.",
        )

    def create_fleet(self, request: Request, dry_run: bool) -> Response:
        """Launch an instant fleet: starts its machines, and reports each override that was refused."""
        if request.get("Type", "maintain") != "instant":
            raise Fault(
                "InvalidParameterValue", f"The local AWS has fleets of type instant only, not {request.get('Type', 'maintain')}."
            )
        token = request.pop("ClientToken", "")
        fleet_tags = as_tags(request.get("TagSpecifications"), "fleet")
        self._permissions.require("ec2:CreateFleet", self._permissions.arn("fleet", "*"), tag_keys(fleet_tags))
        if fleet_tags:
            self._permissions.require(
                "ec2:CreateTags", self._permissions.arn("fleet", "*"), {**tag_keys(fleet_tags), "ec2:CreateAction": "CreateFleet"}
            )
        if dry_run:
            self._rehearse_fleet(request)
            raise DRY_RUN
        if token and (known := self.store.find_answer("CreateFleet", token, request)):
            return known
        answer = self._fill(request, token)
        if token:
            self.store.remember("CreateFleet", token, request, answer)
            self.store.save()
        return answer

    def _choices(self, request: Request, market: str) -> list[fleet.Choice]:
        """Return a fleet's choices in the order in which they are tried."""
        tries = fleet.choices(request["LaunchTemplateConfigs"])
        zones = {s["SubnetId"]: s["AvailabilityZone"] for s in self._resolver.subnets()}
        return fleet.in_order(tries, fleet.strategy_of(request, market), market, zones)

    def _instance_tags(self, request: Request) -> Sequence[Mapping[str, Any]]:
        """Return the fleet's tag specifications that reach its instances."""
        return [s for s in request.get("TagSpecifications", []) if s.get("ResourceType") != "fleet"]

    def _rehearse_fleet(self, request: Request) -> None:
        """Authorize every choice of a fleet without launching."""
        for market in fleet.targets(request["TargetCapacitySpecification"]):
            for template, override in self._choices(request, market):
                run = fleet.as_run_request(template, override, market, self._instance_tags(request))
                self._permissions.require_launch(self._resolver.resolve(run, self._images()))

    def _fill(self, request: Request, token: str) -> Response:
        """Launch what each market's target asks for."""
        fleet_id = f"fleet-{wire.request_id()}"
        made: list[Response] = []
        errors: list[Response] = []
        for market, target in fleet.targets(request["TargetCapacitySpecification"]).items():
            self._fill_market(request, token, market, target, fleet_id, made, errors)
        return {"FleetId": fleet_id, "Instances": made, "Errors": errors}

    def _fill_market(
        self, request: Request, token: str, market: str, target: int, fleet_id: str, made: list[Response], errors: list[Response]
    ) -> None:
        """Try the choices of one market until its target is reached."""
        missing = target
        for template, override in self._choices(request, market):
            if missing <= 0:
                return
            where = fleet.described(template, override, market)
            try:
                run = fleet.as_run_request(template, override, market, self._instance_tags(request))
                spec = self._resolver.resolve(run, self._images())
                self._permissions.require_launch(spec)
                launched = self._launch_many(spec, 1, missing, {"aws:ec2:fleet-id": fleet_id}, token)
            except Fault as fault:
                errors.append({**where, "ErrorCode": fault.code, "ErrorMessage": fault.message})
                continue
            missing -= len(launched)
            made.append({**where, "InstanceIds": [i.id for i in launched], "InstanceType": spec.instance_type})

    # -- ending and tagging -------------------------------------------------------------------------------------
    def terminate_instances(self, request: Request, dry_run: bool) -> Response:
        """Terminate instances: kills their processes and erases their disks."""
        chosen = self._authorized("TerminateInstances", request["InstanceIds"], dry_run)
        return {"TerminatingInstances": [self._ended(i, stop=False) for i in chosen]}

    def stop_instances(self, request: Request, dry_run: bool) -> Response:
        """Stop instances: kills their processes."""
        chosen = self._authorized("StopInstances", request["InstanceIds"], dry_run)
        if any("InstanceLifecycle" in i.record for i in chosen):
            raise Fault(
                "UnsupportedOperation",
                "You can't stop the Spot Instance because it is associated with a one-time Spot Instance request. "
                "You can only stop Spot Instances associated with persistent Spot Instance requests.",
            )
        return {"StoppingInstances": [self._ended(i, stop=True) for i in chosen]}

    def _authorized(self, action: str, instance_ids: list[str], dry_run: bool) -> list[Instance]:
        """Return instances that the caller may act on.

        The action is asked for before the ids are looked up, so that nobody learns which exist.
        """
        known = [found for i in instance_ids if (found := self.store.find(i))]
        self._permissions.require_on(action, known)
        for missing in set(instance_ids) - {i.id for i in known}:
            self._permissions.require(f"ec2:{action}", self._permissions.arn("instance", missing), {})
        chosen = self.store.get(instance_ids)
        if dry_run:
            raise DRY_RUN
        return chosen

    def _ended(self, instance: Instance, stop: bool) -> Response:
        """End one instance and say what changed."""
        before = dict(instance.record["State"])
        self.life.end(instance, USER_INITIATED, stop=stop)
        return {"InstanceId": instance.id, "PreviousState": before, "CurrentState": dict(instance.record["State"])}

    def get_console_output(self, request: Request, dry_run: bool) -> Response:
        """Return an instance's console, if the caller may read that instance's."""
        self._authorized("GetConsoleOutput", [request["InstanceId"]], dry_run)
        return self._reader.get_console_output(request)

    def create_tags(self, request: Request, dry_run: bool) -> Response:
        """Set tags of instances, disks and interfaces."""
        wanted = {tag["Key"]: tag.get("Value", "") for tag in request["Tags"]}
        reserved = [key for key in wanted if key.lower().startswith("aws:")]
        if reserved:
            raise Fault(
                "InvalidParameterValue",
                f"Value ( {reserved[0]} ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved "
                "for internal use",
            )
        return self._retag("CreateTags", request, dry_run, lambda tags: {**tags, **wanted}, wanted)

    def delete_tags(self, request: Request, dry_run: bool) -> Response:
        """Remove tags of instances, disks and interfaces."""
        gone = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])}
        return self._retag("DeleteTags", request, dry_run, lambda tags: {k: v for k, v in tags.items() if k not in gone}, gone)

    def _retag(
        self,
        action: str,
        request: Request,
        dry_run: bool,
        change: Callable[[dict[str, str]], dict[str, str]],
        named: dict[str, str],
    ) -> Response:
        """Change tags where the caller may."""
        holders = self._holders(request["Resources"])
        for resource_id, (instance, _) in holders.items():
            kind = {"i": "instance", "vol": "volume", "eni": "network-interface"}[resource_id.partition("-")[0]]
            if kind == "instance":
                self._permissions.require_on(action, [instance], tag_keys(named))
            else:
                self._permissions.require(f"ec2:{action}", self._permissions.arn(kind, resource_id), tag_keys(named))
        if dry_run:
            raise DRY_RUN
        for _, record in holders.values():
            fresh = change({t["Key"]: t["Value"] for t in record.get("Tags", [])})
            record["Tags"] = record["TagSet"] = [{"Key": k, "Value": v} for k, v in fresh.items()]
        self.store.save()
        return {}

    def _holders(self, resources: Sequence[str]) -> dict[str, tuple[Instance, Response]]:
        """Return the records that hold resources' tags."""
        found: dict[str, tuple[Instance, Response]] = {}
        for instance in self.store.visible():
            found[instance.id] = (instance, instance.record)
            found |= {v["VolumeId"]: (instance, v) for v in instance.volumes} | {
                n["NetworkInterfaceId"]: (instance, n) for n in instance.interfaces
            }
        missing = [r for r in resources if r not in found]
        if missing:
            codes = {
                "i": "InvalidInstanceID.NotFound",
                "vol": "InvalidVolume.NotFound",
                "eni": "InvalidNetworkInterfaceID.NotFound",
            }
            raise Fault(codes.get(missing[0].partition("-")[0], "InvalidID"), f"The ID '{missing[0]}' does not exist")
        return {r: found[r] for r in resources}

    def _authorize_foreign_tags(self, action: str, request: Request) -> None:
        """Authorize tags on what the emulator keeps; it then sets them."""
        named = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])}
        for resource in request.get("Resources", []):
            self._permissions.require(
                f"ec2:{action}", self._permissions.arn(KINDS.get(resource.rpartition("-")[0], "*"), resource), tag_keys(named)
            )


KINDS = {
    "vpc": "vpc",
    "subnet": "subnet",
    "sg": "security-group",
    "rtb": "route-table",
    "vpce": "vpc-endpoint",
    "lt": "launch-template",
    "fl": "vpc-flow-log",
    "ami": "image",
    "igw": "internet-gateway",
    "acl": "network-acl",
    "sgr": "security-group-rule",
}


def keep_policy(answer: bytes, document: str | None) -> None:
    """Keep the policy of an endpoint that was just made; the emulator drops it."""
    found = ENDPOINT_ID.search(answer if isinstance(answer, bytes) else str(answer).encode())
    record = emulator.module("services.ec2")._vpc_endpoints.get(found.group(1).decode()) if found else None
    if record is not None:
        record["PolicyDocument"] = document or OPEN_POLICY


def _names_ours(flat: Mapping[str, str]) -> bool:
    """Say whether a tagging request names something that is kept here."""
    return any(value.startswith(OURS) for name, value in flat.items() if name.startswith("ResourceId."))


def _quota(instance: Instance) -> str:
    """Return the quota that an instance counts against."""
    return quota_of(instance.record["InstanceType"], instance.record.get("InstanceLifecycle", "on-demand"))


def capacity_refusal(instance_type: str, zone: str) -> Fault:
    """Return EC2's refusal for lack of machines."""
    return Fault("InsufficientInstanceCapacity", CAPACITY.format(type=instance_type, zone=zone), 500)
