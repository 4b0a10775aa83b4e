"""Wraps the emulator's provisioners: checks resources, and applies properties that they drop."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.cloudformation import added_types, dropped_properties, rights, schema
from local_aws.ec2 import refusals
from local_aws.emulator import seams
from local_aws.emulator.wire import Ec2ApiError
from local_aws.functions.front import check_function
from local_aws.functions.runner import Runner
from local_aws.functions.runtimes import Runtimes
from local_aws.iam import trust
from local_aws.iam.authorization import Authorizer, Denial
from local_aws.iam.sessions import Issuer, RoleMissingError

Properties = Mapping[str, Any]
NETWORKS = {"AWS::EC2::VPC": refusals.check_vpc}
"""The checks of EC2 for networks, by type of resource."""
Made = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Operator:
    """The principal whose permissions a stack operation uses.

    :param role_arn: the service role; None for the caller's own permissions.
    """

    role_arn: str | None
    access_key_id: str


OPERATOR: contextvars.ContextVar[Operator | None] = contextvars.ContextVar("operator", default=None)
"""The operator of the request. The background task of its stack operation inherits it."""


class Provisioning:
    """Checks and completes the creation, the change and the deletion of each resource."""

    def __init__(
        self, authorizer: Authorizer, issuer: Issuer, runtimes: Runtimes, runner: Runner
    ) -> None:
        self._authorizer = authorizer
        self._issuer = issuer
        self._runtimes = runtimes
        self._runner = runner
        self._region = issuer.region

    def install(self) -> None:
        """Wrap the emulator's provisioners and add the missing types."""
        name = "services.cloudformation.provisioners"
        table = seams.seam(name, "_RESOURCE_HANDLERS")
        for kind, added in added_types.all_types(self._region, self._issuer.account_id).items():
            table[kind] = {"create": added.create, "delete": added.delete}
        seams.seam(name, "_STACK_TAG_PROPERTY").update(
            dict.fromkeys(added_types.TAGGED, ("Tags", "list"))
        )
        seams.replace(name, "_provision_resource", self._creating)
        seams.replace(name, "_update_resource", self._updating)
        seams.replace(name, "_delete_resource", self._deleting)

    def _creating(self, original: Any) -> Any:
        """Wrap the creation of a resource."""

        def create(kind: str, logical_id: str, properties: Properties, stack_name: str) -> Made:
            schema.check(kind, properties)
            self._check(kind, properties)
            self._require(kind, "create", properties, "")
            made, attributes = original(kind, logical_id, properties, stack_name)
            return self._completed(kind, made, attributes, properties)

        return create

    def _updating(self, original: Any) -> Any:
        """Wrap the change of a resource."""

        def update(
            kind: str,
            physical_id: str,
            old: Properties,
            new: Properties,
            stack_name: str,
            logical_id: str | None = None,
            old_attributes: Any = None,
        ) -> Made:
            if old == new:
                return physical_id, old_attributes or {}
            schema.check(kind, new)
            self._check(kind, new)
            self._require(kind, "update", new, physical_id)
            known = dropped_properties.emulators_id(kind, physical_id, self._issuer.account_id)
            made, attributes = original(
                kind, known, old, new, stack_name, logical_id, old_attributes
            )
            if made == known:
                attributes = {**(old_attributes or {}), **(attributes or {})}
            return self._completed(kind, made, attributes, new)

        return update

    def _deleting(self, original: Any) -> Any:
        """Wrap the deletion of a resource."""

        def delete(
            kind: str,
            physical_id: str,
            properties: Properties,
            stack_name: str | None = None,
            logical_id: str | None = None,
        ) -> None:
            self._require(kind, "delete", properties or {}, physical_id)
            if reason := dropped_properties.refuse_deletion(kind, physical_id, self._region):
                raise ValueError(
                    f'Resource handler returned message: "{reason}" (Service: S3, Status Code: 409)'
                )
            known = dropped_properties.emulators_id(kind, physical_id, self._issuer.account_id)
            original(kind, known, properties, stack_name, logical_id)

        return delete

    def _check(self, kind: str, properties: Properties) -> None:
        """Check the conditions that this machine and the services add to a resource's schema.

        :raises ValueError: with the service's message.
        """
        if kind == "AWS::Lambda::Function":
            check_function(properties, self._runtimes, self._runner)
        if kind in NETWORKS:
            try:
                NETWORKS[kind](properties)
            except Ec2ApiError as fault:
                text = f'"{fault.message}" (Service: Ec2, Status Code: {fault.status})'
                raise ValueError(f"Resource handler returned message: {text}") from None
        if kind == "AWS::IAM::Role" and (
            problem := trust.find_problem(properties.get("AssumeRolePolicyDocument"))
        ):
            raise ValueError(
                f'Resource handler returned message: "{problem}" (Service: Iam, Status Code: 400)'
            )
        code = properties.get(rights.READ_OBJECTS.get(kind, "")) or {}
        if isinstance(code, Mapping) and code.get("S3Bucket"):
            dropped_properties.check_object(
                str(code["S3Bucket"]), str(code.get("S3Key")), self._region
            )

    def _completed(
        self, kind: str, made: str, attributes: dict[str, Any] | None, properties: Properties
    ) -> Made:
        """Apply what the emulator dropped; return the physical id and the attributes."""
        name = dropped_properties.physical_id(kind, made)
        complete = dropped_properties.COMPLETIONS.get(kind)
        added = complete(name, properties, self._region) if complete else {}
        return name, {**(attributes or {}), **added}

    def _require(self, kind: str, verb: str, properties: Properties, physical_id: str) -> None:
        """Authorize every call that CloudFormation makes for a resource.

        :raises ValueError: with CloudFormation's message, for the first denied call.
        """
        operator = OPERATOR.get()
        if operator is None:
            return
        account = self._issuer.account_id
        for action, arn, keys in rights.needed(
            kind, verb, properties, physical_id, account, self._region, tags_on
        ):
            denial = self._ask(operator, action, arn, keys)
            if denial:
                reason = (
                    "with an explicit deny"
                    if denial.explicit
                    else f"because no identity-based policy allows the {action} action"
                )
                text = (
                    f"User: {denial.principal_arn} is not authorized to perform: {action} on "
                    f"resource: {arn} {reason}"
                )
                raise ValueError(
                    f'Resource handler returned message: "{text}" (HandlerErrorCode: AccessDenied)'
                )

    def _ask(
        self, operator: Operator, action: str, arn: str, keys: dict[str, Any]
    ) -> Denial | None:
        """Authorize one call with the operator's permissions; return the denial or None."""
        if operator.role_arn is None:
            return self._authorizer.check_key(operator.access_key_id, action, arn, keys)
        try:
            role = self._issuer.get_role(operator.role_arn.rsplit("/", 1)[-1])
        except RoleMissingError:
            return Denial(operator.role_arn, False)
        return self._authorizer.check_role(role, self._issuer.account_id, action, arn, keys)


def tags_on(resource_id: str) -> dict[str, str]:
    """Return the tags of an EC2 resource; none if it does not exist."""
    found = seams.module("services.ec2")._tags.get(resource_id) or []
    return {tag["Key"]: tag["Value"] for tag in found}
