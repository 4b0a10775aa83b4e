"""The trainer's lock has a wheel for each Python that a machine image may have."""

from __future__ import annotations

import json
import re

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from infra_bootstrap.artifacts.locks import LINUX, LOCKS, PYTHONS, Target, read_lock
from infra_bootstrap.artifacts.wheel_sets import IN_IMAGE, NOT_NEEDED
from infra_bootstrap.stacks.deep_learning_images import IMAGES

#: Which wheel was downloaded for each requirement, by Python; pip compared it with the lock.
RECORD: dict[str, dict[str, str]] = json.loads((LOCKS / "trainer-wheels.json").read_text())


def tags_of(python: str) -> set[Tag]:
    """Return the tags of the wheels that run with a Python on Linux x86_64."""
    version = tuple(int(part) for part in python.split("."))
    return {
        *cpython_tags(version, platforms=LINUX.pip),
        *compatible_tags(version, f"cp{python.replace('.', '')}", LINUX.pip),
    }


def test_the_record_has_every_python() -> None:
    """The record has each Python of the locks, and so each Python of the table of images."""
    assert set(RECORD) == set(PYTHONS)
    assert {row.python for row in IMAGES.values()} <= set(RECORD)


@pytest.mark.parametrize("python", PYTHONS)
def test_each_requirement_has_one_wheel_that_fits(python: str) -> None:
    """Each requirement has exactly one wheel: its digest is in the lock, and its tags fit.

    After a change of the lock: `.venv/bin/python -m laptop locked-wheels`.
    """
    text = read_lock("trainer", Target(python), without=IN_IMAGE | NOT_NEEDED).text
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    left = dict(RECORD[python])
    for entry in entries:
        name, version = re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)", entry).groups()  # type: ignore[union-attr]
        digests = set(re.findall(r"sha256:([0-9a-f]{64})", entry))
        (wheel,) = [file for file, sha256 in left.items() if sha256 in digests]
        del left[wheel]
        found_name, found_version, _, tags = parse_wheel_filename(wheel)
        assert (found_name, str(found_version)) == (canonicalize_name(name), version)
        assert tags & tags_of(python), wheel
    assert left == {}
