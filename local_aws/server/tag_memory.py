"""Lets the tagging service name resources for a while after they were deleted.

GetResources returns resources "tagged or previously tagged", and it does not follow deletions at
once. A program that takes its answer as a proof of what exists is then wrong.
Source: https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

log = logging.getLogger("local_aws")
Tags = list[dict[str, str]]
Collector = Callable[[], Iterable[tuple[str, Tags]]]
ENDINGS = ("Delete", "Terminate")
"""How the actions begin that delete resources."""
DATA = ("DeleteObject", "DeleteMessage", "DeleteLog")
"""How the frequent actions begin that delete data, which has no tags."""


class TagMemory:
    """Remembers the tagged resources of each service, and when one was first missed.

    :param still_named_s: for how long a deleted resource is named.
    :param clock: returns seconds, as `time.monotonic`.
    """

    def __init__(self, still_named_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._still_named_s = still_named_s
        self._clock = clock
        self._lock = threading.Lock()
        self._collectors: dict[str, Collector] = {}
        self._known: dict[str, dict[str, Tags]] = {}
        self._missed_at: dict[str, float] = {}

    def install(self, collectors: MutableMapping[str, Any]) -> None:
        """Replace each service's collector by one that also names what was deleted."""
        for service, collect in list(collectors.items()):
            self._collectors[service] = collect
            collectors[service] = lambda name=service: self.named(name)

    def before(self, action: str) -> None:
        """Look at what is tagged before a call that may delete some of it."""
        if self._still_named_s and action.startswith(ENDINGS) and not action.startswith(DATA):
            for service in self._collectors:
                self._look(service)

    def _look(self, service: str) -> dict[str, Tags]:
        """Return a service's tagged resources, and remember them."""
        try:
            found = {arn: list(tags) for arn, tags in self._collectors[service]() if tags}
        except Exception as error:  # the emulator's code; it skips a service that is not ready, too
            log.debug("the tags of %s cannot be read: %s", service, error)
            return {}
        at = self._clock()
        with self._lock:
            known = self._known.setdefault(service, {})
            for arn in [name for name in known if name not in found]:
                missed_at = self._missed_at.setdefault(arn, at)
                if at - missed_at > self._still_named_s:
                    del known[arn], self._missed_at[arn]
            for arn in found:
                self._missed_at.pop(arn, None)
            known |= found
        return found

    def named(self, service: str) -> Iterator[tuple[str, Tags]]:
        """Yield a service's tagged resources, and those that were deleted a short time ago."""
        found = self._look(service)
        yield from found.items()
        if self._still_named_s:
            with self._lock:
                gone = {a: t for a, t in self._known[service].items() if a not in found}
            yield from gone.items()
