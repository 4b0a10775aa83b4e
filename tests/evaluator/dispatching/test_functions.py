"""Lambda is called for a tenant, again while it is busy, and its errors carry no address."""

import io
import json
import math
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import ANY, Stubber

from rl_evaluator.dispatching import functions as called
from rl_evaluator.dispatching.functions import LambdaFunctions
from rl_evaluator.dispatching.signing import VALID_S, S3Signer
from rl_evaluator.errors import FunctionBusyError, FunctionFailedError, InvalidRequestError
from rl_evaluator.handler import _signing_client
from rl_evaluator.messages import PlayRequest
from rl_lifecycle.errors import StoreUnavailableError
from rl_lifecycle.evaluation.requests import CheckEnvironmentRequest

PLAYER = "arn:aws:lambda:eu-west-1:123456789012:function:nightshift-dev-player:7"
REQUEST = PlayRequest(asked=CheckEnvironmentRequest(env_id="CartPole-v1"), reads={})


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the clients keys, and take away the pauses."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(called, "PAUSES_S", (0.0, 0.0))


def stubbed(
    *, per_tenant: bool = True, left_s: float = math.inf
) -> tuple[LambdaFunctions, Stubber]:
    """Make the functions with a client whose answers a test sets."""
    client = boto3.client("lambda")
    made = LambdaFunctions(
        client, PLAYER, "judge:3", per_tenant=per_tenant, remaining_s=lambda: left_s
    )
    return made, Stubber(client)


def payload(value: Any) -> dict[str, Any]:
    """Build an answer of Lambda."""
    return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(value).encode())}


def test_the_player_is_called_for_a_tenant() -> None:
    """Lambda chooses the execution environment by the tenant."""
    functions, stub = stubbed()
    asked = {
        "FunctionName": PLAYER,
        "InvocationType": "RequestResponse",
        "Payload": ANY,
        "TenantId": "mine-1",
    }
    stub.add_response("invoke", payload({"problem": ""}), asked)
    with stub:
        answer = functions.play(REQUEST, "mine-1", wait=True, version=None)
    assert answer == {"problem": ""}


def test_a_shared_player_is_called_without_a_tenant() -> None:
    """Lambda refuses a tenant for a function that does not isolate tenants."""
    functions, stub = stubbed(per_tenant=False)
    asked = {"FunctionName": PLAYER, "InvocationType": "Event", "Payload": ANY}
    stub.add_response("invoke", {"StatusCode": 202}, asked)
    with stub:
        assert functions.play(REQUEST, "mine-1", wait=False, version=None) == {}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (PLAYER.replace(":7", ":4"), PLAYER.replace(":7", ":4")),
        (None, PLAYER),
    ],
)
def test_a_frozen_version_is_called_if_it_is_one_of_this_player(
    frozen: str | None, expected: str
) -> None:
    """A spec chooses among the versions of its own environment's player."""
    functions, stub = stubbed(per_tenant=False)
    asked = {"FunctionName": expected, "InvocationType": "Event", "Payload": ANY}
    stub.add_response("invoke", {"StatusCode": 202}, asked)
    with stub:
        functions.play(REQUEST, "", wait=False, version=frozen)
    stub.assert_no_pending_responses()


@pytest.mark.parametrize("other", ["prod-player", "dev-player-shared"])
def test_a_frozen_version_of_another_function_is_refused(other: str) -> None:
    """The run is not played by a version that it did not freeze."""
    functions, stub = stubbed(per_tenant=False)
    frozen = PLAYER.replace("dev-player", other)
    with stub, pytest.raises(InvalidRequestError, match=f"froze the player {frozen}.*new run"):
        functions.play(REQUEST, "", wait=False, version=frozen)


def test_a_busy_lambda_is_asked_again() -> None:
    """A throttled call has run nothing, so it is repeated."""
    functions, stub = stubbed()
    stub.add_client_error("invoke", "TooManyRequestsException", "Rate Exceeded.", 429)
    stub.add_response("invoke", payload({"problem": ""}))
    with stub:
        assert functions.play(REQUEST, "a", wait=True, version=None) == {"problem": ""}


@pytest.mark.parametrize("left_s", [math.inf, 5.0])
def test_a_lambda_that_stays_busy_is_named(left_s: float) -> None:
    """After the last pause, or when time runs out, the error begins with Lambda's code."""
    functions, stub = stubbed(left_s=left_s)
    for _ in range(3 if left_s == math.inf else 1):
        stub.add_client_error("invoke", "TooManyRequestsException", "Rate Exceeded.", 429)
    with stub, pytest.raises(FunctionBusyError, match=r"^TooManyRequestsException: Lambda is too"):
        functions.play(REQUEST, "a", wait=True, version=None)
    stub.assert_no_pending_responses()


def test_the_words_of_foreign_code_are_one_line_without_addresses() -> None:
    """A wheel that raises with its address does not put it into Airflow's log."""
    functions, stub = stubbed()
    error = {"errorType": "X", "errorMessage": "a https://b/k?X-Amz-Signature=1&x=2 c\nTraceback"}
    stub.add_response("invoke", {**payload(error), "FunctionError": "Unhandled"})
    with stub, pytest.raises(FunctionFailedError) as caught:
        functions.play(REQUEST, "a", wait=True, version=None)
    assert str(caught.value) == "X: a (address) c"


def test_a_store_that_was_too_busy_for_the_player_keeps_its_type() -> None:
    """Only the type of an error leaves a function, and Airflow waits by it."""
    functions, stub = stubbed()
    error = {"errorType": "StoreUnavailableError", "errorMessage": "policies/p: S3 answered 503"}
    stub.add_response("invoke", {**payload(error), "FunctionError": "Unhandled"})
    with stub, pytest.raises(StoreUnavailableError, match="policies/p: S3 answered 503"):
        functions.play(REQUEST, "a", wait=True, version=None)


class FakeSilentLambda:
    """A Lambda out of reach."""

    def invoke(self, **_: Any) -> Any:
        """Give no answer."""
        raise EndpointConnectionError(endpoint_url="https://lambda.eu-west-1.amazonaws.com")


def test_a_lambda_out_of_reach_is_busy() -> None:
    """The call may succeed later, as after a throttle."""
    silent = LambdaFunctions(
        FakeSilentLambda(),  # type: ignore[arg-type]
        PLAYER,
        "judge:3",
        per_tenant=True,
        remaining_s=lambda: math.inf,
    )
    with pytest.raises(FunctionBusyError, match=r"^EndpointConnectionError: Lambda is too"):
        silent.play(REQUEST, "a", wait=True, version=None)


def test_a_refusal_of_lambda_is_not_repeated() -> None:
    """A missing permission does not appear by waiting."""
    functions, stub = stubbed()
    stub.add_client_error("invoke", "AccessDeniedException", "no", 403)
    with stub, pytest.raises(ClientError, match="AccessDeniedException"):
        functions.play(REQUEST, "a", wait=True, version=None)


def test_an_address_writes_once_and_for_an_hour() -> None:
    """The condition is a signed header, so the address cannot be used without it."""
    _signing_client.cache_clear()
    signer = S3Signer(_signing_client(), "lake")
    write, read = signer.sign_write_once("evaluations/a"), signer.sign_read("policies/a")
    assert "X-Amz-SignedHeaders=host%3Bif-none-match" in write
    for address in (write, read):
        assert f"X-Amz-Expires={VALID_S}" in address
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in address
        assert "checksum" not in address.lower()
    assert VALID_S <= 3600
    _signing_client.cache_clear()
