"""The Lambda: one entry for requests of the pipeline and for policies that arrive in the bucket.

Nothing happens when this module is imported beyond importing; the S3 client is made on the first
call and kept for the container's life. The bucket's name is in the environment variable `BUCKET`.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from rl_evaluator.dispatch import answer
from rl_lifecycle.storage.s3_store import S3Store


def handle(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
    """Answer an event.

    What is wrong with a request raises, so the caller gets a function error with one line; nothing
    half-written stays. A policy that arrived and cannot be evaluated is answered with `refused`,
    because delivering it again cannot help.
    """
    return answer(event, _store(os.environ["BUCKET"]), _remaining(context))


@functools.cache
def _store(bucket: str) -> S3Store:
    # Comes with the runtime; importing it takes as long as all the rest, so not before it is needed
    import boto3

    return S3Store(boto3.client("s3"), bucket)


def _remaining(context: Any) -> Callable[[], float]:
    """Say how long this invocation may still run; without a context, as long as it likes."""
    if context is None or not hasattr(context, "get_remaining_time_in_millis"):
        return lambda: math.inf
    return lambda: context.get_remaining_time_in_millis() / 1000.0
