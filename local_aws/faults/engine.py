"""The faults that are set, and the decision whether a fault occurs now."""

from __future__ import annotations

import fnmatch
import itertools
import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog

KEPT_STRIKES = 1000


@dataclass
class SetFault:
    """A fault that is set.

    :param salt: distinguishes the faults of one script, independently of other faults.
    :param chances: how often it could have occurred. The same seed decides the n-th chance in the
        same way.
    :param strikes: how often it has occurred.
    :param decided: the instances that it has decided about.
    :param seen: how often each instance has written what the fault waits for.
    """

    id: str
    kind: str
    values: catalog.Values
    seed: int
    set_at: float
    salt: str = ""
    chances: int = 0
    strikes: int = 0
    decided: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed}/{self.salt}/{self.kind}")

    def is_on(self, at: float) -> bool:
        """Say whether the fault can occur at a time (`time.monotonic`)."""
        return at >= self._begins_at and not self.is_spent(at)

    @property
    def _begins_at(self) -> float:
        """The time at which it begins."""
        return self.set_at + float(self.values["after_s"])

    def is_spent(self, at: float) -> bool:
        """Say whether it can never occur again from a time on."""
        is_over = self.values["for_s"] is not None and at >= self._begins_at + self.values["for_s"]
        is_used_up = self.values["count"] is not None and self.strikes >= self.values["count"]
        return is_over or is_used_up

    def matches(self, names: Mapping[str, str]) -> bool:
        """Say whether the patterns of the fault match the given values."""
        return all(
            fnmatch.fnmatchcase(text, str(self.values.get(name) or "*"))
            for name, text in names.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fault in the form of `fault list`."""
        shown = {name: value for name, value in self.values.items() if value is not None}
        return {
            "id": self.id,
            "kind": self.kind,
            "strikes": self.strikes,
            "chances": self.chances,
            "seed": self.seed,
            "parameters": shown,
        }


class FaultEngine:
    """The faults that are set.

    :ivar strikes: a record of the faults that occurred last, at most :data:`KEPT_STRIKES`.
    """

    def __init__(self) -> None:
        self.added = threading.Event()
        self._lock = threading.Lock()
        self._faults: dict[str, SetFault] = {}
        self._numbers = itertools.count(1)
        self.strikes: list[dict[str, Any]] = []

    def add(self, kind: str, values: catalog.Values, seed: int = 0, salt: str = "") -> SetFault:
        """Set a fault. The same seed and salt decide in the same way, also beside other faults."""
        with self._lock:
            fault = SetFault(f"f{next(self._numbers)}", kind, values, seed, time.monotonic(), salt)
            self._faults[fault.id] = fault
        self.added.set()
        return fault

    def clear(self, fault_id: str | None) -> list[SetFault]:
        """Remove one fault or all faults, and return them.

        The numbers start again when no fault is left.

        :raises FaultScriptError: if there is no such fault.
        """
        with self._lock:
            if fault_id is not None and fault_id not in self._faults:
                raise FaultScriptError(
                    f"there is no fault {fault_id}; there are {', '.join(self._faults) or 'none'}"
                )
            gone = [self._faults.pop(i) for i in ([fault_id] if fault_id else list(self._faults))]
            if not self._faults:
                self._numbers = itertools.count(1)
        return gone

    def may_come(self, kinds: Collection[str]) -> bool:
        """Say whether a fault of one of the kinds can occur now or later."""
        at = time.monotonic()
        with self._lock:
            return any(f.kind in kinds and not f.is_spent(at) for f in self._faults.values())

    def on(self, kind: str) -> Iterator[SetFault]:
        """Yield the faults of a kind that can occur now."""
        at = time.monotonic()
        with self._lock:
            found = [f for f in self._faults.values() if f.kind == kind and f.is_on(at)]
        yield from found

    def strike(self, kind: str, what: str, **names: str) -> SetFault | None:
        """Return the first fault of a kind that occurs now, or None.

        :param what: a description for the record.
        :param names: the values that patterns are compared with, by parameter.
        """
        for fault in self.on(kind):
            if fault.matches(names) and self.decide(fault, what):
                return fault
        return None

    def decide(self, fault: SetFault, what: str) -> bool:
        """Use one chance of a fault: return whether it occurs. If so, record it."""
        with self._lock:
            fault.chances += 1
            if fault.random.random() >= fault.values["rate"]:
                return False
            if fault.values["count"] is not None and fault.strikes >= fault.values["count"]:
                return False
            fault.strikes += 1
            self.strikes.append(
                {"fault": fault.id, "kind": fault.kind, "what": what, "at": time.time()}
            )
            del self.strikes[:-KEPT_STRIKES]
        return True

    def as_list(self) -> list[dict[str, Any]]:
        """Return the faults that are set."""
        with self._lock:
            return [fault.as_dict() for fault in self._faults.values()]
