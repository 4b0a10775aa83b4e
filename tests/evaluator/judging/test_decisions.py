"""The evaluator decides once, from stored shards only."""

import math
import random
from typing import Any

import pytest

from rl_evaluator.errors import InvalidRequestError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.experiment.spec import Artifact, Champion, EvaluatorVersion, Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import (
    former_report_key,
    report_key,
    report_page_key,
    shard_key,
    spec_key,
)
from rl_lifecycle.storage.object_store import get
from tests.evaluator.one_process import answer
from tests.evaluator.stored_runs import store_shard, store_spec

CHAMPION = Champion(
    version=1,
    etag="e",
    digest="c" * 64,
    policy=Artifact(key="k", sha256="c" * 64),
    parameters=Artifact(key="p", sha256="0" * 64),
)


def ask(
    store: DirectoryStore, spec: Artifact, champion: str | None = "gate-champion", **changes: Any
) -> dict[str, Any]:
    """Send a judge request as the pipeline does."""
    event = {
        "action": "decide",
        "experiment": "cartpole",
        "run": "night-1",
        "candidate": "gate-candidate",
        "champion": champion,
        "spec": spec.model_dump(),
        **changes,
    }
    return answer(event, store, lambda: math.inf)


def put_returns(
    store: DirectoryStore,
    spec: Spec,
    n: int,
    candidate: float,
    champion: float,
    first: int = 0,
    shard: int = 0,
) -> None:
    """Store shards of candidate and champion with a little noise."""
    rng = random.Random(first)
    for name, mean, sha256 in (
        ("gate-candidate", candidate, "a" * 64),
        ("gate-champion", champion, "c" * 64),
    ):
        store_shard(
            store,
            spec,
            name,
            [mean + rng.uniform(-20, 20) for _ in range(n)],
            sha256=sha256,
            first=first,
            shard=shard,
        )


def test_a_better_candidate_is_promoted_and_the_report_is_written(store: DirectoryStore) -> None:
    """The answer has the verdict, the report's key and digest; the report lists its evidence."""
    spec, artifact = store_spec(store, CHAMPION, gate={"crash_margin": 0.2})
    put_returns(store, spec, 80, 450, 200)
    result = ask(store, artifact)
    assert result["decision"] == "PROMOTE"
    assert result["report_key"] == report_key("cartpole", "night-1", "gate-candidate")
    stored = get(store, result["report_key"])
    assert result["report_sha256"] == sha256_hex(stored.data)
    report = Report.from_json(stored.data)
    assert (report.candidate_sha256, report.champion_sha256) == ("a" * 64, "c" * 64)
    assert report.spec_sha256 == artifact.sha256
    assert report.verdict.decision == "PROMOTE"
    assert report.statistics is not None
    assert report.statistics.lower_bound > 0
    assert store.find(report_page_key("cartpole", "night-1", "gate-candidate")) is None


@pytest.mark.parametrize("other", ["gate-candidate", "gate-champion"])
def test_episodes_of_another_evaluator_than_the_frozen_one_are_refused(
    store: DirectoryStore, other: str
) -> None:
    """Both policies played by the same wrong version are refused, too."""
    unfrozen, _ = store_spec(store, CHAMPION)
    frozen = EvaluatorVersion(function="f:1", player="p:1", judge="j:1", label="code 1")
    spec = unfrozen.model_copy(update={"evaluator": frozen})
    artifact = Artifact(key=spec_key("cartpole", spec.run), sha256=spec.sha256)
    store.put(artifact.key, spec.to_json())
    for name, sha256 in (("gate-candidate", "a" * 64), ("gate-champion", "c" * 64)):
        versions = {"evaluator": "code 2" if name == other else "code 1"}
        store_shard(store, spec, name, [400.0] * 10, sha256=sha256, versions=versions)
    with pytest.raises(InvalidRequestError, match=f"{other}.*code 2.*run froze .code 1"):
        ask(store, artifact)
    for name, sha256 in (("gate-candidate", "a" * 64), ("gate-champion", "c" * 64)):
        versions = {"evaluator": "code 1"}
        store_shard(store, spec, name, [400.0] * 10, sha256=sha256, versions=versions)
    assert ask(store, artifact)["decision"] in ("CONTINUE", "KEEP", "INCONCLUSIVE")


def test_an_undecided_look_writes_no_report(store: DirectoryStore) -> None:
    """CONTINUE names the pairs of the next look and writes no report."""
    spec, artifact = store_spec(store, CHAMPION, gate={"crash_margin": 0.2})
    store_shard(store, spec, "gate-candidate", [500.0, 120.0] * 6)
    store_shard(store, spec, "gate-champion", [110.0, 450.0] * 6, sha256="c" * 64)
    result = ask(store, artifact)
    assert (result["decision"], result["next_look"], result["report_key"]) == ("CONTINUE", 20, None)
    assert store.find(report_key("cartpole", "night-1", "gate-candidate")) is None


def test_a_reported_decision_is_final(store: DirectoryStore) -> None:
    """Shards that arrive after a decision do not change it."""
    spec, artifact = store_spec(store, CHAMPION)
    put_returns(store, spec, 10, 30, 470)
    first = ask(store, artifact)
    assert first["decision"] == "KEEP"
    put_returns(store, spec, 70, 480, 10, first=10, shard=1)
    assert ask(store, artifact) == first


def test_shards_are_joined_in_any_order(store: DirectoryStore) -> None:
    """Shards join in the order of their seeds, not of their numbers."""
    spec, artifact = store_spec(store, CHAMPION, gate={"crash_margin": 0.2})
    put_returns(store, spec, 40, 450, 200, first=40, shard=0)
    put_returns(store, spec, 40, 450, 200, first=0, shard=7)
    assert ask(store, artifact)["decision"] == "PROMOTE"


def test_a_first_champion_must_clear_the_bar(store: DirectoryStore) -> None:
    """Without a champion, a candidate is compared with the absolute bar."""
    spec, artifact = store_spec(store, evaluation={"first_champion_above": 300})
    store_shard(store, spec, "gate-candidate", [450.0] * 80)
    assert ask(store, artifact, champion=None)["decision"] == "PROMOTE"


def test_a_first_champion_below_the_bar_is_not_promoted(store: DirectoryStore) -> None:
    """A candidate clearly below the bar is refused, and there is still no champion."""
    spec, artifact = store_spec(store, evaluation={"first_champion_above": 300})
    store_shard(store, spec, "gate-candidate", [100.0 + i for i in range(80)])
    assert ask(store, artifact, champion=None)["decision"] == "KEEP"


def test_a_new_lineage_is_judged_by_the_bar(store: DirectoryStore) -> None:
    """A champion of another environment is not compared; the absolute bar decides."""
    spec, artifact = store_spec(
        store, CHAMPION.model_copy(update={"new_lineage": "another environment"})
    )
    store_shard(store, spec, "gate-candidate", [450.0] * 80)
    assert ask(store, artifact, champion=None)["decision"] == "PROMOTE"


def test_nothing_evaluated_yet_asks_for_the_first_look(store: DirectoryStore) -> None:
    """The first call may come before any shard and asks for the first look."""
    _, artifact = store_spec(store)
    assert (
        ask(store, artifact, champion=None)["decision"],
        ask(store, artifact, champion=None)["next_look"],
    ) == ("CONTINUE", 10)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda *to: store_shard(*to, "gate-champion", [1.0] * 80, sha256="b" * 64),
            r"another policy \(b{12}\) than the champion that the run froze \(c{12}\)",
        ),
        (lambda *to: store_shard(*to, "gate-candidate", [1.0] * 80, first=1), "begins at seed"),
        (
            lambda *to: store_shard(*to, "gate-candidate", [1.0] * 80, env_id="Acrobot-v1"),
            "another environment",
        ),
        (
            lambda *to: store_shard(*to, "gate-candidate", [1.0] * 9, first=81, shard=1),
            "is missing",
        ),
        (
            lambda *to: store_shard(*to, "gate-candidate", [1.0] * 9, first=79, shard=1),
            "does not repeat itself",
        ),
        (
            lambda *to: store_shard(
                *to, "gate-candidate", [1.0] * 9, first=80, shard=1, sha256="f" * 64
            ),
            "not of one policy",
        ),
    ],
    ids=["another champion", "other seeds", "other environment", "gap", "overlap", "two policies"],
)
def test_shards_that_are_not_the_runs_are_refused(
    store: DirectoryStore, break_it: Any, message: str
) -> None:
    """Shards of other policies, environments or seeds are refused, and the champion stays."""
    spec, artifact = store_spec(store, CHAMPION)
    put_returns(store, spec, 80, 450, 200)
    break_it(store, spec)
    with pytest.raises(InvalidRequestError, match=message):
        ask(store, artifact)


def test_a_frozen_champion_cannot_be_left_out(store: DirectoryStore) -> None:
    """A request must name the frozen champion, because the absolute bar is easier to pass."""
    spec, artifact = store_spec(store, CHAMPION)
    put_returns(store, spec, 80, 450, 480)
    with pytest.raises(InvalidRequestError, match="the run froze a champion"):
        ask(store, artifact, champion=None)


def test_a_spec_of_another_run_is_refused(store: DirectoryStore) -> None:
    """A spec of another run is refused, because the gate and the seeds come from the spec."""
    _, artifact = store_spec(store)
    with pytest.raises(InvalidRequestError, match="is not the spec of cartpole/night-2"):
        ask(store, artifact, run="night-2")


def test_the_crash_guard_is_asked_in_every_scenario(store: DirectoryStore) -> None:
    """More crashes in one scenario prevent a promotion, and the answer names the scenario."""
    spec, artifact = store_spec(
        store,
        CHAMPION,
        gate={"crash_margin": 0.2},
        evaluation={"scenarios": {"windy": {"env_kwargs": {"sutton_barto_reward": True}}}},
    )
    put_returns(store, spec, 80, 450, 200)
    result = ask(store, artifact)
    assert (result["decision"], result["next_look"]) == ("CONTINUE", 10)
    kwargs = {"sutton_barto_reward": True}
    store_shard(store, spec, "gate-candidate--windy", [10.0] * 80, env_kwargs=kwargs)
    store_shard(
        store, spec, "gate-champion--windy", [300.0] * 80, env_kwargs=kwargs, sha256="c" * 64
    )
    result = ask(store, artifact)
    assert result["decision"] == "KEEP"
    assert "crashes more often in windy (" in result["reason"]


def test_a_scenario_of_another_policy_is_refused(store: DirectoryStore) -> None:
    """Scenario shards must belong to the two policies that are compared."""
    spec, artifact = store_spec(store, CHAMPION, evaluation={"scenarios": {"same": {}}})
    put_returns(store, spec, 80, 450, 200)
    for name in ("gate-candidate--same", "gate-champion--same"):
        store_shard(store, spec, name, [300.0] * 80, sha256="e" * 64)
    with pytest.raises(
        InvalidRequestError, match="scenario same was evaluated with other policies"
    ):
        ask(store, artifact)


def test_a_report_of_an_older_version_stays_final(store: DirectoryStore) -> None:
    """A decision that was reported below evaluations/ is read there, and not made again."""
    spec, artifact = store_spec(store, CHAMPION, gate={"crash_margin": 0.2})
    put_returns(store, spec, 80, 450, 200)
    first = ask(store, artifact)
    old = former_report_key("cartpole", "night-1", "gate-candidate")
    store.put(old, get(store, first["report_key"]).data)
    store.delete(first["report_key"])
    again = ask(store, artifact)
    assert again == {**first, "report_key": old}
    assert store.find(first["report_key"]) is None


def test_episodes_of_different_evaluators_are_not_paired(store: DirectoryStore) -> None:
    """A champion that another version of the evaluator played is not compared."""
    spec, artifact = store_spec(store, CHAMPION)
    store_shard(store, spec, "gate-candidate", [450.0] * 80, versions={"evaluator": "code 2"})
    champion = {"sha256": "c" * 64, "versions": {"evaluator": "code 1"}}
    store_shard(store, spec, "gate-champion", [200.0] * 80, **champion)
    with pytest.raises(InvalidRequestError, match="are not paired; trigger a new run"):
        ask(store, artifact)


def test_a_foreign_shard_cannot_break_the_judge(store: DirectoryStore) -> None:
    """Bytes that are no shard end in one line that names the evaluation."""
    _, artifact = store_spec(store, CHAMPION)
    store.put(shard_key("cartpole", "night-1", "gate-candidate", 0), b"<script>")
    with pytest.raises(InvalidRequestError, match="gate-candidate/shards/: "):
        ask(store, artifact)
