"""The entries of the three Lambda functions: dispatcher, player and judge.

Importing this module has no side effects. The first call makes the clients, which the container
keeps. The environment variables `BUCKET`, `PLAYER`, `JUDGE` and `PLAYER_ISOLATION` say where the
other parts are. The player gets none of them.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rl_lifecycle.storage.s3_store import S3Store

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client

#: The dispatcher waits for the player as long as Lambda lets a function run, seconds.
LONGEST_WAIT_S = 900


def handle(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
    """Answer an event of Lambda as the dispatcher.

    An invalid request raises an exception. The caller then gets a function error with one line, and
    nothing was stored. A policy that arrived and cannot be evaluated gets the answer `refused`,
    because a second delivery of its event would not help.
    """
    from rl_evaluator.dispatch import Dispatcher
    from rl_evaluator.dispatching.functions import LambdaFunctions
    from rl_evaluator.dispatching.signing import S3Signer

    bucket = os.environ["BUCKET"]
    functions = LambdaFunctions(
        _lambda_client(),
        os.environ["PLAYER"],
        os.environ["JUDGE"],
        per_tenant=os.environ["PLAYER_ISOLATION"] == "per-tenant",
        remaining_s=_remaining(context),
    )
    signer = S3Signer(_signing_client(), bucket)
    return Dispatcher(_store(bucket), signer, functions).answer(event)


def play(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
    """Do what the dispatcher asks, in a process that loads an experiment's own code."""
    from rl_evaluator.player import answer_play, read_play_request
    from rl_evaluator.playing.url_store import UrlStore

    request = read_play_request(event)
    store = UrlStore(request.reads, request.write)
    return answer_play(request, store, _remaining(context), os.environ.get("EVALUATOR_LABEL", ""))


def judge(event: Mapping[str, Any], _context: Any = None) -> dict[str, Any]:
    """Decide, or draw the page of a decision."""
    from rl_evaluator.judge import answer_judge, read_judge_request

    return answer_judge(read_judge_request(event), _store(os.environ["BUCKET"]))


# Importing boto3 takes as long as all other imports together, so it waits until it is needed.
# Lambda's runtime contains it.
@functools.cache
def _store(bucket: str) -> S3Store:
    import boto3

    return S3Store(boto3.client("s3"), bucket)


@functools.cache
def _signing_client() -> "S3Client":
    import boto3
    from botocore.config import Config

    # A checksum that the client adds by itself would have to be sent with the address.
    config = Config(signature_version="s3v4", request_checksum_calculation="when_required")
    return boto3.client("s3", config=config)


@functools.cache
def _lambda_client() -> "LambdaClient":
    import boto3
    from botocore.config import Config

    config = Config(
        read_timeout=LONGEST_WAIT_S, retries={"total_max_attempts": 1, "mode": "standard"}
    )
    return boto3.client("lambda", config=config)


def _remaining(context: Any) -> Callable[[], float]:
    """Return a function that gives the seconds left. Without Lambda's context it gives infinity."""
    if context is None or not hasattr(context, "get_remaining_time_in_millis"):
        return lambda: math.inf
    return lambda: context.get_remaining_time_in_millis() / 1000.0
