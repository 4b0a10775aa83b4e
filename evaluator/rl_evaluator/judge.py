"""The judge: it alone writes verdicts and reports, and loads neither wheels nor policies."""

from typing import Any

from pydantic import ValidationError

from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.messages import JudgeRequest
from rl_lifecycle.evaluation.requests import DecideRequest
from rl_lifecycle.records.record import first_problem
from rl_lifecycle.storage.object_store import ObjectStore


def read_judge_request(event: Any) -> JudgeRequest:
    """Read what the dispatcher asks.

    :raises InvalidRequestError: naming the key that is wrong.
    """
    try:
        return JudgeRequest.model_validate(event)
    except ValidationError as error:
        raise InvalidRequestError(f"judge: {first_problem(error)}") from None


def answer_judge(request: JudgeRequest, store: ObjectStore) -> dict[str, Any]:
    """Decide, or draw the page of a decision.

    :param store: the bucket, as the judge's role.
    """
    if isinstance(request.asked, DecideRequest):
        from rl_evaluator.judging.decisions import answer_decide

        return answer_decide(request.asked, store)
    from rl_evaluator.pages.report_pages import answer_draw

    return answer_draw(request.asked, store)
