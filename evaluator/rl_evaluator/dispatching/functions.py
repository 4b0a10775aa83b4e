"""Call the player and the judge through Lambda."""

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rl_evaluator.errors import (
    EvaluatorError,
    FunctionBusyError,
    FunctionFailedError,
    InvalidRequestError,
)
from rl_evaluator.messages import JudgeRequest, PlayRequest
from rl_lifecycle.aws_errors import error_code, may_pass
from rl_lifecycle.errors import StoreUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

#: The pauses before each repetition of a call that Lambda is too busy for, seconds. They are short,
#: because the dispatcher is paid for while it waits. Airflow waits longer, by the table in
#: rl_lifecycle.aws_errors.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
#: Seconds that are kept to answer.
RESERVE_S = 20.0
#: A presigned address in a message. It is a permission, so it is not passed on.
ADDRESS = re.compile(r"\S*X-Amz-\S*")
#: The longest message of a function that is passed on.
MOST_CHARACTERS = 600


class LambdaFunctions:
    """The player and the judge of one environment.

    :param client: a client that waits as long as the player may run, and repeats nothing by itself.
    :param player: ARN of the player, with its version.
    :param judge: ARN of the judge, with its version.
    :param per_tenant: whether the player isolates tenants. Where it does, Lambda refuses a call
        without a tenant, and otherwise a call with one.
    :param remaining_s: returns the seconds until this process is stopped.
    """

    def __init__(
        self,
        client: "LambdaClient",
        player: str,
        judge: str,
        *,
        per_tenant: bool,
        remaining_s: Callable[[], float],
    ) -> None:
        self.client, self.player, self.judge_arn = client, player, judge
        self.per_tenant, self.remaining_s = per_tenant, remaining_s

    def play(
        self, request: PlayRequest, tenant: str, *, wait: bool, version: str | None
    ) -> dict[str, Any]:
        """Call the player."""
        extra = {"TenantId": tenant} if self.per_tenant else {}
        return self._call("player", self._version(version), request.to_json(), wait, extra)

    def judge(self, request: JudgeRequest) -> dict[str, Any]:
        """Call the judge, and wait."""
        return self._call("judge", self.judge_arn, request.to_json(), True, {})

    def _version(self, frozen: str | None) -> str:
        """Choose the version that a spec froze, or the one in service.

        :raises InvalidRequestError: if the frozen one is of another function. Another player would
            silently be another version of the evaluator.
        """
        own = self.player.rpartition(":")[0]
        if frozen and frozen.rpartition(":")[0] != own:
            raise InvalidRequestError(
                f"the run's spec froze the player {frozen}, and the player here is {own}; "
                "trigger a new run"
            )
        return frozen or self.player

    def _call(
        self, name: str, function: str, payload: bytes, wait: bool, extra: dict[str, str]
    ) -> dict[str, Any]:
        answer = self._invoke(
            name,
            FunctionName=function,
            InvocationType="RequestResponse" if wait else "Event",
            Payload=payload,
            **extra,
        )
        if not wait:
            return {}
        found = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            raise _failure(name, found)
        if not isinstance(found, dict):
            raise FunctionFailedError(name, f"the {name} answered no object")
        return found

    def _invoke(self, name: str, **arguments: Any) -> Any:
        """Call Lambda. A call that is refused for now, or not answered, is repeated after a pause.

        This is safe even if the function ran, because it writes each of its keys once.
        """
        for pause in (*PAUSES_S, None):
            try:
                return self.client.invoke(**arguments)
            except Exception as error:  # botocore's errors; botocore is not imported here
                if not may_pass(error):
                    raise
                code = error_code(error) or type(error).__name__
                if pause is None or self.remaining_s() < pause + RESERVE_S:
                    raise FunctionBusyError(name, code) from None
                time.sleep(pause)
        raise RuntimeError("the loop above ends by returning or raising")


def _failure(name: str, found: Any) -> EvaluatorError | StoreUnavailableError:
    """Make the error that stands for a function's own.

    The caller of the dispatcher sees its type: a store that was too busy says nothing about what
    the function was asked.
    """
    if isinstance(found, dict) and found.get("errorType") == StoreUnavailableError.__name__:
        return StoreUnavailableError(name, describe(found))
    return FunctionFailedError(name, describe(found))


def describe(error: Any) -> str:
    """Describe a function's error in one line, without addresses.

    >>> describe({"errorType": "ValueError", "errorMessage": "see https://b/k?X-Amz-Signature=1"})
    'ValueError: see (address)'
    """
    found = error if isinstance(error, dict) else {}
    text = f"{found.get('errorType', 'error')}: {found.get('errorMessage', 'no message')}"
    lines = text.strip().splitlines() or [""]
    return ADDRESS.sub("(address)", lines[0])[:MOST_CHARACTERS]
