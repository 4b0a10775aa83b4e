"""Answer the dispatcher's requests in a process that loads an experiment's own code.

Nothing here is trusted afterwards: the shard and every answer may come from that code.
"""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from rl_evaluator.errors import ExpiredRequestError, InvalidRequestError
from rl_evaluator.messages import PlayRequest
from rl_lifecycle.evaluation.requests import (
    CheckEnvironmentRequest,
    CheckPolicyRequest,
    EvaluateRequest,
)
from rl_lifecycle.records.record import first_problem
from rl_lifecycle.storage.object_store import ObjectStore


def read_play_request(event: Any) -> PlayRequest:
    """Read what the dispatcher asks.

    :raises InvalidRequestError: naming the key that is wrong, without its value.
    """
    try:
        return PlayRequest.model_validate(event)
    except ValidationError as error:
        raise InvalidRequestError(f"play: {first_problem(error)}") from None


def answer_play(
    request: PlayRequest, store: ObjectStore, remaining_s: Callable[[], float], label: str = ""
) -> dict[str, Any]:
    """Do what the dispatcher asks.

    :param store: the keys that the request hands over.
    :param remaining_s: returns the seconds until this process is stopped.
    :param label: names this version of the evaluator in the shards; empty on a laptop.
    :return: the answer, or `{"expired": True}` if an address was too old. That is no error, because
        Lambda would repeat the same old request.
    """
    try:
        return _answer(request, store, remaining_s, label)
    except ExpiredRequestError:
        return {"expired": True}


def _answer(
    request: PlayRequest, store: ObjectStore, remaining_s: Callable[[], float], label: str
) -> dict[str, Any]:
    # Each answer is imported when it is needed: a cold Lambda loads one of them, not all.
    asked = request.asked
    if isinstance(asked, EvaluateRequest):
        from rl_evaluator.playing.shard_requests import write_shard

        return write_shard(asked, store, remaining_s, label)
    if isinstance(asked, CheckEnvironmentRequest):
        from rl_evaluator.playing.environment_checks import answer_check_environment

        return answer_check_environment(asked, store).model_dump(mode="json")
    if isinstance(asked, CheckPolicyRequest):
        from rl_evaluator.playing.policy_checks import answer_check_policy

        return answer_check_policy(asked, store).model_dump(mode="json")
    from rl_evaluator.pages.film_requests import answer_film

    return answer_film(asked, store, remaining_s).model_dump(mode="json")
