"""A fake evaluator function that answers without playing, and can lose events or time out."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from rl_airflow.evaluation.evaluator import Evaluator
from rl_evaluator.errors import EvaluatorError
from rl_evaluator.judging.decisions import answer_decide
from rl_evaluator.playing.environment_checks import answer_check_environment
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    DecideRequest,
    EpisodeEnd,
    EvaluateRequest,
    PolicyReport,
    Shard,
)
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.storage.object_store import ObjectStore, put_once

#: How long the dispatcher tries before it answers that Lambda is too busy for the player, seconds.
BUSY_S = 90.0


@dataclass
class FakeLambda:
    """The Lambda client.

    :param returns: maps (name of the evaluation, seed) to the episode's return; None: it is lost

    :param throttle: how many of the next calls are throttled

    :param lose: how many of the next events are lost

    :param queues: whether events stay in the queue for now

    :param at_most: how many episodes fit into one invocation

    :param broken: error message of every invocation; empty: none

    :param refused: the problem of every checked policy; empty: none

    :param metadata: the metadata of every checked policy

    :param blind: whether rendering films fails

    :param outage: what the next calls raise, in this order

    :param busy: the errors with which the function answers the next calls that wait for it

    :param damaged: SHA-256 of a policy that cannot be played → its problem
    """

    store: ObjectStore
    returns: Callable[[str, int], float | None]
    throttle: int = 0
    lose: int = 0
    queues: bool = False
    queue: list[EvaluateRequest] = field(default_factory=list)
    at_most: int = 10_000
    broken: str = ""
    refused: str = ""
    metadata: PolicyMetadata | None = None
    blind: bool = False
    damaged: dict[str, str] = field(default_factory=dict)
    outage: list[Exception] = field(default_factory=list)
    busy: list[Exception] = field(default_factory=list)
    now: float = 0.0
    events: list[EvaluateRequest] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:
        """Validate the request and answer as Lambda does."""
        assert FunctionName == "evaluator:live"
        assert InvocationType in ("Event", "RequestResponse")
        if self.throttle:
            self.throttle -= 1
            raise ClientError(
                {"Error": {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}},
                "Invoke",
            )
        if self.outage:
            raise self.outage.pop(0)
        document = json.loads(Payload)
        self.asked.append(f"{document['action']} {InvocationType}")
        if InvocationType == "Event":
            request = EvaluateRequest.model_validate(document)
            self.events.append(request)
            if self.lose:
                self.lose -= 1
            elif self.queues:
                self.queue.append(request)
            elif not self.broken and request.policy.sha256 not in self.damaged:
                self._play(request)
            return {"StatusCode": 202}
        try:
            if self.busy:
                self.now += BUSY_S
                raise self.busy.pop(0)
            if self.broken:
                raise EvaluatorError(self.broken)
            answer = self._answer(document)
        except (EvaluatorError, LifecycleError) as error:
            answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {
                "StatusCode": 200,
                "FunctionError": "Unhandled",
                "Payload": io.BytesIO(json.dumps(answer).encode()),
            }
        return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(answer).encode())}

    def _answer(self, document: dict[str, Any]) -> dict[str, Any]:
        if document["action"] == "decide":
            return answer_decide(DecideRequest.model_validate(document), self.store)
        if document["action"] == "render_report":
            return self._draw(document)
        if document["action"] == "check_policy":
            return PolicyReport(
                problem=self.refused or self.damaged.get(document["policy"]["sha256"], ""),
                metadata=self.metadata,
                digest=self.metadata.digest if self.metadata else "",
            ).model_dump(mode="json")
        if document["action"] == "check_environment":
            return answer_check_environment(
                CheckEnvironmentRequest.model_validate(document), self.store
            ).model_dump(mode="json")
        return self._play(EvaluateRequest.model_validate(document))

    def _draw(self, document: dict[str, Any]) -> dict[str, Any]:
        if self.blind and document["films"]:
            raise EvaluatorError("the camera is broken")
        return {"page": "page.html", "n_bytes": 1, "films": document["films"]}

    def _play(self, request: EvaluateRequest) -> dict[str, Any]:
        if problem := self.damaged.get(request.policy.sha256):
            raise EvaluatorError(problem)
        count = min(request.n_episodes, self.at_most)
        returns = tuple(self.returns(request.name, request.first_seed + n) for n in range(count))
        shard = Shard(
            env_id=request.env_id,
            env_kwargs=request.env_kwargs,
            policy_sha256=request.policy.sha256,
            deterministic=request.deterministic,
            first_seed=request.first_seed,
            steps=count,
            seconds=1.0,
            returns=returns,
            lengths=(1,) * count,
            ends=tuple(
                EpisodeEnd.LOST if value is None else EpisodeEnd.TERMINATED for value in returns
            ),
            problems=(f"seed {request.first_seed}: the reward is not finite",)
            if None in returns
            else (),
        )
        put_once(
            self.store,
            shard_key(request.experiment, request.run, request.name, request.shard),
            shard.to_json(),
        )
        return {"complete": count == request.n_episodes}

    def evaluator(self) -> Evaluator:
        """Return the plugin's evaluator with this client. It sleeps in a time of its own."""
        return Evaluator(self, "evaluator:live", sleep=self.sleep, clock=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
