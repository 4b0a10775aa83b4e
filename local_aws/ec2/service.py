"""EC2's handler: decodes requests, answers those about instances, and passes the others on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from local_aws.ec2 import refusals
from local_aws.ec2.describe_calls import DescribeCalls
from local_aws.ec2.launch_calls import Launching
from local_aws.ec2.launch_spec import as_fault
from local_aws.ec2.life import USER_INITIATED, Life
from local_aws.ec2.networks import Networks
from local_aws.ec2.permissions import CALLER, Permissions
from local_aws.ec2.store import Instance, Store
from local_aws.ec2.tagging import Tagging, names_ours
from local_aws.emulator import seams, wire
from local_aws.emulator.wire import DRY_RUN, Ec2ApiError

Request = dict[str, Any]
Response = dict[str, Any]
REGION = re.compile(
    rb"(<regionName>)([^<]+)(</regionName>.*?<optInStatus>)([^<]*)(</optInStatus>)", re.DOTALL
)
ENDPOINT_ID = re.compile(rb"<vpcEndpointId>([^<]+)<")
OPEN_POLICY = (
    '{"Version":"2008-10-17","Statement":'
    '[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}'
)


class Ec2:
    """The handler that replaces the emulator's EC2.

    :ivar is_closed: says whether the account has not enabled a region.
    """

    def __init__(
        self,
        original: Any,
        store: Store,
        life: Life,
        reader: DescribeCalls,
        networks: Networks,
        launching: Launching,
        permissions: Permissions,
    ) -> None:
        self._original = original
        self.store = store
        self.life = life
        self.launching = launching
        self.reader = reader
        self._permissions = permissions
        self.is_closed: Callable[[str], bool] = lambda _region: False
        self._tagging = Tagging(store, permissions)
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
            "GetEbsDefaultKmsKeyId": reader.get_ebs_default_kms_key_id,
            "GetEbsEncryptionByDefault": reader.get_ebs_encryption_by_default,
            **networks.reads(),
        }
        self._writes: dict[str, Callable[[Request, bool], Response]] = {
            "RunInstances": launching.run_instances,
            "CreateFleet": launching.create_fleet,
            "TerminateInstances": self.terminate_instances,
            "StopInstances": self.stop_instances,
            "GetConsoleOutput": self.get_console_output,
            "CreateTags": self._tagging.create_tags,
            "DeleteTags": self._tagging.delete_tags,
        }

    def authorizes(self, service: str, iam_action: str) -> bool:
        """Say whether this handler authorizes an action itself, resource by resource."""
        action = iam_action.partition(":")[2]
        return service == "ec2" and (action in self._reads or action in self._writes)

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, list[str]],
    ) -> wire.Response:
        """Serve one request."""
        flat = wire.flatten(body, query)
        action = flat.get("Action", "")
        CALLER.set(headers)
        try:
            if action in ("CreateTags", "DeleteTags") and not names_ours(flat):
                self._tagging.authorize_foreign(action, wire.decode_request(action, flat))
            elif action in self._reads or action in self._writes:
                request = wire.decode_request(action, flat)
                return wire.encode_response(
                    action, await asyncio.to_thread(self._serve, action, request)
                )
            elif action in refusals.CHECKS:
                refusals.check(action, wire.decode_request(action, flat))
            if flat.get("DryRun") == "true":
                raise DRY_RUN  # the caller is authorized; the emulator would execute the request
        except Ec2ApiError as fault:
            return fault.response()
        except ClientError as error:
            return as_fault(error).response()
        answer: wire.Response = await self._original(method, path, headers, body, query)
        if action == "DescribeRegions" and answer[0] == 200:
            return answer[0], answer[1], self._with_closed_regions(answer[2])
        if action == "CreateVpcEndpoint" and answer[0] == 200:
            keep_endpoint(answer[2], wire.decode_request(action, flat))
        return answer

    def _with_closed_regions(self, body: bytes) -> bytes:
        """Show the regions that the account has not enabled as such.

        Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Region.html
        """

        def item(match: re.Match[bytes]) -> bytes:
            if not self.is_closed(match.group(2).decode()):
                return match.group(0)
            return b"".join((*match.groups()[:3], b"not-opted-in", match.group(5)))

        return REGION.sub(item, body)

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

    # --- Stopping and terminating ---

    def terminate_instances(self, request: Request, dry_run: bool) -> Response:
        """Terminate instances: kill their processes and erase their disks."""
        chosen = self._authorized("TerminateInstances", request["InstanceIds"], dry_run)
        return {"TerminatingInstances": [self._ended(i, stop=False) for i in chosen]}

    def stop_instances(self, request: Request, dry_run: bool) -> Response:
        """Stop instances: kill their processes."""
        chosen = self._authorized("StopInstances", request["InstanceIds"], dry_run)
        if any("InstanceLifecycle" in i.record for i in chosen):
            raise Ec2ApiError(
                "UnsupportedOperation",
                "You can't stop the Spot Instance because it is associated with a one-time Spot "
                "Instance request. "
                "You can only stop Spot Instances associated with persistent Spot Instance "
                "requests.",
            )
        return {"StoppingInstances": [self._ended(i, stop=True) for i in chosen]}

    def _authorized(self, action: str, instance_ids: list[str], dry_run: bool) -> list[Instance]:
        """Return instances on which the caller may act.

        The permission is checked before the ids are looked up, so that a caller without it does not
        learn which instances exist.

        :raises Ec2ApiError: UnauthorizedOperation, an error for an id, or DryRunOperation.
        """
        known = [found for i in instance_ids if (found := self.store.find(i))]
        self._permissions.require_on(action, known)
        for missing in set(instance_ids) - {i.id for i in known}:
            self._permissions.require(
                f"ec2:{action}", self._permissions.arn("instance", missing), {}
            )
        chosen = self.store.get(instance_ids)
        if dry_run:
            raise DRY_RUN
        return chosen

    def _ended(self, instance: Instance, stop: bool) -> Response:
        """End one instance and return its state before and after."""
        before = dict(instance.record["State"])
        self.life.end(instance, USER_INITIATED, stop=stop)
        return {
            "InstanceId": instance.id,
            "PreviousState": before,
            "CurrentState": dict(instance.record["State"]),
        }

    def get_console_output(self, request: Request, dry_run: bool) -> Response:
        """Return an instance's console, if the caller may read it."""
        self._authorized("GetConsoleOutput", [request["InstanceId"]], dry_run)
        return self.reader.get_console_output(request)


def keep_endpoint(answer: bytes, request: Request) -> None:
    """Keep the properties of a new endpoint that the emulator drops."""
    found = ENDPOINT_ID.search(answer if isinstance(answer, bytes) else str(answer).encode())
    if found:
        keep_of_endpoint(found.group(1).decode(), request)


def keep_of_endpoint(endpoint_id: str, wanted: Mapping[str, Any]) -> None:
    """Keep an endpoint's policy, security groups and private DNS setting, as the API reports them.

    :param wanted: the properties, with the names of CreateVpcEndpoint or of a template.
    """
    record = seams.module("services.ec2")._vpc_endpoints.get(endpoint_id)
    if record is None:
        return
    policy = wanted.get("PolicyDocument")
    record["PolicyDocument"] = (
        json.dumps(policy) if isinstance(policy, Mapping) else policy or OPEN_POLICY
    )
    record["_SecurityGroupIds"] = list(wanted.get("SecurityGroupIds") or [])
    # The DNS names of an interface endpoint are private unless the request says otherwise.
    is_interface = record.get("VpcEndpointType") == "Interface"
    record["_PrivateDnsEnabled"] = (
        str(wanted.get("PrivateDnsEnabled", is_interface)).lower() == "true"
    )
