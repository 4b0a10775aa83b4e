"""Run dispatcher, player and judge in one process, on one store.

The messages between them are turned into JSON and back, as Lambda does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_evaluator.dispatch import Dispatcher
from rl_evaluator.judge import answer_judge, read_judge_request
from rl_evaluator.messages import JudgeRequest, PlayRequest
from rl_evaluator.player import answer_play, read_play_request
from rl_lifecycle.storage.object_store import ObjectStore


@dataclass
class OneProcess:
    """The player and the judge, called directly.

    :param tenants: the tenant of each call of the player.
    """

    store: ObjectStore
    remaining_s: Callable[[], float]
    tenants: list[str] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    requests: list[PlayRequest] = field(default_factory=list)

    def play(
        self, request: PlayRequest, tenant: str, *, wait: bool, version: str | None
    ) -> dict[str, Any]:
        """Play at once, also if the dispatcher does not wait."""
        self.tenants.append(tenant)
        self.versions.append(version)
        self.requests.append(request)
        received = read_play_request(json.loads(request.to_json()))
        answer = answer_play(received, self.store, self.remaining_s)
        return dict(json.loads(json.dumps(answer))) if wait else {}

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Decide or draw."""
        received = read_judge_request(json.loads(request.to_json()))
        return dict(json.loads(json.dumps(answer_judge(received, self.store))))


class FakeSigner:
    """Makes addresses that nothing answers. The player in this process reads the store itself."""

    def sign_read(self, key: str) -> str:
        """Make an address to read a key."""
        return f"https://bucket.invalid/{key}?X-Amz-Signature=read"

    def sign_write_once(self, key: str) -> str:
        """Make an address to write a key."""
        return f"https://bucket.invalid/{key}?X-Amz-Signature=write"


def answer(
    event: Mapping[str, Any], store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Answer an event as the three functions do together."""
    return Dispatcher(store, FakeSigner(), OneProcess(store, remaining_s)).answer(event)
