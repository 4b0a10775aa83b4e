"""Faults of instances: interruption, kill and hang, at once or after a certain write."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable
from typing import Any

from local_aws.ec2.life import Life
from local_aws.ec2.store import Instance, Store
from local_aws.faults.calls import read_field
from local_aws.faults.catalog import KINDS
from local_aws.faults.engine import FaultEngine, SetFault

LOOK_EVERY_S = 0.1


class MachineFaults:
    """Looks for instances that a fault affects."""

    def __init__(self, engine: FaultEngine, store: Store, life: Life) -> None:
        self._engine = engine
        self._store = store
        self._stop = threading.Event()
        self._strikes: dict[str, Callable[[Instance, SetFault], None]] = {
            "interrupt": lambda instance, fault: life.interrupt(instance, fault.values["notice_s"]),
            "rebalance": lambda instance, _: life.recommend_rebalance(instance),
            "kill": lambda instance, _: life.kill(instance),
            "hang": lambda instance, _: instance.machine.freeze() if instance.machine else None,
        }
        self._thread = threading.Thread(target=self._look, daemon=True, name="machine-faults")

    def start(self) -> None:
        """Start to look for instances."""
        self._thread.start()

    def _look(self) -> None:
        """Apply the faults that wait for no write to running instances, until closed."""
        while not self._stop.wait(LOOK_EVERY_S):
            self._engine.added.clear()
            if not self._engine.may_come(self._strikes):
                self._engine.added.wait()
            for kind in self._strikes:
                for fault in self._engine.on(kind):
                    if not fault.values["at_key"]:
                        self._strike_running(fault)

    def _strike_running(self, fault: SetFault) -> None:
        """Apply a fault once to each running instance that it is meant for."""
        for instance in self._store.known():
            if instance.state == "running" and self._is_meant(fault, instance):
                self._strike(fault, instance)

    def _is_meant(self, fault: SetFault, instance: Instance) -> bool:
        """Say whether a fault is meant for an instance and has not decided about it yet."""
        if instance.id in fault.decided or not fnmatch.fnmatchcase(
            instance.id, fault.values["instance"]
        ):
            return False
        if fault.kind == "interrupt" and "InstanceLifecycle" not in instance.record:
            return False
        key, _, pattern = (fault.values["tag"] or "").partition("=")
        return not key or fnmatch.fnmatchcase(instance.tags.get(key, ""), pattern or "*")

    def _strike(self, fault: SetFault, instance: Instance) -> None:
        """Let a fault decide about an instance, and apply the fault if it occurs."""
        fault.decided.add(instance.id)
        if self._engine.decide(fault, instance.id):
            if instance.machine:
                instance.machine.say(f"fault: {KINDS[fault.kind].text}")
            self._strikes[fault.kind](instance, fault)

    def saw_write(self, instance_id: str, key: str, body: bytes) -> None:
        """Apply the faults that wait for this write of an instance."""
        instance = self._store.instances.get(instance_id)
        if instance is None or instance.state != "running":
            return
        for kind in self._strikes:
            for fault in self._engine.on(kind):
                if (
                    fault.values["at_key"]
                    and fnmatch.fnmatchcase(key, fault.values["at_key"])
                    and self._is_meant(fault, instance)
                    and self._is_time(fault, instance_id, body)
                ):
                    self._strike(fault, instance)

    def _is_time(self, fault: SetFault, instance_id: str, body: bytes) -> bool:
        """Say whether a write is the one for which a fault waits."""
        field: Any = fault.values["at_field"]
        if field:
            value = read_field(body, field)
            least = fault.values["at_least"]
            if value is None or (least is not None and float(value) < least):
                return False
        fault.seen[instance_id] = fault.seen.get(instance_id, 0) + 1
        return fault.seen[instance_id] >= int(fault.values["at_count"])

    def release(self, faults: list[SetFault]) -> None:
        """Let the instances continue that hang because of one of these cleared faults."""
        for fault in faults:
            for instance_id in fault.decided if fault.kind == "hang" else ():
                instance = self._store.instances.get(instance_id)
                if instance and instance.machine:
                    instance.machine.thaw()

    def close(self) -> None:
        """Stop looking for instances."""
        self._stop.set()
        self._engine.added.set()
