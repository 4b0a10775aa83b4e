"""A stage for trials on several machines."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.gangs.stage import Stage, Start


@pytest.fixture
def stage(tmp_path: Path, start_trainer: Start) -> Iterator[Stage]:
    """An empty stage."""
    with contextlib.closing(Stage(tmp_path, start_trainer)) as made:
        yield made
