"""The pointer moves only to a complete version, from the compared champion, and is recorded."""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.errors import (
    CorruptArtifactError,
    InvalidRecordError,
    LifecycleError,
    MissingObjectError,
)
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.gate import decide_unchanged
from rl_lifecycle.evaluation.policies import PolicyMetadata, PolicyRecord, SpaceForm
from rl_lifecycle.evaluation.verdicts import Decision, Verdict, gate_of
from rl_lifecycle.experiment.evaluation_settings import Evaluation, Scenario
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.experiment.wrappers import WrapperForm, wrappers_of
from rl_lifecycle.records.record import Record, canonical_json, sha256_hex
from rl_lifecycle.registry.contents import (
    Move,
    find_champion,
    find_pointer_mark,
    freeze_champion,
    get_manifest,
    list_versions,
    read_history,
)
from rl_lifecycle.registry.model_cards import render_model_card
from rl_lifecycle.registry.promotion import Promotion, PromotionOutcome, promote, roll_back
from rl_lifecycle.registry.versions import ImportRecord, VersionSource
from rl_lifecycle.reports.run_summary import latest_spec
from rl_lifecycle.storage import layout
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.checkpoints import CheckpointManifest
from tests.lifecycle.conftest import NIGHT

SPACE = SpaceForm(kind="Discrete", n=2)


def _put(store: ObjectStore, key: str, value: bytes | Record) -> Artifact:
    data = value if isinstance(value, bytes) else value.to_json()
    store.put(key, data)
    return Artifact(key=key, sha256=sha256_hex(data))


def _train(store: ObjectStore, spec: Spec, digest: str) -> PolicyRecord:
    """Store what a finished trial stores."""
    store.put(layout.spec_key(spec.experiment.name, spec.run), spec.to_json())
    trial = spec.trial_id("seed-0")
    manifest = CheckpointManifest(
        step=100,
        segment=1,
        attempt=1,
        spec_sha256=spec.sha256,
        trial_seed=spec.trials[0].seed,
        numeric_class={"cpu": "any"},
        digest=digest,
        files={},
    )
    metadata = PolicyMetadata(
        algo="ppo",
        env_id="CartPole-v1",
        observation_space=SPACE,
        action_space=SPACE,
        digest=digest,
        versions={},
        equality={},
    )
    return PolicyRecord(
        experiment=trial.experiment,
        run=trial.run,
        trial=trial.trial,
        attempt=1,
        step=100,
        final=True,
        spec_sha256=spec.sha256,
        digest=digest,
        metadata=metadata,
        policy=_put(store, layout.policy_key(trial, 100, "onnx"), b"onnx " + digest.encode()),
        parameters=_put(
            store, layout.policy_key(trial, 100, "safetensors"), b"parameters " + digest.encode()
        ),
        manifest=_put(store, layout.checkpoint_key(trial, 100, 1, "manifest.json"), manifest),
    )


class Night:
    """One retraining as the registry sees it."""

    def __init__(
        self, store: ObjectStore, experiment: Experiment, run: str, new_nonce: Callable[[], str]
    ) -> None:
        self.store, self.new_nonce = store, new_nonce
        self.spec = freeze_spec(
            experiment, run_id=run, created_at=NIGHT, champion=freeze_champion(store, experiment)
        )
        self.record: VersionSource = _train(store, self.spec, f"digest of {run}")
        self.report = self.reported(Decision.PROMOTE)

    def reported(self, decision: Decision, policy_sha256: str | None = None) -> Artifact:
        verdict = Verdict(decision=decision, reason="", n_pairs=0, alpha_spent=0.0, looks=())
        report = Report(
            experiment=self.spec.experiment.name,
            run=self.spec.run,
            spec_sha256=self.spec.sha256,
            gate=gate_of(self.spec.experiment),
            verdict=verdict,
            first_seed=0,
            candidate_sha256=policy_sha256 or self.record.policy.sha256,
            candidate_digest=self.record.digest,
            champion_sha256=None,
            champion_digest=None,
        )
        return _put(
            self.store, layout.report_key(self.spec.experiment.name, self.spec.run, "gate"), report
        )

    def deliver(self, digest: str) -> None:
        """Make the candidate a policy of that digest."""
        metadata = self.record.metadata.model_copy(update={"digest": digest})
        self.record = self.record.model_copy(update={"digest": digest, "metadata": metadata})

    def promote(self, store: ObjectStore | None = None, minutes: int = 0) -> Promotion:
        return promote(
            store or self.store,
            self.spec,
            self.record,
            self.report,
            who="airflow",
            why="better",
            now=NIGHT + timedelta(minutes=minutes),
            new_nonce=self.new_nonce,
        )


@pytest.fixture
def night(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> Callable[[str], Night]:
    """Return a function that makes nights on one store."""
    return lambda run: Night(store, experiment, run, new_nonce)


def test_a_first_candidate_becomes_champion(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """Version 1 is complete, the pointer names it, and the history says who, when and why."""
    done = night("n1").promote()
    assert (done.outcome, done.version) == (PromotionOutcome.PROMOTED, 1)
    assert done.uri == f"{store.uri}/registry/cartpole_ppo/versions/000001"
    entry = read_history(store, "cartpole_ppo")[0]
    assert (entry.move, entry.from_version, entry.to_version) == (Move.PROMOTED, None, 1)
    assert (entry.who, entry.why) == ("airflow", "better")


def test_a_second_night_supersedes_only_what_it_was_compared_with(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """Of two candidates against one champion, the later to be promoted is SUPERSEDED."""
    night("n1").promote()
    one, other = night("n2"), night("n3")
    assert one.promote().outcome is PromotionOutcome.PROMOTED
    assert other.promote(minutes=600).outcome is PromotionOutcome.SUPERSEDED
    champion = find_champion(store, "cartpole_ppo")
    assert champion is not None
    assert champion[0].digest == "digest of n2"


def test_promoting_again_changes_nothing(night: Callable[[str], Night], store: ObjectStore) -> None:
    """A repeated promotion finds its own result."""
    first = night("n1")
    assert [first.promote(minutes=minutes).version for minutes in (0, 5)] == [1, 1]
    assert len(read_history(store, "cartpole_ppo")) == 1
    assert len(list_versions(store, "cartpole_ppo")) == 1


class KilledError(BaseException):
    """Ends the process at this write."""


class FakeDyingStore:
    """A store that dies right before its n-th write."""

    def __init__(self, store: ObjectStore, writes_before_death: int) -> None:
        self._store, self._left = store, writes_before_death

    def put(self, key: str, data: bytes, **condition: Any) -> str:
        if self._left == 0:
            raise KilledError
        self._left -= 1
        return self._store.put(key, data, **condition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("writes", range(9))  # claim, five files, manifest, pointer, entry
@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_crash_between_any_two_writes_leaves_a_whole_champion_and_a_retry_ends_it(
    night: Callable[[str], Night], store: DirectoryStore, writes: int
) -> None:
    """After each write the champion is complete, and the retry gives one version and one entry."""
    night("n1").promote()
    second = night("n2")
    with pytest.raises(KilledError):
        second.promote(FakeDyingStore(store, writes))
    champion = freeze_champion(store, second.spec.experiment)
    assert champion is not None
    assert champion.version == (2 if writes == 8 else 1)
    assert second.promote(minutes=30).outcome is PromotionOutcome.PROMOTED
    assert [entry.to_version for entry in read_history(store, "cartpole_ppo")] == [1, 2]
    assert [one.version for one in list_versions(store, "cartpole_ppo")] == [1, 2]


def test_a_candidate_whose_files_changed_is_refused_and_the_champion_stays(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A candidate whose bytes differ from the judged bytes is refused."""
    night("n1").promote()
    second = night("n2")
    store.put(second.record.policy.key, b"another policy")
    with pytest.raises(CorruptArtifactError):
        second.promote()
    champion = find_champion(store, "cartpole_ppo")
    assert champion is not None
    assert champion[0].version == 1


@pytest.mark.parametrize("decision", [Decision.KEEP, Decision.INCONCLUSIVE, Decision.UNCHANGED])
def test_only_a_report_that_says_promote_promotes(
    night: Callable[[str], Night], decision: Decision
) -> None:
    """Without a report that says PROMOTE, the pointer does not move."""
    one = night("n1")
    one.report = one.reported(decision)
    with pytest.raises(InvalidRecordError, match=f"says {decision}"):
        one.promote()


def test_a_report_of_another_candidate_promotes_nothing(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A report about another candidate promotes nothing."""
    one = night("n1")
    one.report = one.reported(Decision.PROMOTE, policy_sha256="0" * 64)
    with pytest.raises(InvalidRecordError, match="another candidate"):
        one.promote()
    assert find_champion(store, "cartpole_ppo") is None


def test_a_rollback_is_a_move_with_a_reason_and_the_bad_policy_does_not_come_back(
    night: Callable[[str], Night], store: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """A later night that delivers the rolled-back digest gets REFUSED."""
    night("n1").promote()
    bad = night("n2")
    bad.promote()
    done = roll_back(
        store, "cartpole_ppo", 1, who="ada", why="it shakes", now=NIGHT, new_nonce=new_nonce
    )
    assert (done.outcome, done.version) == (PromotionOutcome.PROMOTED, 1)
    assert [(entry.move, entry.to_version) for entry in read_history(store, "cartpole_ppo")] == [
        (Move.PROMOTED, 1),
        (Move.PROMOTED, 2),
        (Move.ROLLED_BACK, 1),
    ]
    again = night("n3")
    again.deliver(bad.record.digest)
    assert again.promote().outcome is PromotionOutcome.REFUSED


def test_of_many_rollbacks_at_once_one_moves(
    tmp_path: Path, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """Of many concurrent rollbacks, one moves the pointer and adds a history entry."""
    store = DirectoryStore(tmp_path)
    for run in ("n1", "n2", "n3"):
        Night(store, experiment, run, new_nonce).promote()
    mark, together = find_pointer_mark(store, "cartpole_ppo"), threading.Barrier(6)

    def move(number: int) -> PromotionOutcome:
        together.wait()
        return roll_back(
            store,
            "cartpole_ppo",
            1 + number % 2,
            who="ada",
            why="it shakes",
            now=NIGHT,
            new_nonce=lambda: f"rollback {number}",
            pointer_mark=mark,
        ).outcome

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(move, range(6)))
    assert sorted(outcomes) == ["PROMOTED"] + ["SUPERSEDED"] * 5
    history, champion = read_history(store, "cartpole_ppo"), find_champion(store, "cartpole_ppo")
    assert [entry.sequence for entry in history] == [1, 2, 3, 4]
    assert champion is not None
    assert champion[0].version == history[-1].to_version


def test_a_version_whose_manifest_an_older_release_wrote_can_be_put_back(
    night: Callable[[str], Night], store: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """A manifest without a newer key still names complete bytes and can be restored."""
    night("n1").promote()
    night("n2").promote()
    key = layout.version_prefix("cartpole_ppo", 1) + "manifest.json"
    older = json.loads(get(store, key).data)
    del older["cost_usd"]
    store.put(key, canonical_json(older))
    roll_back(
        store, "cartpole_ppo", 1, who="ada", why="it was better", now=NIGHT, new_nonce=new_nonce
    )
    assert night("n3").promote().outcome is PromotionOutcome.PROMOTED


@pytest.mark.parametrize(
    ("version", "why", "message"),
    [(1, "why not", "in service already"), (2, "  ", "needs a reason")],
)
def test_a_rollback_that_makes_no_sense_is_refused(
    night: Callable[[str], Night],
    store: ObjectStore,
    new_nonce: Callable[[], str],
    version: int,
    why: str,
    message: str,
) -> None:
    """A rollback to the current version, or without a reason, is refused."""
    night("n1").promote()
    with pytest.raises(InvalidRecordError, match=message):
        roll_back(
            store, "cartpole_ppo", version, who="ada", why=why, now=NIGHT, new_nonce=new_nonce
        )


def test_a_rollback_to_a_version_that_is_not_whole_is_refused(
    night: Callable[[str], Night], store: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """The pointer never names an incomplete version."""
    night("n1").promote()
    night("n2").promote()
    store.delete(layout.version_prefix("cartpole_ppo", 1) + "policy.onnx")
    with pytest.raises(MissingObjectError):
        roll_back(store, "cartpole_ppo", 1, who="ada", why="better", now=NIGHT, new_nonce=new_nonce)


def test_an_edited_pointer_stops_promotions_until_a_rollback(
    night: Callable[[str], Night], store: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """An edited pointer stops a promotion and the next night; a rollback repairs it."""
    for run in ("n1", "n2"):
        night(run).promote()
    third = night("n3")
    key = layout.champion_key("cartpole_ppo")
    edited = json.loads(get(store, key).data)
    store.put(key, canonical_json(edited | {"digest": "another"}))
    for refused in (third.promote, lambda: night("n4")):
        with pytest.raises(
            InvalidRecordError,
            match="it was edited; put a version back with the DAG rollback_policy",
        ):
            refused()
    roll_back(
        store,
        "cartpole_ppo",
        1,
        who="ada",
        why="the pointer was edited",
        now=NIGHT,
        new_nonce=new_nonce,
    )
    assert night("n5").promote().outcome is PromotionOutcome.PROMOTED


def test_a_champion_with_missing_files_stops_the_night(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A champion with missing files stops the night, and the pointer stays."""
    night("n1").promote()
    store.delete(layout.version_prefix("cartpole_ppo", 1) + "manifest.json")
    with pytest.raises(MissingObjectError, match=r"versions/000001/manifest.json does not exist"):
        night("n2")
    assert find_champion(store, "cartpole_ppo") is not None


def test_a_version_has_a_model_card(night: Callable[[str], Night], store: ObjectStore) -> None:
    """The card has task, training, evaluation and limits, and the manifest has its digest."""
    night("n1").promote()
    manifest = get_manifest(store, "cartpole_ppo", 1)
    card = get(
        store,
        layout.version_prefix("cartpole_ppo", 1) + "model_card.md",
        manifest.files["model_card.md"],
    ).data.decode()
    for part in (
        "# cartpole_ppo, version 1",
        "ppo on CartPole-v1",
        "Discrete 2",
        "## How it was judged",
        "PROMOTE",
        "## Limits",
        "crashes",
        "rl_trainer replay --manifest",
        "`digest of n1`",
        "100,000 steps",
        "cpu any",
    ):
        assert part.lower() in card.lower(), part


@pytest.mark.parametrize(
    ("champion", "message"),
    [
        (None, "an absolute bar only. The scenarios (windy) were not played"),
        ("c" * 64, "crashes were guarded: windy"),
    ],
)
def test_a_card_claims_no_guard_that_was_not_asked(
    night: Callable[[str], Night], champion: str | None, message: str
) -> None:
    """A first champion is evaluated in its own environment only, and its card says so."""
    one = night("n1")
    windy = Evaluation(return_range=(0, 500), crash_below=100, scenarios={"windy": Scenario()})
    spec = one.spec.model_copy(
        update={"experiment": one.spec.experiment.model_copy(update={"evaluation": windy})}
    )
    report = Report.from_json(get(one.store, one.report.key).data).model_copy(
        update={"champion_sha256": champion}
    )
    card = render_model_card(
        spec, report, one.record.metadata, version=1, origin="", numeric_class={}, rebuild=""
    )
    assert message in card


@pytest.mark.parametrize(("named", "outcome"), [(False, "than the spec of its run"), (True, "")])
def test_a_policy_with_other_wrappers_than_its_run_is_not_promoted(
    night: Callable[[str], Night],
    experiment: Experiment,
    store: ObjectStore,
    named: bool,
    outcome: str,
) -> None:
    """The wrappers were frozen before the training, and the card names them."""
    one = night("n1")
    wrapper = WrapperForm(name="gymnasium.wrappers.RescaleObservation", kwargs={"min_obs": 0})
    metadata = one.record.metadata.model_copy(update={"wrappers": (wrapper,)})
    one.record = one.record.model_copy(update={"metadata": metadata})
    hyperparameters = {"env_wrapper": {wrapper.name: wrapper.kwargs}} if named else {}
    spec = one.spec.model_copy(update={"hyperparameters": hyperparameters})
    card = render_model_card(
        spec,
        Report.from_json(get(store, one.report.key).data),
        metadata,
        version=1,
        origin="",
        numeric_class={},
        rebuild="",
    )
    assert (
        "`gymnasium.wrappers.RescaleObservation` with `{'min_obs': 0}` around the environment"
        in card
    )
    assert wrappers_of(hyperparameters) == ((wrapper,) if named else ())
    if not named:
        with pytest.raises(InvalidRecordError, match=outcome):
            one.promote()


def test_a_manifest_keeps_the_digests_of_the_first_segments(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """Policies expire, but the manifest keeps the digests that a partial replay compares."""
    one = night("n1")
    early = one.record.model_copy(update={"step": 50, "digest": "early", "final": False})
    later = one.record.model_copy(update={"step": 150, "digest": "later"})
    for record in (early, one.record, later):
        store.put(
            layout.policy_key(one.spec.trial_id("seed-0"), record.step, "json"), record.to_json()
        )
    one.promote()
    assert get_manifest(store, "cartpole_ppo", 1).digests == {"50": "early", "100": "digest of n1"}


def imported(night: Night) -> ImportRecord:
    """Make a night's candidate look trained elsewhere."""
    record = night.record
    return ImportRecord(
        experiment=record.experiment,
        run=record.run,
        spec_sha256=record.spec_sha256,
        digest=record.digest,
        policy=record.policy,
        parameters=record.parameters,
        origin="trained on a laptop by Ada",
        metadata=record.metadata,
    )


def test_an_import_that_the_gate_promotes_is_a_version_like_any_other(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """Manifest, history and card name the import, and the next night is compared with it."""
    first = night("n1")
    first.record = imported(first)
    assert first.promote().outcome is PromotionOutcome.PROMOTED
    assert first.promote().version == 1
    manifest = get_manifest(store, "cartpole_ppo", 1)
    assert (manifest.kind, manifest.origin, manifest.trial_seed) == (
        "imported",
        "trained on a laptop by Ada",
        None,
    )
    assert [entry.move for entry in read_history(store, "cartpole_ppo")] == [Move.IMPORTED]
    store.put(layout.import_key("cartpole_ppo", first.spec.run), first.record.to_json())
    assert latest_spec(store, "cartpole_ppo") == first.spec
    assert (
        b"trained on a laptop by Ada"
        in get(store, layout.version_prefix("cartpole_ppo", 1) + "model_card.md").data
    )
    second = night("n2")
    assert second.spec.champion is not None
    assert second.spec.champion.digest == "digest of n1"
    assert second.promote().version == 2


def test_an_import_needs_a_promote_as_well(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """An import without a PROMOTE is not promoted."""
    first = night("n1")
    first.record, first.report = imported(first), first.reported(Decision.KEEP)
    with pytest.raises(InvalidRecordError, match="says KEEP"):
        first.promote()
    assert find_champion(store, "cartpole_ppo") is None


def test_a_changed_history_entry_is_noticed(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A changed entry breaks the chain of the history."""
    night("n1").promote()
    second = night("n2")
    store.put(layout.history_key("cartpole_ppo", 1), b"{}")
    with pytest.raises(
        LifecycleError, match="differs from the entry in the pointer: it was edited"
    ):
        second.promote()


def test_another_return_range_or_environment_begins_a_new_lineage(
    night: Callable[[str], Night], store: ObjectStore, experiment: Experiment
) -> None:
    """A champion of another range or environment is not compared."""
    night("n1").promote()
    same = freeze_champion(store, experiment)
    other = freeze_champion(store, experiment.model_copy(update={"env_id": "Acrobot-v1"}))
    assert same is not None
    assert same.new_lineage == ""
    assert other is not None
    assert "CartPole-v1" in other.new_lineage


def test_a_person_may_leave_the_champion_out(
    night: Callable[[str], Night], store: ObjectStore, experiment: Experiment
) -> None:
    """A champion that can no longer be played must not block its successors for ever."""
    night("n1").promote()
    asked = freeze_champion(store, experiment, new_lineage="ada asked for it")
    assert asked is not None
    assert asked.new_lineage == "ada asked for it"
    assert decide_unchanged(asked.digest, asked) is None


def test_no_expiring_rule_covers_what_a_version_rests_on(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """No lifecycle rule deletes a version's files, its report or its spec's wheels."""
    template = (
        Path(__file__).resolve().parents[3] / "infra_bootstrap/templates/storage.yaml"
    ).read_text()
    expiring = re.findall(r"Prefix: (\S+)\n\s+ExpirationInDays", template)
    assert {"checkpoints/", "policies/"} <= set(expiring)
    wheels = Artifact(key="artifacts/a/wheels.json", sha256="a")
    one = night("n1")
    one.promote()
    entry = read_history(store, "cartpole_ppo")[0]
    assert entry.report is not None
    prefix = layout.version_prefix("cartpole_ppo", entry.to_version)
    named = [
        entry.report.key,
        wheels.key,
        layout.spec_key("cartpole_ppo", one.spec.run),
        layout.champion_key("cartpole_ppo"),
        layout.history_key("cartpole_ppo", 1),
        *(prefix + name for name in get_manifest(store, "cartpole_ppo", 1).files),
    ]
    assert not [key for key in named if key.startswith(tuple(expiring))]


@pytest.mark.parametrize("name", ["policy", "parameters", "manifest"])
def test_a_record_that_names_files_of_another_trial_promotes_nothing(
    night: Callable[[str], Night], store: ObjectStore, name: str
) -> None:
    """A trainer writes the record, and the promoter may read more than the trainer."""
    foreign = f"policies/other/night-9/seed-0/000000000100.{name}"
    store.put(foreign, b"of another experiment")
    one = night("n1")
    artifact = Artifact(key=foreign, sha256=sha256_hex(b"of another experiment"))
    one.record = one.record.model_copy(update={name: artifact})
    one.report = one.reported(Decision.PROMOTE)
    with pytest.raises(InvalidRecordError, match=f"the record names {foreign}"):
        one.promote()
    assert find_champion(store, "cartpole_ppo") is None


def test_a_report_that_the_judge_did_not_write_promotes_nothing(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A trainer could write the bytes of a report among its own keys."""
    one = night("n1")
    data = get(store, one.report.key).data
    for key in (
        "checkpoints/cartpole_ppo/n1/seed-0/report.json",
        "evaluations/cartpole_ppo/n1/gate/shards/0000.json",
        "verdicts/cartpole_ppo/n2/gate.json",
    ):
        store.put(key, data)
        one.report = Artifact(key=key, sha256=sha256_hex(data))
        with pytest.raises(InvalidRecordError, match="is not where the judge writes"):
            one.promote()
    former = "evaluations/cartpole_ppo/n1/gate/report.json"
    store.put(former, data)
    one.report = Artifact(key=former, sha256=sha256_hex(data))
    assert one.promote().outcome is PromotionOutcome.PROMOTED
