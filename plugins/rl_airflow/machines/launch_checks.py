"""Checks before a machine is requested: template, image and quotas.

A launch that cannot work is refused here with the fix, before it costs money. If the permission for
a check is missing, the check is skipped. Then EC2 decides, and its refusals are explained, too.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from infra_bootstrap.preflight.quotas import find_quota
from rl_airflow.errors import first_line
from rl_airflow.infrastructure.aws_errors import aws_errors, client_error
from rl_lifecycle.aws_errors import error_code
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.architectures import refuse_other_architectures
from rl_lifecycle.machines.launch_requests import (
    Market,
    collector_types_of,
    instance_types_of,
    market_of,
)
from rl_lifecycle.machines.machine_attempts import Attempt, Refusal
from rl_lifecycle.machines.quotas import (
    Usage,
    is_hopeless,
    quota_code,
    refusals_of_full,
    refuse_hopeless,
    refuse_hopeless_gang,
    vcpus_of,
)

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_service_quotas import ServiceQuotasClient

#: The beginnings of EC2's error codes for a missing template and a missing image.
MISSING_TEMPLATE, MISSING_IMAGE = "InvalidLaunchTemplate", "InvalidAMIID"
#: Machines in these states count against a quota.
COUNTED = ("pending", "running")


class LaunchChecks:
    """Checks template, image and quotas.

    :param ec2: a boto3 EC2 client of the launcher.
    :param make_quotas: makes a client of Service Quotas. If it is None, quotas are not checked.
    """

    def __init__(
        self,
        ec2: "EC2Client",
        log: logging.Logger,
        make_quotas: "Callable[[], ServiceQuotasClient] | None" = None,
    ) -> None:
        self.ec2, self.log, self.make_quotas = ec2, log, make_quotas
        self._limits: dict[str, float | None] = {}
        self._encrypts: dict[str, bool] = {}
        self._quotas: ServiceQuotasClient | None = None

    def check(
        self, template_id: str, version: str, instance_types: Iterable[str], market: Market
    ) -> Mapping[str, Any]:
        """Check the types, the template, its image and the quotas of a launch.

        :return: the template's data, which says what a machine is billed for besides its time. It
            is empty if the template could not be read.
        :raises LaunchRefusedError: if a type is of another architecture than the images, the
            template or its image is gone, or a quota can never hold such a machine.
        """
        names = tuple(instance_types)
        refuse_other_architectures(names)
        data = self._check_template(template_id, version)
        refuse_hopeless(names, market, self._read_limits(names, market))
        return data

    def check_gang(self, compute: Compute) -> None:
        """Check that the quotas can hold all machines of a trial at once.

        :raises LaunchRefusedError: if a quota can never hold them.
        """
        collectors = [collector_types_of(compute)] * (compute.machines - 1)
        seats = [instance_types_of(compute), *collectors]
        names = {name for types in seats for name in types}
        refuse_other_architectures(sorted(names))
        refuse_hopeless_gang(seats, compute.market, self._read_limits(names, compute.market))

    def is_hopeless(self, instance_types: Iterable[str], market: Market) -> bool:
        """Whether the account's quotas allow none of these types on a market."""
        names = tuple(instance_types)
        return is_hopeless(names, market, self._read_limits(names, market))

    def prefer_encrypted(self, instance_types: Iterable[str]) -> tuple[str, ...]:
        """Sort types last whose traffic between machines EC2 does not encrypt.

        The machines of a trial exchange rollouts without encryption of their own. Source:
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/data-protection.html#encryption-transit
        """
        names = tuple(instance_types)
        if unknown := sorted(set(names) - set(self._encrypts)):
            self._encrypts |= self._read_encryption(unknown)
        plain = [name for name in names if not self._encrypts.get(name, True)]
        return (*(name for name in names if name not in plain), *plain)

    def _read_encryption(self, names: list[str]) -> dict[str, bool]:
        try:
            pages = self.ec2.get_paginator("describe_instance_types").paginate(
                InstanceTypes=cast(Any, names)  # the stubs list the types of their day
            )
            found = {
                row["InstanceType"]: bool(row["NetworkInfo"].get("EncryptionInTransitSupported"))
                for page in pages
                for row in page["InstanceTypes"]
            }
        except (*aws_errors(), LookupError) as error:
            self.log.info(
                "whether EC2 encrypts traffic between machines was not checked (%s)",
                first_line(error),
            )
            return dict.fromkeys(names, True)
        if plain := sorted(name for name, encrypts in found.items() if not encrypts):
            self.log.warning(
                "EC2 does not encrypt the traffic between machines of %s: these types are "
                "requested last",
                ", ".join(plain),
            )
        return dict.fromkeys(names, True) | found

    def find_full(self, attempt: Attempt, zones: Mapping[str, str]) -> tuple[Refusal, ...]:
        """Return a refusal for every pool of a request if no quota has room now, else nothing.

        :param zones: subnet id → zone.
        """
        market = market_of(attempt)
        pools = [
            (pool["InstanceType"], zones.get(pool["SubnetId"], pool["SubnetId"]))
            for pool in _overrides(attempt)
        ]
        limits = self._read_limits([name for name, _ in pools], market)
        if not limits or not pools:
            return ()
        used = self._count_used(market)
        return refusals_of_full(
            pools, market, {code: Usage(limit, used[code]) for code, limit in limits.items()}
        )

    def _check_template(self, template_id: str, version: str) -> Mapping[str, Any]:
        try:
            data = self._find_template(template_id, version)
            image_id = str(data.get("ImageId", "")) if data is not None else ""
            there = not image_id.startswith("ami-") or self._is_available(image_id)
        except aws_errors() as error:
            self.log.info(
                "template and image were not checked (%s); EC2 decides", first_line(error)
            )
            return {}
        if data is None:
            raise LaunchRefusedError(
                f"the launch template {template_id} has no version {version} any more: trigger "
                "bootstrap_infrastructure, then a new run"
            )
        if not there:
            raise LaunchRefusedError(
                f"the machine image {image_id} of the launch template {template_id} is gone or "
                "not available: trigger bootstrap_infrastructure, which uses the newest image, "
                "then a new run"
            )
        return data

    def _find_template(self, template_id: str, version: str) -> Mapping[str, Any] | None:
        """Read the data of a template's version; None if there is no such version."""
        try:
            found = self.ec2.describe_launch_template_versions(
                LaunchTemplateId=template_id, Versions=[version]
            )
        except client_error() as error:
            if error_code(error).startswith(MISSING_TEMPLATE):
                return None
            raise
        versions = found["LaunchTemplateVersions"]
        return cast("Mapping[str, Any]", versions[0]["LaunchTemplateData"]) if versions else None

    def _is_available(self, image_id: str) -> bool:
        try:
            images = self.ec2.describe_images(ImageIds=[image_id])["Images"]
        except client_error() as error:
            if error_code(error).startswith(MISSING_IMAGE):
                return False
            raise
        return any(image.get("State", "available") == "available" for image in images)

    def _read_limits(self, instance_types: Iterable[str], market: Market) -> dict[str, float]:
        codes = {code for name in instance_types if (code := quota_code(name, market)) is not None}
        for code in sorted(codes - set(self._limits)):
            self._limits[code] = self._read_limit(code)
        return {code: limit for code in codes if (limit := self._limits[code]) is not None}

    def _read_limit(self, code: str) -> float | None:
        if self.make_quotas is None:
            return None
        try:
            self._quotas = self._quotas or self.make_quotas()
            return find_quota(self._quotas, "ec2", code)
        except aws_errors() as error:
            self.log.info("the quota %s was not checked (%s); EC2 decides", code, first_line(error))
            return None

    def _count_used(self, market: Market) -> Counter[str]:
        """Count the vCPUs of all the account's machines in the region, by quota."""
        used: Counter[str] = Counter()
        pages = self.ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-state-name", "Values": list(COUNTED)}]
        )
        for page in pages:
            for reservation in page["Reservations"]:
                for machine in reservation["Instances"]:
                    spot = machine.get("InstanceLifecycle") == "spot"
                    code = quota_code(machine["InstanceType"], market)
                    if code is not None and spot == (market == "spot"):
                        used[code] += _vcpus(machine)
        return used


def _vcpus(machine: Mapping[str, Any]) -> int:
    options = machine.get("CpuOptions") or {}
    known = int(options.get("CoreCount", 0)) * int(options.get("ThreadsPerCore", 1))
    return known or vcpus_of(machine["InstanceType"])


def _overrides(attempt: Attempt) -> list[Mapping[str, str]]:
    configs: Any = attempt.request.get("LaunchTemplateConfigs") or [{}]
    return [override for override in configs[0].get("Overrides", ()) if "InstanceType" in override]
