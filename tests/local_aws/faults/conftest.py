"""Faults that are cleared after the test that set them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_aws.conftest import LocalAwsUnderTest


@pytest.fixture
def fault(aws: LocalAwsUnderTest) -> Iterator[Any]:
    """Set a fault for one test: `fault("throttle", "service=ec2")`."""
    made: list[str] = []

    def add(*words: str) -> dict[str, Any]:
        answer = aws.cli("fault", "add", *words)["faults"][-1]
        made.append(answer["id"])
        return dict(answer)

    yield add
    for fault_id in made:
        aws.cli("fault", "clear", fault_id)
