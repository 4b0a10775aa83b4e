"""Which faults are set, and whether one strikes now."""

from __future__ import annotations

import fnmatch
import itertools
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog

KEPT_STRIKES = 1000


@dataclass
class SetFault:
    """One fault that is set.

    :param salt: tells faults of one script apart, whatever else is set.
    :param chances: how often it could have struck; the n-th chance is always decided in the same
        way for the same seed.
    """

    id: str
    kind: str
    values: catalog.Values
    seed: int
    set_at: float
    salt: str = ""
    chances: int = 0
    strikes: int = 0
    struck: set[str] = field(default_factory=set)
    seen: dict[str, int] = field(default_factory=dict)
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed}/{self.salt}/{self.kind}")

    def is_on(self, at: float) -> bool:
        """Say whether it can strike at a time (`time.monotonic`)."""
        begins = self.set_at + self.values["after_s"]
        is_over = self.values["for_s"] is not None and at >= begins + self.values["for_s"]
        is_used_up = self.values["count"] is not None and self.strikes >= self.values["count"]
        return at >= begins and not is_over and not is_used_up

    def matches(self, names: Mapping[str, str]) -> bool:
        """Say whether every pattern that it has fits what is happening."""
        return all(
            fnmatch.fnmatchcase(text, str(self.values.get(name) or "*"))
            for name, text in names.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for `fault list`."""
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
    """All faults that are set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, SetFault] = {}
        self._numbers = itertools.count(1)
        self.strikes: list[dict[str, Any]] = []

    def add(self, kind: str, values: catalog.Values, seed: int = 0, salt: str = "") -> SetFault:
        """Set a fault; the same seed and salt decide in the same way, whatever was set before."""
        with self._lock:
            fault = SetFault(f"f{next(self._numbers)}", kind, values, seed, time.monotonic(), salt)
            self._faults[fault.id] = fault
        return fault

    def clear(self, fault_id: str | None) -> list[SetFault]:
        """Remove one fault, or all; return what was removed. Numbers begin anew when nothing is
        left.

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

    def on(self, kind: str) -> Iterator[SetFault]:
        """Yield the faults of a kind that can strike now."""
        at = time.monotonic()
        with self._lock:
            found = [f for f in self._faults.values() if f.kind == kind and f.is_on(at)]
        yield from found

    def strike(self, kind: str, what: str, **names: str) -> SetFault | None:
        """Return the fault of a kind that strikes what is happening, or None.

        :param what: for the record.
        :param names: what patterns are compared with, by parameter.
        """
        for fault in self.on(kind):
            if fault.matches(names) and self.decide(fault, what):
                return fault
        return None

    def decide(self, fault: SetFault, what: str) -> bool:
        """Take one chance of a fault; record a strike."""
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
        """Return what is set."""
        with self._lock:
            return [fault.as_dict() for fault in self._faults.values()]
