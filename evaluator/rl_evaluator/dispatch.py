"""Choose the function that answers an event. The store and the clock are arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from rl_evaluator.errors import EvaluatorError, InvalidRequestError
from rl_evaluator.playing.arrived_policies import answer_arrival, key_of_event
from rl_lifecycle.errors import LifecycleError, StoreUnavailableError
from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    CheckPolicyRequest,
    DecideRequest,
    EvaluateRequest,
    RenderReportRequest,
)
from rl_lifecycle.records.record import Record, first_problem
from rl_lifecycle.storage.object_store import ObjectStore

_KINDS: dict[str, type[Record]] = {
    "evaluate": EvaluateRequest,
    "check_environment": CheckEnvironmentRequest,
    "check_policy": CheckPolicyRequest,
    "decide": DecideRequest,
    "render_report": RenderReportRequest,
}


def answer(
    event: Mapping[str, Any], store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Answer an event of any kind.

    :param event: a request of :mod:`rl_lifecycle.evaluation.requests` as a mapping, or an
        EventBridge event.
    :param remaining_s: returns the seconds until this process is stopped.
    :raises InvalidRequestError: if the event is neither a request nor an EventBridge event.
    """
    if "detail-type" in event:
        return _answer_event(event, store, remaining_s)

    request = _read(event)

    # Each answer is imported when it is needed: a cold Lambda loads one of them, not all.
    if isinstance(request, EvaluateRequest):
        from rl_evaluator.playing.shard_requests import answer_evaluate

        return answer_evaluate(request, store, remaining_s)
    if isinstance(request, CheckEnvironmentRequest):
        from rl_evaluator.playing.environment_checks import answer_check_environment

        return answer_check_environment(request, store).model_dump(mode="json")
    if isinstance(request, CheckPolicyRequest):
        from rl_evaluator.playing.policy_checks import answer_check_policy

        return answer_check_policy(request, store).model_dump(mode="json")
    if isinstance(request, DecideRequest):
        from rl_evaluator.judging.decisions import answer_decide

        return answer_decide(request, store)
    if isinstance(request, RenderReportRequest):
        from rl_evaluator.pages.report_pages import answer_render_report

        return answer_render_report(request, store, remaining_s)
    raise InvalidRequestError(
        f"{type(request).__name__} has no answer; add its function to rl_evaluator.dispatch.answer"
    )


def _answer_event(
    event: Mapping[str, Any], store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    key = key_of_event(event)
    if key is None:
        return {"ignored": True}
    try:
        return answer_arrival(key, store, remaining_s)
    except StoreUnavailableError:
        raise  # AWS then delivers the event again, and the store may answer the next time.
    except (EvaluatorError, LifecycleError) as error:
        return {"refused": str(error), "key": key}


def _read(event: Mapping[str, Any]) -> Record:
    kind = _KINDS.get(str(event.get("action")))
    if kind is None:
        raise InvalidRequestError(
            f"unknown action {event.get('action')!r}; known: {', '.join(_KINDS)}"
        )
    try:
        return kind.model_validate(dict(event))
    except ValidationError as error:
        raise InvalidRequestError(f"{event['action']}: {first_problem(error)}") from None
