"""The Lambda's entry: it answers requests of the pipeline and events of the bucket.

Importing this module has no side effects. The first call makes the S3 client, which the container
keeps. The environment variable `BUCKET` holds the bucket's name.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from rl_evaluator.dispatch import answer
from rl_lifecycle.storage.s3_store import S3Store


def handle(event: Mapping[str, Any], context: Any = None) -> dict[str, Any]:
    """Answer an event of Lambda.

    An invalid request raises an exception. The caller then gets a function error with one line, and
    nothing was stored. A policy that arrived and cannot be evaluated gets the answer `refused`,
    because a second delivery of its event would not help.
    """
    return answer(event, _store(os.environ["BUCKET"]), _remaining(context))


@functools.cache
def _store(bucket: str) -> S3Store:
    # Importing boto3 takes as long as all other imports together, so it waits until it is needed.
    # Lambda's runtime contains it.
    import boto3

    return S3Store(boto3.client("s3"), bucket)


def _remaining(context: Any) -> Callable[[], float]:
    """Return a function that gives the seconds left. Without Lambda's context it gives infinity."""
    if context is None or not hasattr(context, "get_remaining_time_in_millis"):
        return lambda: math.inf
    return lambda: context.get_remaining_time_in_millis() / 1000.0
