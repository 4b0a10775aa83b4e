"""The licence page lists every locked package, and our wheels contain our licence."""

from email.message import Message
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from infra_bootstrap.artifacts.own_wheels import build_wheel
from laptop.licences import PAGE, UNKNOWN, licence_of, locked_packages, render_page

ROOT = Path(__file__).resolve().parents[2]


def test_every_locked_package_is_listed() -> None:
    """The page lists every locked package; run `python -m laptop licences` after `make lock`."""
    assert render_page({}) == PAGE.read_text()
    assert {"torch", "onnx", "apache-airflow", "ministack", "checkov"} <= set(locked_packages())


@pytest.mark.parametrize("lock", ["trainer", "evaluator"])
def test_what_is_uploaded_to_an_aws_account_has_a_licence(lock: str) -> None:
    """Every uploaded package has a licence, apart from those for other platforms or versions."""
    wanted = (ROOT / "locks" / f"{lock}.txt").read_text().splitlines()
    always = {line.split("==")[0] for line in wanted if line[:1].isalpha() and ";" not in line}
    rows = PAGE.read_text().splitlines()
    assert len(always) > 10
    assert [row for row in rows if UNKNOWN in row and row.split("|")[1].strip() in always] == []


class FakeDistribution:
    """A package that has only metadata."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self.metadata = Message()
        for name, value in headers:
            self.metadata[name] = value


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ([("License-Expression", "MIT"), ("License", "BSD")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: MIT License")], "MIT License"),
        ([("License", "Apache 2.0\n\nlong text")], "Apache 2.0"),
        ([("License", "UNKNOWN")], "its metadata names none"),
        ([], "its metadata names none"),
    ],
)
def test_a_licence_is_what_the_metadata_says(headers: list[tuple[str, str]], licence: str) -> None:
    """The licence expression comes first, then the classifiers, then the free text."""
    package: Any = FakeDistribution(*headers)
    assert licence_of(package) == licence


def test_the_page_says_what_the_installed_packages_say() -> None:
    """The page agrees with the licences of the installed packages."""
    installed = {one.name.lower(): licence_of(one) for one in distributions()}
    for name in ("onnx", "gymnasium", "pydantic"):
        assert f"| {name} | {installed[name]} |" in PAGE.read_text()


@pytest.mark.parametrize("room", ["lifecycle", "trainer", "evaluator"])
def test_our_wheels_carry_the_licence_and_the_notice(room: str) -> None:
    """Our wheels contain LICENSE and NOTICE, which rl_zoo3's licence requires in every copy."""
    with ZipFile(BytesIO(build_wheel(ROOT / room).data)) as wheel:
        texts = {name.partition("dist-info/")[2]: wheel.read(name) for name in wheel.namelist()}
    for name in ("LICENSE", "NOTICE"):
        assert texts[f"licenses/{name}"] == (ROOT / name).read_bytes()
    assert b"License-Expression: Apache-2.0\n" in texts["METADATA"]
    assert b"License-File: NOTICE\n" in texts["METADATA"]
    assert b"Antonin RAFFIN" in texts["licenses/NOTICE"]
