"""The policies of VPC endpoints: they decide about the S3 calls of a subnet's machines.

On AWS, a call from a machine without a route to S3 would hang.
"""

from __future__ import annotations

import json
from typing import Any

from local_aws.ec2.store import Instance, Store
from local_aws.emulator import seams


class Endpoints:
    """Decides which calls an endpoint lets through."""

    def __init__(self, store: Store, account_id: str, region: str) -> None:
        self._store = store
        self._account_id = account_id
        self._region = region

    def denies(
        self, principal_arn: str, action: str, resource_arn: str, keys: dict[str, Any]
    ) -> bool:
        """Say whether an endpoint's policy stops an instance's call to S3.

        :param principal_arn: the ARN of the caller's session; an instance's session has its id as
            name.
        """
        if not action.startswith("s3:"):
            return False
        instance = self._store.instances.get(principal_arn.rpartition("/")[2])
        if instance is None or "SubnetId" not in instance.record:
            return False
        found = self._gateways(instance)
        return bool(found) and not any(
            self._allows(endpoint, principal_arn, action, resource_arn, keys) for endpoint in found
        )

    def _gateways(self, instance: Instance) -> list[dict[str, Any]]:
        """Return the S3 endpoints in the route table of an instance's subnet."""
        ec2 = seams.module("services.ec2")
        tables = self._tables(ec2, instance)
        service = f"com.amazonaws.{self._region}.s3"
        return [
            e
            for e in ec2._vpc_endpoints.values()
            if e.get("ServiceName") == service and set(e.get("RouteTableIds", [])) & tables
        ]

    @staticmethod
    def _tables(ec2: Any, instance: Instance) -> set[str]:
        """Return the ids of the subnet's route tables, or of the VPC's main table."""
        subnet, vpc = instance.record["SubnetId"], instance.record["VpcId"]
        tables = [t for t in ec2._route_tables.values() if t.get("VpcId") == vpc]
        own = {
            t["RouteTableId"]
            for t in tables
            if any(a.get("SubnetId") == subnet for a in t.get("Associations", []))
        }
        return own or {
            t["RouteTableId"]
            for t in tables
            if any(a.get("Main") for a in t.get("Associations", []))
        }

    def _allows(
        self,
        endpoint: dict[str, Any],
        principal_arn: str,
        action: str,
        resource_arn: str,
        keys: dict[str, Any],
    ) -> bool:
        """Say whether an endpoint's policy allows a call."""
        evaluator = seams.module("core.iam_evaluator")
        document = endpoint.get("PolicyDocument")
        document = json.loads(document) if isinstance(document, str) and document else document
        if not document:
            return True
        context = evaluator.EvalContext(
            principal_arn=principal_arn,
            principal_type="AssumedRole",
            principal_account=self._account_id,
            action=action,
            resource_arn=resource_arn,
            region=self._region,
            service_context={k.lower(): v for k, v in keys.items()},
        )
        return bool(evaluator.evaluate_resource_policy(document, context).decision == "Allow")
