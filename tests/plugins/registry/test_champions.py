"""The tasks that move a champion ask for approval, check the policy, move and announce it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time.context import OutletEventAccessors

from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.registry import approval_operator, version_choice_operator
from rl_airflow.registry import champion_operators as operators
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.champion_asset import CHAMPIONS, champion_asset
from rl_airflow.registry.champion_operators import (
    S3PromoteCandidateOperator,
    S3RollBackChampionOperator,
)
from rl_airflow.registry.version_choice_operator import NONE_OF_THEM, AskForVersionOperator
from rl_airflow.run.notes import NOTE_KEY
from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry import promotion
from rl_lifecycle.registry.contents import find_champion, read_history
from rl_lifecycle.registry.promotion import rolled_back_digests
from rl_lifecycle.storage.layout import version_prefix
from tests.lifecycle.registry.test_promotion import Night
from tests.plugins.fake_lambda import FakeLambda
from tests.plugins.worlds import World


class FakeRun:
    """The parts of Airflow's dag run that the code reads."""

    run_id, triggering_user_name = "manual-1", "ada"

    def __init__(self, dag_id: str) -> None:
        self.dag_id = dag_id


class Service:
    """A world with a registry, an evaluator, and the tasks' contexts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World()
        self.aws = FakeLambda(self.world.store, lambda name, seed: 0.0)
        self.events = OutletEventAccessors()
        self.pushed: dict[str, Any] = {}
        self.nonces = iter(range(100))
        self.params: dict[str, Any] = {
            "experiment": "cartpole_ppo",
            "version": None,
            "reason": "it shakes",
            "environment": "dev",
            "region_name": None,
        }
        monkeypatch.setattr(type(self.world.plan), "store", lambda plan, session: self.world.store)
        monkeypatch.setattr(operators, "_evaluator", lambda session, function: self.aws.evaluator())
        monkeypatch.setattr(operators, "find_environment", lambda environment, region: _Place())
        monkeypatch.setattr(operators, "S3Store", lambda client, bucket: self.world.store)
        monkeypatch.setattr(operators.RoleSession, "client", lambda session, service: None)

    def context(self, dag_id: str = "retrain_cartpole_ppo") -> Any:
        """Build the context of a task."""
        return {
            "params": self.params,
            "dag_run": FakeRun(dag_id),
            "outlet_events": self.events,
            "ti": self,
        }

    def xcom_push(self, *, key: str, value: Any) -> None:
        """Keep what a task pushes."""
        self.pushed[key] = value

    def night(self, run: str) -> Night:
        """Make a night that ended with PROMOTE."""
        return Night(
            self.world.store, self.world.experiment, run, lambda: f"nonce-{next(self.nonces)}"
        )

    def promote(
        self, night: Night, *, approved: bool = True, decision: Decision = Decision.PROMOTE
    ) -> dict[str, Any]:
        """Run the promoting task of a night."""
        spec = night.spec.to_json()
        plan = self.world.plan.model_copy(
            update={
                "run": night.spec.run,
                "spec": Artifact(
                    key=f"specs/cartpole_ppo/{night.spec.run}/spec.json", sha256=sha256_hex(spec)
                ),
            }
        )
        record = night.record.to_json()
        key = f"policies/cartpole_ppo/{night.spec.run}/seed-0/000000000100.json"
        self.world.store.put(key, record)
        candidate = Candidate(
            trial="seed-0",
            step=100,
            digest=night.record.digest,
            policy=night.record.policy,
            record=Artifact(key=key, sha256=sha256_hex(record)),
            mean_return=1.0,
        )
        verdict = {
            "decision": decision.value,
            "reason": "better",
            "report": night.report.model_dump(),
        }
        return self.executed(
            S3PromoteCandidateOperator(
                task_id="promote",
                plan=plan.to_xcom(),
                candidate=candidate.model_dump(mode="json"),
                verdict=verdict,
                approval={"approved": approved, "by": "grace", "person": "grace"},
            ),
            self.context(),
        )

    def executed(self, task: Any, context: Any) -> dict[str, Any]:
        """Run a task, and keep its links."""
        try:
            return dict(task.execute(context))
        finally:
            self.links = {
                one.name: one.get_link(task, ti_key=None) for one in task.operator_extra_links
            }

    def roll_back(self, version: int | None, person: str | None = None) -> dict[str, Any]:
        """Run the rolling-back task."""
        return self.put_back({"version": version, "person": person})

    def put_back(self, choice: dict[str, Any], run_id: str = "manual-1") -> dict[str, Any]:
        """Run the rolling-back task with a chosen version."""
        context = self.context("rollback_policy")
        context["dag_run"].run_id = run_id
        task = S3RollBackChampionOperator(task_id="roll_back", choice=choice)
        return self.executed(task, context)

    def announced(self) -> list[dict[str, Any]]:
        """Return the asset events that Airflow got."""
        events = list(self.events[CHAMPIONS].asset_alias_events)
        assert {event.dest_asset_key.name for event in events} <= {"champion_cartpole_ppo"}
        return [event.extra for event in events]

    @property
    def version(self) -> int | None:
        """The version in service."""
        found = find_champion(self.world.store, "cartpole_ppo")
        return found[0].version if found else None


class _Place:
    bucket, evaluator, environment = "b", "evaluator:live", "dev"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """An empty registry."""
    return Service(monkeypatch)


def test_a_promotion_is_announced_with_version_and_digest(service: Service) -> None:
    """The asset event has version and digest, so a scheduled consumer knows what to load."""
    done = service.promote(service.night("n1"))
    assert (done["outcome"], done["version"]) == ("PROMOTED", 1)
    assert service.announced() == [
        {
            "experiment": "cartpole_ppo",
            "environment": "dev",
            "move": "promoted",
            "version": 1,
            "digest": "digest of n1",
            "uri": "s3://memory/registry/cartpole_ppo/versions/000001",
        }
    ]


def test_the_version_is_a_link_to_the_experiment(service: Service) -> None:
    """A promotion and a rollback show where the versions are; what moved nothing shows none."""
    page = {"Version": "plugin/nightshift/retrain_cartpole_ppo"}
    service.promote(service.night("n1"))
    assert service.links == page
    service.promote(service.night("n2"), approved=False)
    assert service.links == {"Version": ""}
    service.promote(service.night("n3"))
    service.roll_back(1)
    assert service.links == page


@pytest.mark.parametrize("case", ["not approved", "superseded", "refused"])
def test_what_does_not_move_the_champion_is_not_announced(service: Service, case: str) -> None:
    """A task that does not move the champion announces nothing."""
    service.promote(service.night("n1"))
    late = service.night("n2")
    service.promote(service.night("n3"))
    if case == "refused":
        service.roll_back(1)
        late = service.night("n4")
        late.deliver("digest of n3")
    service.events = OutletEventAccessors()
    done = service.promote(late, approved=case != "not approved")
    assert done["outcome"] == case.upper().replace(" ", "_")
    assert service.announced() == []


def test_a_promotion_hours_after_the_approval_finds_that_the_champion_changed(
    service: Service,
) -> None:
    """An approved promotion is SUPERSEDED if the champion changed meanwhile."""
    service.promote(service.night("n1"))
    slow, quick = service.night("n2"), service.night("n3")
    service.promote(quick)
    assert service.promote(slow, approved=True)["outcome"] == "SUPERSEDED"
    champion = find_champion(service.world.store, "cartpole_ppo")
    assert champion is not None
    assert champion[0].digest == "digest of n3"


def test_a_policy_that_the_evaluator_refuses_is_not_put_into_service(service: Service) -> None:
    """The evaluator checks the policy before a promotion and before a rollback."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    service.aws.refused = "CartPole-v1: the policy cannot play it"
    with pytest.raises(
        AirflowFailException, match="cannot play it; it is not put into service, the champion stays"
    ):
        service.promote(service.night("n3"))
    with pytest.raises(AirflowFailException, match="cannot play it"):
        service.roll_back(1)
    assert service.version == 2


@pytest.mark.parametrize(
    "changes",
    [{"digest": "x"}, {"wrappers": (WrapperForm(name="gymnasium.wrappers.FlattenObservation"),)}],
)
def test_a_record_that_disagrees_with_its_policy_file_is_refused(
    service: Service, changes: dict[str, Any]
) -> None:
    """The evaluator reads the policy file itself, because the training machine wrote the record."""
    night = service.night("n1")
    service.aws.metadata = night.record.metadata.model_copy(update=changes)
    with pytest.raises(
        AirflowFailException, match="names another digest or other wrappers than its record"
    ):
        service.promote(night)
    assert service.version is None
    service.aws.metadata = night.record.metadata
    assert service.promote(night)["outcome"] == "PROMOTED"


def test_a_rollback_moves_announces_and_lists_versions(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The rollback shows versions and history, and its retry moves nothing and says the same."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    service.events = OutletEventAccessors()
    with caplog.at_level("INFO"):
        done = service.roll_back(1)
    assert (done["outcome"], done["version"], done["digest"], service.version) == (
        "PROMOTED",
        1,
        "digest of n1",
        1,
    )
    assert [event["move"] for event in service.announced()] == ["rolled_back"]
    assert "UTC, seed-0 at step 100 of n2, digest digest of n2  ← in service" in caplog.text
    assert "it shakes" in caplog.text
    assert service.roll_back(1) == done
    assert len(read_history(service.world.store, "cartpole_ppo")) == 3


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (7, r"versions/000007/manifest.json does not exist; versions: 1, 2"),
        (2, "version 2 is in service already; versions: 1, 2"),
        (1, r"versions/000001/policy.onnx.*do not use it; versions: 1, 2"),
    ],
)
def test_a_rollback_that_cannot_be_lists_what_can(
    service: Service, version: int, message: str
) -> None:
    """The error lists the versions that can be restored."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    if version == 1:
        service.world.store.objects[version_prefix("cartpole_ppo", 1) + "policy.onnx"] = b"changed"
    with pytest.raises(AirflowFailException, match=message):
        service.roll_back(version)
    assert service.version == 2


def test_a_hole_in_the_history_stops_a_rollback_before_anything_moves(service: Service) -> None:
    """The error names the missing entry, and the pointer stays where consumers expect it."""
    for run in ("n1", "n2", "n3"):
        service.promote(service.night(run))
    entry = next(
        item.key
        for item in service.world.store.list("registry/cartpole_ppo/history/")
        if "2" in item.key
    )
    del service.world.store.objects[entry]
    service.events = OutletEventAccessors()
    with pytest.raises(AirflowFailException, match="an entry is missing"):
        service.roll_back(1)
    assert (service.version, service.announced()) == (3, [])


@pytest.mark.parametrize("to_version", [1, 2])
@pytest.mark.parametrize(
    "edit", ["not JSON", "another version", "another digest", "a version that is not there"]
)
def test_a_rollback_repairs_an_edited_pointer(service: Service, edit: str, to_version: int) -> None:
    """A rollback, also to the former champion, continues the history without a gap."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    key = "registry/cartpole_ppo/champion.json"
    there = json.loads(service.world.store.objects[key])
    edited = {
        "another version": {"version": 1},
        "another digest": {"digest": "x"},
        "a version that is not there": {"version": 9},
    }
    service.world.store.put(
        key, b"hello" if edit == "not JSON" else json.dumps(there | edited[edit]).encode()
    )
    assert service.roll_back(to_version)["outcome"] == "PROMOTED"
    assert service.version == to_version
    history = read_history(service.world.store, "cartpole_ppo")
    assert [(entry.from_version, entry.to_version) for entry in history] == [
        (None, 1),
        (1, 2),
        (2, to_version),
    ]


def test_asked_to_list_it_moves_nothing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """A list goes to the log, because a form cannot show versions before it is sent."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    service.params["only_list"] = True
    with caplog.at_level("INFO"), pytest.raises(AirflowSkipException, match="nothing was moved"):
        service.roll_back(1)
    assert "digest digest of n2  ← in service" in caplog.text
    assert "promoted: version 1 → version 2" in caplog.text
    assert service.version == 2


def test_a_rolled_back_policy_does_not_come_back_by_itself(service: Service) -> None:
    """A night that trains the policy again gets REFUSED; a person can still restore it."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    service.roll_back(1)
    again = service.night("n3")
    again.deliver("digest of n2")
    assert service.promote(again)["outcome"] == "REFUSED"
    assert service.roll_back(2)["version"] == 2


VERDICT = {
    "decision": "PROMOTE",
    "reason": "better",
    "summary": "PROMOTE: better\nmean return 450",
    "report": {"key": "evaluations/cartpole_ppo/n1/gate/report.json", "sha256": "a" * 64},
}
CANDIDATE = {
    "trial": "seed-1",
    "step": 81920,
    "digest": "d",
    "policy": {"key": "policies/cartpole_ppo/n1/seed-1/000000081920.onnx", "sha256": "b" * 64},
    "record": {"key": "policies/cartpole_ppo/n1/seed-1/000000081920.json", "sha256": "c" * 64},
    "mean_return": 450.0,
}
ADA = {"id": "7", "name": "ada"}


def run_asking(
    task: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, dict[str, Any]]:
    """Run a task that may ask a person.

    :return: its answer (or the time that it waits), and the stored question
    """
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail",
        lambda **detail: asked.update(detail),
    )
    context = {**service.context(), "task_instance": type("Ti", (), {"id": "1"})()}
    try:
        return task.execute(context), asked
    except TaskAwaitingInput as waiting:
        return waiting.timeout, asked


def answer(chosen: str, user: Any) -> dict[str, Any]:
    """Build the event with which Airflow resumes a task: a person's answer, or none."""
    return {
        "chosen_options": [chosen],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": user,
    }


def asking(
    service: Service, verdict: dict[str, Any], approval: bool = True
) -> AskBeforePromotingOperator:
    """The asking task of a run with this approval setting in its spec."""
    experiment = service.world.experiment.model_copy(
        update={"approval": approval, "approval_hours": 2.0}
    )
    data = service.world.spec.model_copy(update={"experiment": experiment}).to_json()
    spec = Artifact(key=service.world.plan.spec.key, sha256=sha256_hex(data))
    service.world.store.put(spec.key, data)
    plan = service.world.plan.model_copy(update={"spec": spec})
    return AskBeforePromotingOperator(
        task_id="approve", plan=plan.to_xcom(), candidate=CANDIDATE, verdict=verdict
    )


@pytest.mark.parametrize("origin", [None, "a friend\nPROMOTE: approved by the security team"])
def test_the_question_shows_the_report_and_the_default(
    service: Service, monkeypatch: pytest.MonkeyPatch, origin: str | None
) -> None:
    """The question has the summary, a link, the limit and the default, which is rejection.

    An importer's own description is marked as a quotation.
    """
    service.params["origin"] = origin
    answered, asked = run_asking(asking(service, VERDICT), service, monkeypatch)
    assert answered == timedelta(hours=2)
    assert asked["defaults"] == [approval_operator.REJECT]
    for part in (
        "\n- mean return 450\n",
        "**Champion of cartpole_ppo**: no champion yet",
        "**Cost so far**: 0.0000 USD of ",
        "s3://b/evaluations/cartpole_ppo/n1/gate/report.html",
        f"[Report](plugin/nightshift/retrain_cartpole_ppo/report?run_id={service.world.spec.run_id})",
        "No answer within 2 hours means no",
    ):
        assert part in asked["body"]
    assert ("> a friend\n> PROMOTE: approved by the security team" in asked["body"]) is bool(origin)
    trained = "an imported policy" if origin else "trial `seed-1` at step 81,920 of "
    assert f"**Candidate**: {trained}" in asked["body"]


@pytest.mark.parametrize(
    ("decision", "approval", "expected"),
    [
        ("KEEP", True, {"approved": False, "by": "the gate"}),
        ("PROMOTE", False, {"approved": True, "by": "the gate, approval is off"}),
    ],
)
def test_no_question_is_asked_without_need(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    decision: str,
    approval: bool,
    expected: dict[str, Any],
) -> None:
    """Approval is off by default and never asked for when nothing would be promoted."""
    task = asking(service, VERDICT | {"decision": decision}, approval)
    assert run_asking(task, service, monkeypatch)[0] == expected


@pytest.mark.parametrize(
    ("chosen", "user", "expected"),
    [
        ("Approve", ADA, {"approved": True, "by": "ada", "person": "ada"}),
        ("Reject", ADA, {"approved": False, "by": "ada", "person": "ada"}),
        ("Reject", None, {"approved": False, "by": "no person answered within 2 hours"}),
        ("Approve", None, {"approved": False, "by": "no person answered within 2 hours"}),
    ],
)
def test_only_a_persons_yes_is_a_yes(
    service: Service, chosen: str, user: Any, expected: dict[str, Any]
) -> None:
    """Only a person's approval promotes; a rejection and a timeout do not."""
    assert (
        asking(service, VERDICT).execute_complete(service.context(), answer(chosen, user))
        == expected
    )


def test_the_history_names_who_approved_and_who_chose(service: Service) -> None:
    """The history names approver and chooser beside the run and its trigger."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    service.roll_back(1, "grace")
    assert [entry.who for entry in read_history(service.world.store, "cartpole_ppo")] == [
        *(["ada, retrain_cartpole_ppo manual-1, approved by grace"] * 2),
        "ada, rollback_policy manual-1, chosen by grace",
    ]


def choosing(
    service: Service, monkeypatch: pytest.MonkeyPatch, **params: Any
) -> tuple[Any, dict[str, Any]]:
    """Run the task that asks for a version.

    :return: as :func:`run_asking`
    """
    service.params |= params
    monkeypatch.setattr(
        version_choice_operator, "find_environment", lambda environment, region: _Place()
    )
    monkeypatch.setattr(
        version_choice_operator, "S3Store", lambda client, bucket: service.world.store
    )
    return run_asking(AskForVersionOperator(task_id="choose"), service, monkeypatch)


@pytest.mark.parametrize(
    "params", [{"version": 1}, {"only_list": True}, {"version": 1, "only_list": True}]
)
def test_a_form_with_a_version_or_a_list_asks_no_question(
    service: Service, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    """`airflow dags test` with a version never waits, and the registry is not read."""
    assert choosing(service, monkeypatch, **params) == (
        {"version": params.get("version"), "person": None},
        {},
    )


def test_a_form_without_a_version_offers_all_versions(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions are offered newest first, without the champion, with history and quoted reason."""
    for run in ("n1", "n2", "n3"):
        service.promote(service.night(run))
    waits, asked = choosing(service, monkeypatch)
    assert waits == timedelta(hours=1)
    assert [option.partition(" ")[0] for option in asked["options"]] == ["2:", "1:", "None"]
    assert "seed-0 (pointer " in asked["options"][0]
    assert max(map(len, asked["options"])) <= 60, "Airflow draws options as buttons in one row"
    assert asked["defaults"] == [NONE_OF_THEM]
    for part in (
        "promoted: version 2 → version 3 by ada",
        "> it shakes",
        "Your choice replaces **version 3**",
        " UTC, seed-0 at step 100 of n2, digest digest of n2`",
        "No answer within an hour means no",
    ):
        assert part in asked["body"]


@pytest.mark.parametrize("edit", [b"hello", {"version": 1}, {"digest": "x"}, {"version": 9}])
def test_when_the_pointer_was_edited_every_version_is_offered(
    service: Service, monkeypatch: pytest.MonkeyPatch, edit: Any
) -> None:
    """A rollback repairs the pointer, also to the version that was in service."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    key = "registry/cartpole_ppo/champion.json"
    there = json.loads(service.world.store.objects[key])
    service.world.store.put(
        key, edit if isinstance(edit, bytes) else json.dumps(there | edit).encode()
    )
    _, asked = choosing(service, monkeypatch)
    assert [option.partition(" ")[0] for option in asked["options"]] == ["2:", "1:", "None"]
    assert "promoted: version 1 → version 2" in asked["body"]


@pytest.mark.parametrize(("nights", "end"), [(0, AirflowFailException), (1, AirflowSkipException)])
def test_without_a_version_to_restore_the_task_says_so(
    service: Service, monkeypatch: pytest.MonkeyPatch, nights: int, end: type[Exception]
) -> None:
    """With one version the task is skipped. Without any, perhaps after a typo, it fails."""
    for number in range(nights):
        service.promote(service.night(f"n{number}"))
    with pytest.raises(end, match="there is nothing to put back"):
        choosing(service, monkeypatch)
    note = service.pushed.get(NOTE_KEY, "")
    assert ("has no version but version 1, which is in service" in note) is (nights == 1)


OPTION = (
    "12: 2026-11-22 02:00 UTC, seed-0 at step 100 of n12, digest d; replaces version 13 "
    "(pointer 0badcafe)"
)


@pytest.mark.parametrize(
    ("chosen", "user", "version"),
    [
        (OPTION, ADA, 12),
        (NONE_OF_THEM, ADA, None),
        (NONE_OF_THEM, None, None),
        (OPTION, None, None),
    ],
)
def test_only_a_person_chooses_a_version(
    service: Service, chosen: str, user: Any, version: int | None
) -> None:
    """A timeout moves nothing, and the resumed task checks the answer without its options."""
    done = AskForVersionOperator(task_id="choose").execute_complete(
        service.context(), answer(chosen, user)
    )
    assert done == {"version": version, "person": "ada" if user else None} | (
        {"pointer": "0badcafe"} if version else {}
    )


def choose_first(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Ask for a version and let a person choose the first option.

    :return: the choice
    """
    asked = choosing(service, monkeypatch)[1]
    done: dict[str, Any] = AskForVersionOperator(task_id="choose").execute_complete(
        service.context(), answer(asked["options"][0], ADA)
    )
    return done


def test_a_version_that_was_chosen_replaces_only_the_champion_that_was_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a night promotes meanwhile, nothing moves, and the message says what to do."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    choice = choose_first(service, monkeypatch)
    service.promote(service.night("n3"))
    service.events = OutletEventAccessors()
    with pytest.raises(
        AirflowFailException,
        match=r"SUPERSEDED: .* version 3 \(move 3, promoted by .*trigger rollback_policy again",
    ):
        service.put_back(choice)
    assert (service.version, service.announced()) == (3, [])
    assert not rolled_back_digests(service.world.store, "cartpole_ppo")
    assert service.put_back(choose_first(service, monkeypatch))["version"] == 2


def test_of_two_answers_to_the_same_state_one_moves(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run is SUPERSEDED, also on a retry; the first run's retry repeats its result."""
    for run in ("n1", "n2", "n3"):
        service.promote(service.night(run))
    first, second = (choose_first(service, monkeypatch) for _ in range(2))
    done = service.put_back(first)
    for _ in range(2):
        with pytest.raises(
            AirflowFailException,
            match="SUPERSEDED: the champion changed after version 2 was chosen: now it is version "
            "2",
        ):
            service.put_back(second, "manual-2")
    assert service.put_back(first) == done
    assert len(read_history(service.world.store, "cartpole_ppo")) == 4


def test_of_two_rollbacks_at_the_same_moment_one_moves(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move between this run's read and write of the pointer is not overwritten."""
    for run in ("n1", "n2", "n3"):
        service.promote(service.night(run))
    checked = operators.check_version

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(operators, "check_version", checked)
        checked(*arguments)
        monkeypatch.setattr(promotion, "verify_version", late)

    def late(store: Any, experiment: str, version: int) -> Any:
        monkeypatch.setattr(promotion, "verify_version", verified)
        service.put_back({"version": 2}, "manual-2")
        return verified(store, experiment, version)

    verified = promotion.verify_version
    monkeypatch.setattr(operators, "check_version", meanwhile)
    with pytest.raises(
        AirflowFailException,
        match="SUPERSEDED: the champion changed while it was being rolled back",
    ):
        service.put_back({"version": 1})
    assert [entry.to_version for entry in read_history(service.world.store, "cartpole_ppo")] == [
        1,
        2,
        3,
        2,
    ]


def test_an_edited_pointer_that_was_repaired_meanwhile_is_not_moved(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option was offered for an edited pointer, so a repaired pointer is not moved."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    key = "registry/cartpole_ppo/champion.json"
    whole = service.world.store.objects[key]
    service.world.store.put(key, b"hello")
    choice = choose_first(service, monkeypatch)
    service.world.store.put(key, whole)
    with pytest.raises(AirflowFailException, match="SUPERSEDED"):
        service.put_back(choice | {"version": 1})
    assert service.version == 2


def test_an_option_without_a_mark_moves_nothing(service: Service) -> None:
    """An option of an older release has no mark of the state it was shown for."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    old = OPTION.partition(";")[0].replace("12:", "1:")
    with pytest.raises(AirflowFailException, match="SUPERSEDED"):
        service.put_back(
            AskForVersionOperator(task_id="choose").execute_complete(
                service.context(), answer(old, ADA)
            )
        )


def test_a_forms_version_with_a_decimal_point_is_that_version(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.0 is the integer 1 in JSON Schema and in Airflow."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    choice, _ = choosing(service, monkeypatch, version=1.0)
    assert service.put_back(choice)["version"] == 1


@pytest.mark.parametrize("choice", [None, {}, {"version": None, "person": "ada"}])
def test_without_a_version_nothing_is_moved(service: Service, choice: Any) -> None:
    """Without an answer, or with a task marked as successful, nothing moves."""
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    with pytest.raises(AirflowSkipException, match="no version was chosen: nothing was moved"):
        S3RollBackChampionOperator(task_id="roll_back", choice=choice).execute(
            service.context("rollback_policy")
        )
    assert service.version == 2


def test_the_asset_of_an_experiment_is_always_the_same() -> None:
    """The asset's name follows from the experiment, so a consumer DAG needs no lookup."""
    asset = champion_asset("cartpole_ppo")
    assert (asset.name, asset.uri) == (
        "champion_cartpole_ppo",
        "nightshift://champion/cartpole_ppo",
    )
