"""The filters and pages of the Describe calls. Unknown filters are refused."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from local_aws.emulator.wire import Ec2ApiError, as_timestamp

Record = Mapping[str, Any]
Reader = Callable[[Any], Any]
Item = TypeVar("Item")


def path(*names: str) -> Reader:
    """Return a function that reads a nested member, or None if a member is missing.

    >>> path("State", "Name")({"State": {"Name": "running"}})
    'running'
    """

    def read(record: Any) -> Any:
        for name in names:
            record = record.get(name) if isinstance(record, Mapping) else None
        return record

    return read


def each(name: str, *below: str) -> Reader:
    """Return a function that reads one value from each member of a list."""
    inner = path(*below)
    return lambda record: [inner(item) for item in record.get(name) or []]


INSTANCE: dict[str, Reader] = {
    "instance-id": path("InstanceId"),
    "instance-state-name": path("State", "Name"),
    "instance-state-code": path("State", "Code"),
    "instance-type": path("InstanceType"),
    "instance-lifecycle": path("InstanceLifecycle"),
    "image-id": path("ImageId"),
    "client-token": path("ClientToken"),
    "availability-zone": path("Placement", "AvailabilityZone"),
    "tenancy": path("Placement", "Tenancy"),
    "subnet-id": path("SubnetId"),
    "vpc-id": path("VpcId"),
    "private-ip-address": path("PrivateIpAddress"),
    "architecture": path("Architecture"),
    "launch-time": path("LaunchTime"),
    "iam-instance-profile.arn": path("IamInstanceProfile", "Arn"),
    "iam-instance-profile.id": path("IamInstanceProfile", "Id"),
    "spot-instance-request-id": path("SpotInstanceRequestId"),
    "state-reason-code": path("StateReason", "Code"),
    "state-reason-message": path("StateReason", "Message"),
    "reason": path("StateTransitionReason"),
    "root-device-type": path("RootDeviceType"),
    "instance.group-id": each("SecurityGroups", "GroupId"),
    "instance.group-name": each("SecurityGroups", "GroupName"),
    "metadata-options.http-tokens": path("MetadataOptions", "HttpTokens"),
    "block-device-mapping.volume-id": each("BlockDeviceMappings", "Ebs", "VolumeId"),
    "network-interface.network-interface-id": each("NetworkInterfaces", "NetworkInterfaceId"),
    "network-interface.subnet-id": each("NetworkInterfaces", "SubnetId"),
    "reservation-id": path("_ReservationId"),
}
VOLUME: dict[str, Reader] = {
    "volume-id": path("VolumeId"),
    "status": path("State"),
    "size": path("Size"),
    "volume-type": path("VolumeType"),
    "encrypted": path("Encrypted"),
    "availability-zone": path("AvailabilityZone"),
    "attachment.instance-id": each("Attachments", "InstanceId"),
    "attachment.status": each("Attachments", "State"),
    "attachment.device": each("Attachments", "Device"),
    "attachment.delete-on-termination": each("Attachments", "DeleteOnTermination"),
}
INTERFACE: dict[str, Reader] = {
    "network-interface-id": path("NetworkInterfaceId"),
    "subnet-id": path("SubnetId"),
    "vpc-id": path("VpcId"),
    "status": path("Status"),
    "availability-zone": path("AvailabilityZone"),
    "private-ip-address": path("PrivateIpAddress"),
    "interface-type": path("InterfaceType"),
    "requester-managed": path("RequesterManaged"),
    "group-id": each("Groups", "GroupId"),
    "attachment.instance-id": path("Attachment", "InstanceId"),
    "attachment.status": path("Attachment", "Status"),
}
IMAGE: dict[str, Reader] = {
    "image-id": path("ImageId"),
    "name": path("Name"),
    "description": path("Description"),
    "architecture": path("Architecture"),
    "state": path("State"),
    "owner-id": path("OwnerId"),
    "owner-alias": path("ImageOwnerAlias"),
    "is-public": path("Public"),
    "image-type": path("ImageType"),
    "root-device-type": path("RootDeviceType"),
    "virtualization-type": path("VirtualizationType"),
}
TYPE: dict[str, Reader] = {
    "instance-type": path("InstanceType"),
    "current-generation": path("CurrentGeneration"),
    "vcpu-info.default-vcpus": path("VCpuInfo", "DefaultVCpus"),
    "memory-info.size-in-mib": path("MemoryInfo", "SizeInMiB"),
    "processor-info.supported-architecture": path("ProcessorInfo", "SupportedArchitectures"),
    "supported-usage-class": path("SupportedUsageClasses"),
    "burstable-performance-supported": path("BurstablePerformanceSupported"),
    "bare-metal": path("BareMetal"),
    "network-info.encryption-in-transit-supported": path(
        "NetworkInfo", "EncryptionInTransitSupported"
    ),
}
OFFERING: dict[str, Reader] = {"instance-type": path("InstanceType"), "location": path("Location")}
SPOT_PRICE: dict[str, Reader] = {
    "availability-zone": path("AvailabilityZone"),
    "instance-type": path("InstanceType"),
    "product-description": path("ProductDescription"),
    "spot-price": path("SpotPrice"),
    "timestamp": path("Timestamp"),
}
STATUS: dict[str, Reader] = {
    "availability-zone": path("AvailabilityZone"),
    "instance-state-name": path("InstanceState", "Name"),
    "instance-state-code": path("InstanceState", "Code"),
    "instance-status.status": path("InstanceStatus", "Status"),
    "system-status.status": path("SystemStatus", "Status"),
}
ENDPOINT: dict[str, Reader] = {
    "vpc-endpoint-id": path("VpcEndpointId"),
    "vpc-endpoint-state": path("State"),
    "vpc-endpoint-type": path("VpcEndpointType"),
    "vpc-id": path("VpcId"),
    "service-name": path("ServiceName"),
}
TAG: dict[str, Reader] = {
    "key": path("Key"),
    "value": path("Value"),
    "resource-id": path("ResourceId"),
    "resource-type": path("ResourceType"),
}
MOST_VALUES = 200
"""The largest number of values that all filters of a call may have, else "FilterLimitExceeded":
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""
TAGGED: tuple[Mapping[str, Reader], ...] = (ENDPOINT, INSTANCE, VOLUME, INTERFACE, IMAGE)
"""The tables of filters for resources with tags. Other modules add their own tables."""


def select(
    records: Iterable[Item], filters: Sequence[Mapping[str, Any]], known: Mapping[str, Reader]
) -> list[Item]:
    """Return the records that match every filter. A record matches one of a filter's values.

    Values may contain `*` and `?`.

    :raises Ec2ApiError: InvalidParameterValue for a filter that the call does not have,
        FilterLimitExceeded for too many values.
    """
    if sum(len(wanted.get("Values", [])) for wanted in filters) > MOST_VALUES:
        raise Ec2ApiError(
            "FilterLimitExceeded",
            f"The maximum number of filter values specified on a single call is {MOST_VALUES}",
        )
    chosen = list(records)
    for wanted in filters:
        reader = _reader(str(wanted.get("Name", "")), known)
        patterns = [_pattern(str(value)) for value in wanted.get("Values", [])]
        chosen = [
            record
            for record in chosen
            if any(p.fullmatch(text) for text in _texts(reader(record)) for p in patterns)
        ]
    return chosen


def _reader(name: str, known: Mapping[str, Reader]) -> Reader:
    """Return the function that reads the value of a filter from a record."""
    is_tagged = any(known is table for table in TAGGED)
    if known is TAG and name.startswith("tag:"):
        return lambda tag: tag["Value"] if tag["Key"] == name[4:] else None
    if name in known:
        return known[name]
    if is_tagged and name.startswith("tag:"):
        return lambda record: [t["Value"] for t in record.get("Tags") or [] if t["Key"] == name[4:]]
    if is_tagged and name == "tag-key":
        return each("Tags", "Key")
    raise Ec2ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")


def _texts(value: Any) -> list[str]:
    """Return a value as the texts that filters compare."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, bool):
        return [str(value).lower()]
    return [as_timestamp(value) if hasattr(value, "astimezone") else str(value)]


def _pattern(value: str) -> re.Pattern[str]:
    """Compile the value of a filter."""
    parts = [{"*": ".*", "?": "."}.get(character, re.escape(character)) for character in value]
    return re.compile("".join(parts), re.DOTALL)


def page(
    items: Sequence[Item],
    size: int | None,
    token: str | None,
    largest: int = 1000,
    smallest: int = 5,
) -> tuple[list[Item], str | None]:
    """Return one page of items, and the token of the next page or None.

    :param size: the requested number of items; None for the largest page.
    :raises Ec2ApiError: InvalidParameterValue for a size out of range, InvalidNextToken for a token
        that :func:`page` did not make.
    """
    if size is not None and not smallest <= size <= largest:
        raise Ec2ApiError(
            "InvalidParameterValue",
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value from "
            f"{smallest} to {largest}.",
        )
    start = _offset(token)
    end = start + (size or largest)
    return list(items[start:end]), (
        base64.b64encode(f"local:{end}".encode()).decode() if end < len(items) else None
    )


def _offset(token: str | None) -> int:
    """Return the position that a token stands for."""
    if not token:
        return 0
    try:
        kind, _, number = base64.b64decode(token).decode().partition(":")
        if kind == "local":
            return int(number)
    except ValueError:
        pass
    raise Ec2ApiError("InvalidNextToken", "The token is invalid")
