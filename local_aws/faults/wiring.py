"""Connects the faults that are set with the parts that they affect."""

from __future__ import annotations

from typing import Any

from local_aws.ec2.launch_calls import capacity_refusal
from local_aws.ec2.life import KEY_REFUSALS, Reason
from local_aws.ec2.service import Ec2
from local_aws.ec2.store import Instance
from local_aws.emulator.wire import Ec2ApiError
from local_aws.faults import catalog, script
from local_aws.faults.engine import FaultEngine, SetFault
from local_aws.faults.machines import MachineFaults
from local_aws.functions.delivery import Delivery
from local_aws.functions.environment import exit_error
from local_aws.functions.runner import Runner
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import LIFETIME_S, Issuer
from local_aws.pace import Lag

FOREIGN_KEY = "11111111-2222-4333-8444-555555555555"
"""The id of the key that the fault `default_key` makes the account's default."""


class Wiring:
    """Every place where a fault can occur, and the control request that sets faults."""

    def __init__(
        self,
        engine: FaultEngine,
        ec2: Ec2,
        issuer: Issuer,
        authorizer: Authorizer,
        runner: Runner,
        delivery: Delivery,
    ) -> None:
        self._engine = engine
        self._issuer = issuer
        self.machines = MachineFaults(engine, ec2.store, ec2.life)
        ec2.launching.refuse = self._refuse
        self._usual_lag = ec2.life.lag
        ec2.life.lag = self._lag
        ec2.launching.refuse_used_token = self._refuse_used_token
        ec2.life.key_refusal = self._key_refusal
        region, account_id = issuer.region, issuer.account_id
        self._foreign_key = f"arn:aws:kms:{region}:{account_id}:key/{FOREIGN_KEY}"
        ec2.reader.foreign_key = lambda: (
            self._foreign_key if any(engine.on("default_key")) else None
        )
        issuer.lifetime_s = self._lifetime_s
        authorizer.denied_by_fault = self._denied_by
        ec2.is_closed = self._is_closed
        runner.spoil = self._spoil
        delivery.copies = self._copies

    def _refuse(self, instance_type: str, zone: str, market: str) -> Ec2ApiError | None:
        """Return EC2's error if a fault refuses a launch, else None."""
        fault = self._engine.strike(
            "capacity",
            f"{instance_type} {zone} {market}",
            type=instance_type,
            zone=zone,
            market=market,
        )
        if fault is None:
            return None
        refusal = capacity_refusal(instance_type, zone)
        refusal.code = fault.values["code"]
        return refusal

    def _lag(self) -> Lag:
        """Return for how long calls do not find a new instance.

        A fault changes no draw, so that the other launches have the same lags as without it.
        """
        usual, fault = self._usual_lag(), self._engine.strike("late_visibility", "a new instance")
        return Lag(*[float(fault.values["seconds"])] * 2) if fault else usual

    def _refuse_used_token(self) -> str | None:
        """Return how a fleet's token is refused after the end of its instances, or None."""
        fault = self._engine.strike("used_token", "a fleet's token after its instances' end")
        return str(fault.values["answer"]) if fault else None

    def _key_refusal(self, instance: Instance) -> Reason | None:
        """Return why EC2 may not use the key of an instance's disks, or None.

        Only disks without a key of their own have the account's default key.
        """
        if all(volume.get("KmsKeyId") for volume in instance.volumes):
            return None
        fault = self._engine.strike("default_key", instance.id)
        if fault is None:
            return None
        code = str(fault.values["reason"])
        return code, f"{code}: {KEY_REFUSALS[code]}", code

    def _lifetime_s(self) -> float:
        """Return the lifetime of new credentials in seconds."""
        fault = self._engine.strike("short_credentials", "new credentials")
        return float(fault.values["seconds"]) if fault else LIFETIME_S

    def _denied_by(self, role: str, action: str) -> str | None:
        """Return the kind of policy with which a fault denies an action to a role, or None."""
        fault = self._engine.strike("deny", f"{action} by {role}", role=role, action=action)
        return catalog.POLICIES[fault.values["by"]] if fault else None

    def quota(self, code: str) -> float | None:
        """Return the value that a fault gives a quota, or None."""
        fault = self._engine.strike("quota", code, code=code)
        return float(fault.values["value"]) if fault else None

    def _is_closed(self, region: str) -> bool:
        """Say whether a fault makes a region one that the account has not enabled."""
        return any(fault.matches({"region": region}) for fault in self._engine.on("closed_region"))

    def _spoil(self, function_name: str, request_id: str) -> dict[str, Any] | None:
        """Return the error with which a fault replaces an invocation, or None."""
        if self._engine.strike("function_timeout", function_name, function=function_name):
            return {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"RequestId: {request_id} Error: Task timed out",
            }
        if self._engine.strike("function_crash", function_name, function=function_name):
            return exit_error(request_id, "signal: killed")
        return None

    def _copies(self, function_name: str) -> int:
        """Return how often an event is delivered."""
        if self._engine.strike("lost_event", function_name, function=function_name):
            return 0
        return (
            2
            if self._engine.strike("duplicate_event", function_name, function=function_name)
            else 1
        )

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Set, clear or list faults."""
        if "add" in order:
            wanted = order["add"]
            self._set(
                str(wanted["kind"]),
                catalog.read(str(wanted["kind"]), wanted["values"]),
                int(wanted["seed"]),
            )
        if "script" in order:
            found = script.read(str(order["script"]))
            for n, (kind, values) in enumerate(found.faults, 1):
                self._set(kind, values, found.seed, str(n))
        if "clear" in order:
            self.machines.release(self._engine.clear(order["clear"]))
        return {"faults": self._engine.as_list(), "strikes": self._engine.strikes[-50:]}

    def _set(self, kind: str, values: catalog.Values, seed: int, salt: str = "") -> SetFault:
        """Set one fault. A fault that ends sessions takes effect at once."""
        fault = self._engine.add(kind, values, seed, salt)
        if kind == "expire_credentials":
            fault.strikes = self._issuer.expire(values["role"] or "*")
        return fault
