"""Prices are what they claim to be: approximate, from general knowledge, and said to be so wherever they are shown."""

from __future__ import annotations

import pytest

from infra_bootstrap import costs
from infra_bootstrap.stacks import Concern
from infra_bootstrap.template_files import resources_made
from tests.infra_bootstrap.accounts import ROOT

GUIDE = (ROOT / "docs/aws-account.md").read_text().split("## What it costs")[1].split("\n## ")[0]
COMMANDS = (ROOT / "infra_bootstrap/commands.py").read_text()


@pytest.mark.parametrize("text", [costs.__doc__ or "", GUIDE], ids=["costs.py", "docs/aws-account.md"])
def test_nobody_claims_to_have_read_a_price(text: str) -> None:
    """Where the prices come from is said, and that they are approximate."""
    words = " ".join(text.split())
    assert "approximate list prices of us-east-1, written down from general knowledge and not fetched from AWS" in words.replace(
        "Approximate", "approximate")
    assert "no quote" in words


def test_what_is_printed_says_approximate() -> None:
    """A plan's price and a first run's are both said to be approximate."""
    assert "approximate list prices of us-east-1" in COMMANDS
    assert "by an approximate price table" in COMMANDS
    assert "at list price" not in COMMANDS


@pytest.mark.parametrize(("parameter", "concern", "about"), [
    ("EnableNat", Concern.NETWORK, 37), ("EnableSessionManager", Concern.NETWORK, 22)])
def test_the_guide_says_what_the_sum_says(parameter: str, concern: Concern, about: int) -> None:
    """What a parameter costs a month in the guide is what the plan adds up."""
    off, on = (costs.monthly_usd(resources_made(concern, {parameter: value})) for value in ("false", "true"))
    assert abs(on - off - about) <= 0.5
    assert f"| `{parameter}=true` | about {about} USD a month |" in GUIDE
