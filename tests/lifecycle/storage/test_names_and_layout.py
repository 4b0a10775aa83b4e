"""Names are safe in keys, and one module spells every key."""

from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.records.names import is_slug, slug
from rl_lifecycle.storage import layout


@given(st.text())
def test_any_name_becomes_a_slug(name: str) -> None:
    """Any run id of Airflow gives a plain slug."""
    assert is_slug(slug(name))


@given(st.text(), st.text())
def test_different_names_give_different_slugs(one: str, other: str) -> None:
    """Different run ids give different slugs, so runs never share a folder."""
    assert (slug(one) == slug(other)) == (one == other)


def test_each_key_begins_with_a_class_that_has_a_writer() -> None:
    """Every key begins with a prefix of policies and lifecycle rules."""
    trial = layout.TrialId("e", "r", "t")
    keys = [
        layout.artifact_key("ab", "x.whl"),
        layout.spec_key("e", "r"),
        layout.attempt_key(trial, 1),
        layout.heartbeat_key(trial),
        layout.head_key(trial),
        layout.checkpoint_key(trial, 5, 1, "manifest.json"),
        layout.buffer_key(trial, "ab"),
        layout.policy_key(trial, 5, "onnx"),
        layout.log_prefix(trial, 1),
        layout.metrics_prefix(trial),
        layout.gang_key(trial, 1, 1),
        layout.shard_key("e", "r", "gate", 0),
        layout.report_key("e", "r", "gate"),
        layout.ledger_key("2026-11", "e", "r"),
        layout.version_prefix("e", 1),
        layout.champion_key("e"),
        layout.history_key("e", 1),
    ]
    assert {key.split("/")[0] + "/" for key in keys} == set(layout.WRITERS)
    assert not any(key.startswith("/") for key in keys)


def test_keys_sort_as_their_numbers_do() -> None:
    """A LIST returns steps, attempts, shards and versions in numeric order."""
    trial = layout.TrialId("e", "r", "t")
    assert layout.policy_key(trial, 9, "json") < layout.policy_key(trial, 10, "json")
    assert layout.attempt_key(trial, 9) < layout.attempt_key(trial, 10)
    assert layout.version_prefix("e", 9) < layout.version_prefix("e", 10)


def test_the_trial_is_read_back_out_of_a_key() -> None:
    """A key of an event gives back its trial."""
    trial = layout.TrialId("cartpole", "r1", "seed-0")
    assert layout.trial_of_key(layout.heartbeat_key(trial), layout.HEARTBEATS) == trial
    assert layout.trial_of_key(layout.policy_key(trial, 3, "json"), layout.POLICIES) == trial
