"""The dispatcher: it answers every request, and lets the player and the judge do the work.

It loads no wheel and no policy. It alone calls the player, and hands over one presigned address
for each key that a request needs.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from rl_evaluator.dispatching.arrivals import key_of_event, read_arrival
from rl_evaluator.dispatching.permissions import keys_to_read, tenant_of
from rl_evaluator.dispatching.shard_answers import answer_from_shard
from rl_evaluator.errors import (
    EvaluatorError,
    FunctionBusyError,
    FunctionFailedError,
    InvalidRequestError,
    first_line,
)
from rl_evaluator.messages import (
    DrawRequest,
    EpisodeFilm,
    FilmAnswer,
    FilmRequest,
    JudgeRequest,
    Played,
    PlayRequest,
)
from rl_lifecycle.errors import InvalidRecordError, LifecycleError, StoreUnavailableError
from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    CheckPolicyRequest,
    DecideRequest,
    EnvironmentReport,
    EvaluateRequest,
    PolicyReport,
    RenderReportRequest,
)
from rl_lifecycle.evaluation.stored_shards import find_shard
from rl_lifecycle.experiment.spec import EvaluatorVersion
from rl_lifecycle.records.record import Record, first_problem
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.storage.object_store import ObjectStore

_KINDS: dict[str, type[Record]] = {
    "evaluate": EvaluateRequest,
    "check_environment": CheckEnvironmentRequest,
    "check_policy": CheckPolicyRequest,
    "decide": DecideRequest,
    "render_report": RenderReportRequest,
}
#: How often a request is sent whose addresses were too old when the player used them.
TRIES = 2
#: The greatest answer of a check. Lambda passes 6 MiB, and Airflow stores this one.
MOST_ANSWER_BYTES = 1_000_000


class Functions(Protocol):
    """The player and the judge."""

    def play(
        self, request: PlayRequest, tenant: str, *, wait: bool, version: str | None
    ) -> dict[str, Any]:
        """Call the player.

        :param tenant: whose execution environment it runs in.
        :param wait: False only sends the request, and returns an empty answer.
        :param version: ARN of the version to call; None: the one that belongs to this dispatcher.
        """
        ...

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Call the judge, and wait."""
        ...


class Signer(Protocol):
    """Makes addresses that permit one request each, for at most an hour."""

    def sign_read(self, key: str) -> str:
        """Make an address to read a key."""
        ...

    def sign_write_once(self, key: str) -> str:
        """Make an address to write a key, unless it exists."""
        ...


class Dispatcher:
    """Answers the requests of the pipeline and the events of the bucket.

    :param store: the bucket, as the dispatcher's role.
    """

    def __init__(self, store: ObjectStore, signer: Signer, functions: Functions) -> None:
        self.store, self.signer, self.functions = store, signer, functions

    def answer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event of any kind.

        :param event: a request of :mod:`rl_lifecycle.evaluation.requests` as a mapping, or an
            EventBridge event.
        :raises InvalidRequestError: if the event is neither a request nor an EventBridge event.
        :raises FunctionFailedError: if the player or the judge answered with an error.
        """
        if "detail-type" in event:
            return self._answer_event(event)

        request = read_request(event)
        if isinstance(request, EvaluateRequest):
            return self._evaluate(request, None)
        if isinstance(request, CheckEnvironmentRequest):
            answer = self._play(request, request.experiment)
            return _checked(EnvironmentReport, answer)
        if isinstance(request, CheckPolicyRequest):
            return self._check_policy(request)
        if isinstance(request, RenderReportRequest):
            return self._draw(request)
        if isinstance(request, DecideRequest):
            return self.functions.judge(JudgeRequest(asked=request))
        raise InvalidRequestError(
            f"{type(request).__name__} has no answer; add it to rl_evaluator.dispatch"
        )

    def _answer_event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the arrival of a policy. A refused policy is no error: a second delivery of its
        event would not help.
        """
        key = key_of_event(event)
        if key is None:
            return {"ignored": True}
        try:
            arrival = read_arrival(key, self.store)
            return self._evaluate(arrival.request, arrival.spec.evaluator)
        except (StoreUnavailableError, FunctionBusyError):
            raise  # AWS then delivers the event again, and S3 or Lambda may answer the next time.
        except (EvaluatorError, LifecycleError) as error:
            return {"refused": str(error), "key": key}

    def _evaluate(
        self, request: EvaluateRequest, version: EvaluatorVersion | None
    ) -> dict[str, Any]:
        """Let a shard be played unless it is stored already."""
        key = shard_key(request.experiment, request.run, request.name, request.shard)
        stored = find_shard(self.store, key)
        if stored is None:
            self._play(
                request,
                request.experiment,
                write=key,
                wait=request.wait,
                version=version.player if version else None,
            )
            if not request.wait:
                return {"key": key, "started": True}
            stored = find_shard(self.store, key)
        if stored is None:
            raise InvalidRequestError(f"{key} was not written by the player; request it again")
        return answer_from_shard(stored, request, key)

    def _check_policy(self, request: CheckPolicyRequest) -> dict[str, Any]:
        try:
            return _checked(PolicyReport, self._play(request, request.experiment))
        except (InvalidRequestError, LifecycleError) as error:
            if isinstance(error, StoreUnavailableError):
                raise
            return PolicyReport(problem=str(error)).model_dump(mode="json")

    def _draw(self, request: RenderReportRequest) -> dict[str, Any]:
        """Let the player film the worst episodes, and the judge write the page."""
        found = self.functions.judge(JudgeRequest(asked=DrawRequest(asked=request)))
        if found.get("film") is None:
            return found
        films = self._film(FilmRequest.from_value(found["film"], "the judge's answer"))
        return self.functions.judge(JudgeRequest(asked=DrawRequest(asked=request, films=films)))

    def _film(self, request: FilmRequest) -> tuple[EpisodeFilm, ...]:
        """Film, or note why there are no films. A page without films is better than none."""
        try:
            answer = self._play(request, request.experiment)
            return FilmAnswer.from_value(answer, "the player's answer").films
        except (EvaluatorError, LifecycleError) as error:
            reason = str(error) if isinstance(error, FunctionFailedError) else first_line(error)
            note = f"no films: {reason}"
            return (EpisodeFilm(seed=request.episodes[0].seed, note=note[:500]),)

    def _play(
        self,
        request: Played,
        experiment: str,
        *,
        write: str | None = None,
        wait: bool = True,
        version: str | None = None,
    ) -> dict[str, Any]:
        """Call the player with fresh addresses; sign again if they were too old when it ran."""
        keys = keys_to_read(request, self.store)
        tenant = tenant_of(experiment, request.requirements)
        for _ in range(TRIES):
            asked = PlayRequest(
                asked=request,
                reads={key: self.signer.sign_read(key) for key in keys},
                write=self.signer.sign_write_once(write) if write else None,
            )
            answer = self.functions.play(asked, tenant, wait=wait, version=version)
            if not answer.get("expired"):
                return answer
        raise FunctionFailedError("player", "the addresses expired before the player used them")


def _checked(form: type[Record], answer: Any) -> dict[str, Any]:
    """Check the form of an answer that may come from an experiment's code."""
    try:
        checked = form.from_value(answer, "the player's answer")
    except InvalidRecordError as error:
        raise FunctionFailedError("player", str(error)) from None
    if len(checked.to_json()) > MOST_ANSWER_BYTES:
        raise FunctionFailedError("player", f"its answer has more than {MOST_ANSWER_BYTES:,} bytes")
    return checked.model_dump(mode="json")


def read_request(event: Mapping[str, Any]) -> Record:
    """Read a request of the pipeline.

    :raises InvalidRequestError: if it is none.
    """
    kind = _KINDS.get(str(event.get("action")))
    if kind is None:
        raise InvalidRequestError(
            f"unknown action {event.get('action')!r}; known: {', '.join(_KINDS)}"
        )
    try:
        return kind.model_validate(dict(event))
    except ValidationError as error:
        raise InvalidRequestError(f"{event['action']}: {first_problem(error)}") from None
