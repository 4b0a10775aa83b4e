"""The first real account: refused without the exact words; with them one whole run, and nothing left."""

from __future__ import annotations

import json

import pytest

from infra_bootstrap.deployed import find_stack
from infra_bootstrap.smoke import CAP_USD, confirmation, highest_usd
from tests.infra_bootstrap.accounts import PYTHON, ROOT, Account


@pytest.mark.parametrize("confirm", [
    "", "yes", "spend up to 1.00 USD", "spend up to 1.00 USD in account 999999999999, region eu-west-1"])
def test_without_the_exact_words_nothing_is_made(account: Account, confirm: str) -> None:
    """Another account's words, or fewer, are refused; the message says what it costs and what to type."""
    done = account.cli("smoke", "--confirm", confirm)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'make aws-smoke CONFIRM="{confirmation(account.clients())}"' in done.stderr
    assert find_stack(account.clients(), "nightshift-smoke-identity") is None


def test_the_dearest_that_can_happen_is_below_the_cap() -> None:
    """The cap is a promise; what could be spent is added up before anything is made."""
    assert 0 < highest_usd() <= CAP_USD


def test_one_whole_run_leaves_nothing(account: Account) -> None:
    """Bootstrap, a real training, its policy's arrival judged by the real Lambda, destroy, proof."""
    done = account.cli("smoke", "--lambda-runtime", f"python{PYTHON}", "--confirm", confirmation(account.clients()), "--json",
                       NIGHTSHIFT_STATE=str(ROOT / ".nightshift"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["trained_steps"] == 40_960
    assert report["mean_return"] is not None
    assert report["destruction"]["leftovers"] == []
    assert len(report["destruction"]["deleted"]) == 6
