"""RunInstances and CreateFleet: authorization, client tokens, capacity and quotas.

A client token that was used before gets its earlier answer again. After the end of its instances,
RunInstances refuses it. Whether a fleet of type `instant` does so is not documented: it does not,
unless the fault `used_token` is set.
Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_aws.ec2 import fleet
from local_aws.ec2.catalog import CATALOG, QUOTAS, quota_of
from local_aws.ec2.launch_spec import LaunchSpec, Resolver, as_tags
from local_aws.ec2.life import Life
from local_aws.ec2.permissions import Permissions, tag_keys
from local_aws.ec2.store import Instance, Store, new_id
from local_aws.emulator import wire
from local_aws.emulator.wire import DRY_RUN, Ec2ApiError

Request = dict[str, Any]
Response = dict[str, Any]
CAPACITY = (
    "We currently do not have sufficient {type} capacity in the Availability Zone you requested "
    "({zone}). Our system will be working on "
    "provisioning additional capacity. You can currently get {type} capacity by not specifying an "
    "Availability Zone in your request."
)
USED_TOKEN = Ec2ApiError(
    "IdempotentInstanceTerminated",
    "The client token you have provided is associated with a resource that is already deleted. "
    "Please use a different client token.",
)


class Launching:
    """Launches instances.

    :param images: returns the images that DescribeImages knows, by id.
    :ivar refuse: called with type, zone and market before each launch; returns an error or None.
    :ivar refuse_used_token: called when a fleet's token comes again after the end of its instances;
        returns whether and how it is refused: `error`, `list` or None.
    """

    def __init__(
        self,
        store: Store,
        life: Life,
        resolver: Resolver,
        permissions: Permissions,
        images: Callable[[], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self.store = store
        self.life = life
        self._resolver = resolver
        self._permissions = permissions
        self._images = images
        self.refuse: Callable[[str, str, str], Ec2ApiError | None] = (
            lambda _instance_type, _zone, _market: None
        )
        self.refuse_used_token: Callable[[], str | None] = lambda: None

    def run_instances(self, request: Request, dry_run: bool) -> Response:
        """Launch instances: start their machines."""
        least, most = int(request.pop("MinCount", 1)), int(request.pop("MaxCount", 1))
        if not 1 <= least <= most:
            raise Ec2ApiError(
                "InvalidParameterValue",
                f"Value ({least}) for parameter minCount is invalid. minCount must be from 1 to "
                "maxCount.",
            )
        token = request.pop("ClientToken", "")
        spec = self._resolver.resolve(request, self._images())
        self._permissions.require_launch(spec)
        if dry_run:
            raise DRY_RUN
        asked = {**request, "MinCount": least, "MaxCount": most}
        if token and (known := self.store.find_answer("RunInstances", token, asked)):
            if self._has_ended(known["instances"]):
                raise USED_TOKEN
            return self._replayed(known)
        made = self._launch_many(spec, least, most, {}, token)
        answer = {
            "ReservationId": made[0].reservation_id,
            "OwnerId": self._account(made[0]),
            "Groups": [],
            "Instances": [i.described() for i in made],
        }
        if token:
            self.store.remember(
                "RunInstances", token, asked, {"instances": [i.id for i in made], "answer": answer}
            )
        return answer

    @staticmethod
    def _account(instance: Instance) -> str:
        """Return the owner of an instance."""
        return str(instance.interfaces[0]["OwnerId"]) if instance.interfaces else ""

    def _has_ended(self, instance_ids: Sequence[str]) -> bool:
        """Say whether there were instances and all of them have ended."""
        known = [self.store.instances.get(i) for i in instance_ids]
        return bool(known) and all(i is None or i.state == "terminated" for i in known)

    def _replayed(self, known: Response) -> Response:
        """Return the answer of an earlier launch, with the current records of its instances."""
        current = [
            self.store.instances[i].described()
            for i in known["instances"]
            if i in self.store.instances
        ]
        return {**known["answer"], "Instances": current or known["answer"]["Instances"]}

    def _launch_many(
        self, spec: LaunchSpec, least: int, most: int, tags: dict[str, str], token: str
    ) -> list[Instance]:
        """Launch as many instances as capacity and quotas allow, but at least `least`.

        :raises Ec2ApiError: the refusal, if fewer than `least` can be launched.
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
        """Check that the environment of the machine image exists.

        :raises Ec2ApiError: InvalidAMIID.Unavailable, with the command that creates the
            environment.
        """
        if not (self.life.ami / "bin" / "python").exists():
            raise Ec2ApiError(
                "InvalidAMIID.Unavailable",
                f"The local AWS has no machine image at {self.life.ami}: run `make setup`",
            )

    def _refusal(self, spec: LaunchSpec, already: int) -> Ec2ApiError | None:
        """Return why one more instance cannot be launched (a fault or the quota), or None."""
        if fault := self.refuse(spec.instance_type, spec.zone, spec.market):
            return fault
        code = quota_of(spec.instance_type, spec.market)
        if code is None:
            return None
        used = sum(
            CATALOG[i.record["InstanceType"]].vcpus
            for i in self.store.known()
            if i.state in ("pending", "running") and _quota(i) == code
        )
        needed = used + (already + 1) * CATALOG[spec.instance_type].vcpus
        if needed <= QUOTAS[code][1]:
            return None
        if spec.market == "spot":
            return Ec2ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        return Ec2ApiError(
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit of "
            f"{QUOTAS[code][1]:.0f} allows "
            "for the instance bucket that the specified instance type belongs to.",
        )

    def create_fleet(self, request: Request, dry_run: bool) -> Response:
        """Launch an instant fleet: start its machines, and report each refused override."""
        if request.get("Type", "maintain") != "instant":
            raise Ec2ApiError(
                "InvalidParameterValue",
                "The local AWS has fleets of type instant only, not "
                f"{request.get('Type', 'maintain')}.",
            )
        token = request.pop("ClientToken", "")
        fleet_tags = as_tags(request.get("TagSpecifications"), "fleet")
        self._permissions.require(
            "ec2:CreateFleet", self._permissions.arn("fleet", "*"), tag_keys(fleet_tags)
        )
        if fleet_tags:
            self._permissions.require(
                "ec2:CreateTags",
                self._permissions.arn("fleet", "*"),
                {**tag_keys(fleet_tags), "ec2:CreateAction": "CreateFleet"},
            )
        if dry_run:
            self._rehearse_fleet(request)
            raise DRY_RUN
        if token and (known := self.store.find_answer("CreateFleet", token, request)):
            return self._replayed_fleet(known)
        answer = self._fill(request, token)
        if token:
            self.store.remember("CreateFleet", token, request, answer)
            self.store.save()
        return answer

    def _replayed_fleet(self, known: Response) -> Response:
        """Return the earlier answer of a fleet, or refuse its token after the instances' end."""
        groups = known["Instances"]
        if not self._has_ended([i for group in groups for i in group["InstanceIds"]]):
            return known
        refused = self.refuse_used_token()
        if refused is None:
            return known
        if refused == "error":
            raise USED_TOKEN
        where = ("LaunchTemplateAndOverrides", "Lifecycle")
        code = {"ErrorCode": USED_TOKEN.code, "ErrorMessage": USED_TOKEN.message}
        errors = [{name: group[name] for name in where} | code for group in groups]
        return {**known, "Instances": [], "Errors": errors}

    def _choices(self, request: Request, market: str) -> list[fleet.Choice]:
        """Return the choices of a fleet in the order in which they are tried."""
        tries = fleet.choices(request["LaunchTemplateConfigs"])
        zones = {s["SubnetId"]: s["AvailabilityZone"] for s in self._resolver.subnets()}
        return fleet.in_order(tries, fleet.strategy_of(request, market), market, zones)

    def _instance_tags(self, request: Request) -> Sequence[Mapping[str, Any]]:
        """Return the tag specifications of a fleet that apply to its instances."""
        return [s for s in request.get("TagSpecifications", []) if s.get("ResourceType") != "fleet"]

    def _rehearse_fleet(self, request: Request) -> None:
        """Authorize every choice of a fleet without a launch."""
        for market in fleet.targets(request["TargetCapacitySpecification"]):
            for template, override in self._choices(request, market):
                run = fleet.as_run_request(template, override, market, self._instance_tags(request))
                self._permissions.require_launch(self._resolver.resolve(run, self._images()))

    def _fill(self, request: Request, token: str) -> Response:
        """Launch the requested number of instances of each market."""
        fleet_id = f"fleet-{wire.request_id()}"
        made: list[Response] = []
        errors: list[Response] = []
        for market, target in fleet.targets(request["TargetCapacitySpecification"]).items():
            self._fill_market(request, token, market, target, fleet_id, made, errors)
        return {"FleetId": fleet_id, "Instances": made, "Errors": errors}

    def _fill_market(
        self,
        request: Request,
        token: str,
        market: str,
        target: int,
        fleet_id: str,
        made: list[Response],
        errors: list[Response],
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
                launched = self._launch_many(
                    spec, 1, missing, {"aws:ec2:fleet-id": fleet_id}, token
                )
            except Ec2ApiError as fault:
                errors.append({**where, "ErrorCode": fault.code, "ErrorMessage": fault.message})
                continue
            missing -= len(launched)
            made.append(
                {
                    **where,
                    "InstanceIds": [i.id for i in launched],
                    "InstanceType": spec.instance_type,
                }
            )


def _quota(instance: Instance) -> str | None:
    """Return the code of the quota that an instance counts against."""
    return quota_of(
        instance.record["InstanceType"], instance.record.get("InstanceLifecycle", "on-demand")
    )


def capacity_refusal(instance_type: str, zone: str) -> Ec2ApiError:
    """Return EC2's error for missing capacity."""
    return Ec2ApiError(
        "InsufficientInstanceCapacity", CAPACITY.format(type=instance_type, zone=zone), 500
    )
