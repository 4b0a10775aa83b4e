"""A service that speaks AWS's JSON protocol: reading requests, authorization, errors and pages.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from local_aws.iam.authorization import Authorizer

Response = tuple[int, dict[str, str], bytes]
Data = dict[str, Any]
TARGET_PREFIXES = {"pricing": "AWSPriceListService.", "servicequotas": "ServiceQuotasV20190624."}
"""The prefix of the `X-Amz-Target` header, by service."""
LARGEST_PAGE = 100


class RequestError(ValueError):
    """A request that the service refuses.

    :param code: AWS's code for the error.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JsonService:
    """The handler of one service.

    :param actions: the function that answers each operation, by the operation's name.
    """

    def __init__(
        self, name: str, actions: Mapping[str, Callable[[Data], Data]], authorizer: Authorizer
    ) -> None:
        self._name = name
        self._actions = actions
        self._authorizer = authorizer

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request. The emulator has authenticated it before."""
        del method, path, query
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in self._actions:
            return answer(
                400,
                {"__type": "UnknownOperationException", "message": f"{action} is not known here"},
            )
        denial = self._authorizer.check(headers, f"{self._name}:{action}", "*", {})
        if denial:
            text = (
                f"User: {denial.principal_arn} is not authorized to perform: "
                f"{self._name}:{action} {denial.reason(f'{self._name}:{action}')}"
            )
            return answer(
                400, {"__type": "AccessDeniedException", "message": text, "Message": text}
            )
        try:
            return answer(200, self._actions[action](json.loads(body or b"{}")))
        except RequestError as error:
            return answer(400, {"__type": error.code, "message": str(error)})


def answer(status: int, data: Data) -> Response:
    """Return a JSON response."""
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(data).encode()


def page(items: list[Any], data: Data) -> tuple[list[Any], Data]:
    """Return one page of items and the token of the next page, as members of the answer."""
    start = int(base64.b64decode(data["NextToken"])) if data.get("NextToken") else 0
    end = start + min(int(data.get("MaxResults") or LARGEST_PAGE), LARGEST_PAGE)
    if end >= len(items):
        return items[start:end], {}
    return items[start:end], {"NextToken": base64.b64encode(str(end).encode()).decode()}
