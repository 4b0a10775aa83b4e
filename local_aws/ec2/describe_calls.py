"""The Describe calls and the other calls that read."""

from __future__ import annotations

import base64
import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from local_aws.ec2 import filters
from local_aws.ec2.catalog import CATALOG, OfferedType, is_offered
from local_aws.ec2.store import Instance, Store, now
from local_aws.emulator import seams
from local_aws.emulator.wire import Ec2ApiError, coerce, model

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Request = Mapping[str, Any]
Response = dict[str, Any]
CONSOLE_LIMIT = 65536
SPOT_HISTORY_H = (0, 6, 12, 24, 48)
"""The age of each price of the spot history, in hours."""


class DescribeCalls:
    """Answers the calls that read instances, types, prices, images, disks and interfaces.

    :param network: a client of the emulator's EC2.
    :param images: returns the images of the account, by id.
    :param console_s: how long after an instance's end its console is posted.
    :ivar foreign_key: returns the ARN of the customer-managed key that encrypts every new disk by
        default, or None.
    """

    def __init__(
        self,
        store: Store,
        network: EC2Client,
        region: str,
        images: Callable[[], Mapping[str, Mapping[str, Any]]],
        console_s: float,
    ) -> None:
        self._store = store
        self._network = network
        self._region = region
        self._images = images
        self._console_s = console_s
        self.foreign_key: Callable[[], str | None] = lambda: None

    # --- Instances ---

    def _selected(self, request: Request) -> list[Instance]:
        """Return the instances that ids and filters select."""
        chosen = (
            self._store.get(request["InstanceIds"])
            if request.get("InstanceIds")
            else self._store.listed()
        )
        kept = filters.select(
            [i.described() for i in chosen], request.get("Filters", []), filters.INSTANCE
        )
        return [self._store.instances[record["InstanceId"]] for record in kept]

    def describe_instances(self, request: Request) -> Response:
        """List instances, grouped by reservation."""
        if request.get("InstanceIds") and request.get("MaxResults"):
            raise Ec2ApiError(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        chosen, after = filters.page(
            self._selected(request), request.get("MaxResults"), request.get("NextToken")
        )
        reservations: dict[str, Response] = {}
        for instance in chosen:
            owner = instance.interfaces[0]["OwnerId"] if instance.interfaces else ""
            group = reservations.setdefault(
                instance.reservation_id,
                {
                    "ReservationId": instance.reservation_id,
                    "OwnerId": owner,
                    "Groups": [],
                    "Instances": [],
                },
            )
            group["Instances"].append(instance.described())
        return {"Reservations": list(reservations.values()), "NextToken": after}

    def describe_instance_status(self, request: Request) -> Response:
        """List the status of running instances, or of all visible instances on request."""
        chosen = (
            list(self._store.get(request["InstanceIds"]))
            if request.get("InstanceIds")
            else self._store.listed()
        )
        shown = [
            _status(i) for i in chosen if request.get("IncludeAllInstances") or i.state == "running"
        ]
        page, after = filters.page(
            filters.select(shown, request.get("Filters", []), filters.STATUS),
            request.get("MaxResults"),
            request.get("NextToken"),
        )
        return {"InstanceStatuses": page, "NextToken": after}

    def describe_instance_attribute(self, request: Request) -> Response:
        """Return one attribute of an instance."""
        instance = self._store.get([request["InstanceId"]])[0]
        attribute = request.get("Attribute", "")
        values: dict[str, tuple[str, Any]] = {
            "userData": ("UserData", {"Value": instance.user_data}),
            "instanceInitiatedShutdownBehavior": (
                "InstanceInitiatedShutdownBehavior",
                {"Value": instance.on_shutdown},
            ),
            "instanceType": ("InstanceType", {"Value": instance.record["InstanceType"]}),
            "disableApiTermination": ("DisableApiTermination", {"Value": False}),
            "ebsOptimized": ("EbsOptimized", {"Value": instance.record["EbsOptimized"]}),
            "groupSet": ("Groups", instance.record["SecurityGroups"]),
            "blockDeviceMapping": ("BlockDeviceMappings", instance.record["BlockDeviceMappings"]),
        }
        if attribute not in values:
            raise Ec2ApiError(
                "InvalidParameterValue",
                f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute.",
            )
        return {"InstanceId": instance.id, **dict([values[attribute]])}

    def get_console_output(self, request: Request) -> Response:
        """Return the end of an instance's console, in base64.

        EC2 posts it some time after a change of state, so neither a living instance has one, nor
        one that has just ended. On Nitro alone, `Latest` reads that of a living one at any time.

        Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
        :raises Ec2ApiError: UnsupportedOperation for `Latest` of an older type.
        """
        instance = self._store.get([request["InstanceId"]])[0]
        latest = request.get("Latest", False)
        if latest and not CATALOG[instance.record["InstanceType"]].has_nitro:
            raise Ec2ApiError(
                "UnsupportedOperation",
                "This instance type does not support retrieving the latest console logs.",
            )
        answer = {"InstanceId": instance.id, "Timestamp": now()}
        ended = instance.state in ("terminated", "stopped")
        posted = time.time() >= (instance.ended_at or 0.0) + self._console_s if ended else latest
        if posted and instance.machine and instance.machine.console.exists():
            text = instance.machine.console.read_bytes()[-CONSOLE_LIMIT:]
            answer["Output"] = base64.b64encode(text).decode()
        return answer

    # --- Disks, interfaces, tags and networks ---

    def describe_volumes(self, request: Request) -> Response:
        """List the disks of instances and those of the emulator."""
        ours = [volume for instance in self._store.listed() for volume in instance.volumes]
        return self._described(
            request, ours, self._network.describe_volumes()["Volumes"], "Volume", filters.VOLUME
        )

    def describe_network_interfaces(self, request: Request) -> Response:
        """List the interfaces of instances and those of the emulator."""
        ours = [interface for instance in self._store.listed() for interface in instance.interfaces]
        theirs = [
            {**i, "Tags": i.get("TagSet", [])}
            for i in self._network.describe_network_interfaces()["NetworkInterfaces"]
        ]
        return self._described(request, ours, theirs, "NetworkInterface", filters.INTERFACE)

    def all_tags(self) -> list[dict[str, str]]:
        """Return the tags of instances, disks, interfaces and the emulator's resources."""
        known = self._store.listed()
        ours = [(i.id, "instance", i.record["Tags"]) for i in known]
        ours += [(v["VolumeId"], "volume", v["Tags"]) for i in known for v in i.volumes]
        ours += [
            (n["NetworkInterfaceId"], "network-interface", n["Tags"])
            for i in known
            for n in i.interfaces
        ]
        tags = [
            {**tag, "ResourceId": resource_id, "ResourceType": kind}
            for resource_id, kind, found in ours
            for tag in found
        ]
        theirs: Any = self._network.describe_tags()["Tags"]
        return [*tags, *theirs]

    def tagged_resources(
        self, arn: Callable[[str, str], str]
    ) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Yield the ARN and the tags of each tagged resource, for the tagging service."""
        found: dict[str, list[dict[str, str]]] = {}
        for tag in self.all_tags():
            found.setdefault(arn(tag["ResourceType"], tag["ResourceId"]), []).append(
                {"Key": tag["Key"], "Value": tag["Value"]}
            )
        yield from found.items()

    def describe_tags(self, request: Request) -> Response:
        """List the tags that match the filters."""
        chosen = filters.select(self.all_tags(), request.get("Filters", []), filters.TAG)
        page, after = filters.page(chosen, request.get("MaxResults"), request.get("NextToken"))
        return {"Tags": page, "NextToken": after}

    @staticmethod
    def _described(
        request: Request,
        ours: Sequence[Any],
        theirs: Sequence[Any],
        kind: str,
        known: Mapping[str, filters.Reader],
    ) -> Response:
        """Answer with the resources that ids and filters select."""
        wanted, everything = request.get(f"{kind}Ids"), [*ours, *theirs]
        if wanted:
            missing = set(wanted) - {resource[f"{kind}Id"] for resource in everything}
            if missing:
                code = {
                    "Volume": "InvalidVolume.NotFound",
                    "NetworkInterface": "InvalidNetworkInterfaceID.NotFound",
                }[kind]
                raise Ec2ApiError(
                    code,
                    f"The {'volume' if kind == 'Volume' else 'networkInterface ID'} "
                    f"'{sorted(missing)[0]}' does not exist",
                )
            everything = [resource for resource in everything if resource[f"{kind}Id"] in wanted]
        page, after = filters.page(
            filters.select(everything, request.get("Filters", []), known),
            request.get("MaxResults"),
            request.get("NextToken"),
        )
        return {f"{kind}s": page, "NextToken": after}

    def describe_vpc_endpoints(self, request: Request) -> Response:
        """List VPC endpoints with their policies, groups and private DNS setting.

        The emulator reports none of these, and does not filter.
        """
        answer: Any = self._network.describe_vpc_endpoints(
            **{k: v for k, v in request.items() if k == "VpcEndpointIds"}
        )
        records = seams.module("services.ec2")._vpc_endpoints
        for endpoint in answer["VpcEndpoints"]:
            record = records.get(endpoint["VpcEndpointId"]) or {}
            endpoint["PolicyDocument"] = record.get("PolicyDocument")
            endpoint["PrivateDnsEnabled"] = record.get("_PrivateDnsEnabled", False)
            endpoint["Groups"] = [
                {"GroupId": group} for group in record.get("_SecurityGroupIds", [])
            ]
        return {
            "VpcEndpoints": filters.select(
                answer["VpcEndpoints"], request.get("Filters", []), filters.ENDPOINT
            )
        }

    def describe_flow_logs(self, request: Request) -> Response:
        """List flow logs with their destination and role, which the emulator does not report."""
        answer: Any = self._network.describe_flow_logs(**request)
        records = seams.module("services.ec2")._flow_logs
        kept = ("DeliverLogsPermissionArn", "LogGroupName", "LogFormat", "MaxAggregationInterval")
        for flow_log in answer["FlowLogs"]:
            record = records.get(flow_log["FlowLogId"]) or {}
            flow_log.update({name: record[name] for name in kept if name in record})
            flow_log["DeliverLogsStatus"] = "SUCCESS"
        return dict(answer)

    def describe_launch_template_versions(self, request: Request) -> Response:
        """List a template's versions with all members of their data.

        The emulator reports only some of the members.
        """
        answer = self._network.describe_launch_template_versions(**request)
        records = seams.module("services.ec2")._launch_templates
        shape = model().shape_for("ResponseLaunchTemplateData")
        for version in answer["LaunchTemplateVersions"]:
            kept = (records.get(version["LaunchTemplateId"]) or {}).get("Versions", [])
            data = next(
                (
                    v["LaunchTemplateData"]
                    for v in kept
                    if int(v["VersionNumber"]) == version["VersionNumber"]
                ),
                None,
            )
            if data:
                version["LaunchTemplateData"] = coerce(data, shape) | {
                    k: v for k, v in version["LaunchTemplateData"].items() if k not in data
                }
        asked = request.get("Versions") or []
        if asked and not answer["LaunchTemplateVersions"]:
            name = request.get("LaunchTemplateId") or request.get("LaunchTemplateName")
            text = (
                f"Could not find the specified version {asked[0]} for the launch template with "
                f"ID {name}."
            )
            raise Ec2ApiError("InvalidLaunchTemplateId.VersionNotFound", text)
        return dict(answer)

    def get_ebs_default_kms_key_id(self, _request: Request) -> Response:
        """Return the key that encrypts a new disk if its request names no key."""
        return {"KmsKeyId": self.foreign_key() or "alias/aws/ebs"}

    def get_ebs_encryption_by_default(self, _request: Request) -> Response:
        """Say whether every new disk is encrypted, whatever its request says."""
        return {"EbsEncryptionByDefault": self.foreign_key() is not None}

    # --- Images, types and prices ---

    def describe_images(self, request: Request) -> Response:
        """List images by id, owner and filter."""
        known = self._images()
        missing = [i for i in request.get("ImageIds", []) if i not in known]
        if missing:
            raise Ec2ApiError(
                "InvalidAMIID.NotFound", f"The image id '[{missing[0]}]' does not exist"
            )
        chosen = (
            [known[i] for i in request["ImageIds"]]
            if request.get("ImageIds")
            else list(known.values())
        )
        if owners := request.get("Owners"):
            mine = {"self": None} if "self" not in owners else {"self": "self"}
            chosen = [
                i
                for i in chosen
                if {i["OwnerId"], i.get("ImageOwnerAlias", mine["self"])} & set(owners)
            ]
        return {"Images": filters.select(chosen, request.get("Filters", []), filters.IMAGE)}

    def describe_instance_types(self, request: Request) -> Response:
        """List instance types with their sizes."""
        if request.get("InstanceTypes") and request.get("MaxResults"):
            raise Ec2ApiError(
                "InvalidParameterCombination",
                "The parameter InstanceTypes cannot be used with the parameter MaxResults",
            )
        chosen = [entry.described() for entry in _known(request.get("InstanceTypes"))]
        page, after = filters.page(
            filters.select(chosen, request.get("Filters", []), filters.TYPE),
            request.get("MaxResults"),
            request.get("NextToken"),
            100,
        )
        return {"InstanceTypes": page, "NextToken": after}

    def describe_instance_type_offerings(self, request: Request) -> Response:
        """List the types that each region or zone offers."""
        kind = request.get("LocationType", "region")
        if kind not in ("region", "availability-zone", "availability-zone-id"):
            raise Ec2ApiError(
                "InvalidParameterValue", f"Value ({kind}) for parameter LocationType is invalid."
            )
        places = (
            {self._region: self._region}
            if kind == "region"
            else {
                z["ZoneName"]: z["ZoneId" if kind.endswith("id") else "ZoneName"]
                for z in self.zones()
            }
        )
        offered = [
            {"InstanceType": name, "LocationType": kind, "Location": shown}
            for name in CATALOG
            for place, shown in places.items()
            if kind == "region" or is_offered(name, place)
        ]
        page, after = filters.page(
            filters.select(offered, request.get("Filters", []), filters.OFFERING),
            request.get("MaxResults"),
            request.get("NextToken"),
        )
        return {"InstanceTypeOfferings": page, "NextToken": after}

    def describe_spot_price_history(self, request: Request) -> Response:
        """List spot prices, the newest first."""
        if set(request.get("ProductDescriptions", ["Linux/UNIX"])).isdisjoint(
            {"Linux/UNIX", "Linux/UNIX (Amazon VPC)"}
        ):
            return {"SpotPriceHistory": []}
        zones = [
            z["ZoneName"]
            for z in self.zones()
            if request.get("AvailabilityZone") in (None, "", z["ZoneName"])
        ]
        prices = [
            _price(entry, zone, hours)
            for entry in _known(request.get("InstanceTypes"))
            for zone in zones
            if is_offered(entry.name, zone)
            for hours in SPOT_HISTORY_H
        ]
        kept = [
            p
            for p in filters.select(prices, request.get("Filters", []), filters.SPOT_PRICE)
            if _is_within(p["Timestamp"], request)
        ]
        kept.sort(key=lambda p: p["Timestamp"], reverse=True)
        page, after = filters.page(
            kept, request.get("MaxResults"), request.get("NextToken"), smallest=1
        )
        return {"SpotPriceHistory": page, "NextToken": after or ""}

    def zones(self) -> list[dict[str, str]]:
        """Return the region's availability zones."""
        found: Any = self._network.describe_availability_zones()["AvailabilityZones"]
        return list(found)


def _status(instance: Instance) -> Response:
    """Return the status of one instance."""
    ok = {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}
    health = ok if instance.state == "running" else {"Status": "not-applicable"}
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.record["Placement"]["AvailabilityZone"],
        "InstanceState": instance.record["State"],
        "SystemStatus": health,
        "InstanceStatus": health,
    }


def _known(names: Sequence[str] | None) -> list[OfferedType]:
    """Return the types with the given names, or all types if no name is given.

    :raises Ec2ApiError: InvalidInstanceType, naming the unknown types.
    """
    unknown = [name for name in names or () if name not in CATALOG]
    if unknown:
        raise Ec2ApiError(
            "InvalidInstanceType",
            f"The following supplied instance types do not exist: [{', '.join(unknown)}]",
        )
    return [CATALOG[name] for name in names or CATALOG]


def _price(entry: OfferedType, zone: str, hours: int) -> Response:
    """Return one price of the spot history. Older prices differ slightly."""
    price = entry.spot_usd(zone) * (1 + 0.01 * (hours % 7))
    at = now().replace(minute=0, second=0) - dt.timedelta(hours=hours)
    return {
        "InstanceType": entry.name,
        "AvailabilityZone": zone,
        "SpotPrice": f"{price:.6f}",
        "ProductDescription": "Linux/UNIX",
        "Timestamp": at,
    }


def _is_within(at: dt.datetime, request: Request) -> bool:
    """Say whether a price belongs to the requested period.

    The newest prices always belong to it, because they are valid at its start.
    """
    start, end = (_time(request.get(name)) for name in ("StartTime", "EndTime"))
    return (end is None or at <= end) and (
        start is None or at >= start or at >= now() - dt.timedelta(hours=1)
    )


def _time(text: str | None) -> dt.datetime | None:
    """Parse a time of a request."""
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
