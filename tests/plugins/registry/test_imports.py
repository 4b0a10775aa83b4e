"""An imported policy must be what it claims, and only the gate can promote it."""

import json
import struct
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.dag_builders.params import importing_params
from rl_airflow.registry import import_operators
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.import_operators import S3FreezeImportOperator, S3ImportPolicyOperator
from rl_airflow.run import spec_operator
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.evaluation.verdicts import Decision, Verdict, gate_of
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.contents import Move, get_manifest, read_history
from rl_lifecycle.registry.parameter_files import digest_parameters
from rl_lifecycle.registry.versions import ImportBundle
from rl_lifecycle.storage.layout import artifact_key, report_key
from tests.lifecycle.registry.test_promotion import SPACE
from tests.plugins.registry.test_champions import Service, run_asking
from tests.plugins.trials.test_trials import FakeTaskInstance
from tests.plugins.worlds import EXPERIMENT


class _Place:
    launch_template = "lt-0123456789abcdef0:7"
    environment, bucket, evaluator, topic_arn = "dev", "b", "evaluator:live", None
    evaluator_version = None
    launch_template_id, launch_template_version, image_id, trainer_wheels = (
        "lt-0123456789abcdef0",
        "7",
        "ami-1",
        None,
    )
    instance_profile_arn = gang_launch_template = None
    subnet_ids, evaluator_memory_mib = {"zone": "subnet"}, 1769.0


class _Run:
    """Airflow's dag run."""

    dag_id, triggering_user_name, conf = "import_policy", "ada", dict[str, Any]()

    def __init__(self, run_id: str = "manual-1") -> None:
        self.run_id = run_id


def safetensors(value: float = 1.0) -> bytes:
    """Build parameters of one number."""
    header = json.dumps(
        {"policy/w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", value)


class Importing(Service):
    """A registry, and a bundle that `upload-policy` stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(monkeypatch)
        folder.mkdir()
        (folder / "cartpole_ppo.yaml").write_text(json.dumps(EXPERIMENT))
        monkeypatch.setattr(spec_operator, "find_environment", lambda *_, **__: _Place())
        monkeypatch.setattr(spec_operator, "S3Store", lambda client, bucket: self.world.store)
        monkeypatch.setattr(
            import_operators, "Evaluator", lambda client, function: self.aws.evaluator()
        )
        self.folder, self.ti = folder, FakeTaskInstance()
        self.params |= {"origin": "a controller made by hand"}
        self.bundle = self.upload()

    def upload(self, value: float = 1.0, **says: Any) -> str:
        """Store a policy with this metadata.

        :return: the bundle's key
        """
        parameters = safetensors(value)
        digest = digest_parameters(parameters, "parameters")
        self.aws.metadata = PolicyMetadata.model_validate(
            {
                "algo": "ppo",
                "env_id": "CartPole-v1",
                "observation_space": SPACE,
                "action_space": SPACE,
                "digest": digest,
                "versions": {},
                "equality": {},
                **says,
            }
        )
        bundle = ImportBundle(
            policy=self._put(b"onnx" + parameters, "p.onnx"),
            parameters=self._put(parameters, "p.safetensors"),
        )
        self.params["bundle"] = self._put(bundle.to_json(), "import.json").key
        return str(self.params["bundle"])

    def _put(self, data: bytes, name: str) -> Artifact:
        artifact = Artifact(key=artifact_key(sha256_hex(data), name), sha256=sha256_hex(data))
        self.world.store.put(artifact.key, data)
        return artifact

    def freeze(self, run_id: str = "manual-1") -> Spec:
        """Run the freezing task."""
        S3FreezeImportOperator(task_id="freeze_import", folder=str(self.folder)).execute(
            {
                **self.context("import_policy"),
                "ti": self.ti,
                "run_id": run_id,
                "dag_run": _Run(run_id),
            }
        )  # type: ignore[typeddict-item]
        return Spec.from_json(self.world.store.objects[self.ti.pushed["plan"]["spec"]["key"]])

    def bring(
        self, spec: Spec, decision: Decision = Decision.PROMOTE, *, approved: bool = True
    ) -> dict[str, Any]:
        """Run the importing task after a verdict."""
        candidate = self.ti.pushed["candidate"]
        report = Report(
            experiment=spec.experiment.name,
            run=spec.run,
            spec_sha256=spec.sha256,
            gate=gate_of(spec.experiment),
            verdict=Verdict(decision=decision, reason="", n_pairs=0, alpha_spent=0.0, looks=()),
            first_seed=0,
            candidate_sha256=candidate["policy"]["sha256"],
            candidate_digest=candidate["digest"],
            champion_sha256=None,
            champion_digest=None,
        ).to_json()
        key = report_key(spec.experiment.name, spec.run, "gate")
        self.world.store.put(key, report)
        verdict = {
            "decision": decision.value,
            "reason": "so it is",
            "report": {"key": key, "sha256": sha256_hex(report)},
        }
        return S3ImportPolicyOperator(
            task_id="import_policy",
            plan=self.ti.pushed["plan"],
            candidate=candidate,
            verdict=verdict,
            approval={"approved": approved, "by": "grace"},
        ).execute(self.context("import_policy"))


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Importing:
    """An uploaded policy and an empty registry."""
    return Importing(monkeypatch, tmp_path / "experiments")


def test_an_import_that_the_gate_promotes_is_in_service_and_announced(importing: Importing) -> None:
    """The import is in service with its origin, and retries of both tasks move nothing."""
    spec = importing.freeze()
    done = importing.bring(spec)
    assert (done["outcome"], done["version"], importing.version) == ("PROMOTED", 1, 1)
    assert (
        get_manifest(importing.world.store, "cartpole_ppo", 1).origin == "a controller made by hand"
    )
    assert [event["move"] for event in importing.announced()] == ["imported"]
    assert importing.freeze() == spec
    assert importing.bring(spec)["version"] == 1
    assert [entry.move for entry in read_history(importing.world.store, "cartpole_ppo")] == [
        Move.IMPORTED
    ]


def test_an_import_asks_for_the_approval_that_the_experiments_file_asks_for(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experiment's approval applies to imports, and without an approval nothing is imported."""
    (importing.folder / "cartpole_ppo.yaml").write_text(json.dumps(EXPERIMENT | {"approval": True}))
    spec = importing.freeze()
    verdict = {
        "decision": "PROMOTE",
        "reason": "better",
        "report": {"key": "evaluations/r/report.json", "sha256": "a" * 64},
    }
    task = AskBeforePromotingOperator(
        task_id="approve",
        plan=importing.ti.pushed["plan"],
        candidate=importing.ti.pushed["candidate"],
        verdict=verdict,
    )
    waits, asked = run_asking(task, importing, monkeypatch)
    assert waits == timedelta(hours=spec.experiment.approval_hours)
    assert "> a controller made by hand" in asked["body"]
    with pytest.raises(
        AirflowFailException, match=r"not imported\. NOT_APPROVED: not approved: grace"
    ):
        importing.bring(spec, approved=False)
    assert (importing.version, importing.announced()) == (None, [])


@pytest.mark.parametrize(
    ("file", "form", "frozen"),
    [(False, True, True), (False, False, False), (True, True, True), (True, False, None)],
)
def test_a_form_can_add_an_approval_but_not_remove_it(
    importing: Importing, file: bool, form: bool, frozen: bool | None
) -> None:
    """The approval of the experiment file applies whatever the form says."""
    task = S3FreezeSpecOperator(
        task_id="freeze_spec",
        experiment={**EXPERIMENT, "name": "cartpole_ppo", "approval": file},
        folder=str(importing.folder),
    )
    importing.params["approval"] = form
    context: Any = {
        **importing.context(),
        "ti": importing.ti,
        "run_id": "manual-1",
        "dag_run": _Run(),
    }
    if frozen is None:
        with pytest.raises(
            AirflowFailException,
            match=r"approval: experiments/cartpole_ppo\.yaml asks for an approval",
        ):
            task.execute(context)
        return
    task.execute(context)
    spec = Spec.from_json(importing.world.store.objects[importing.ti.pushed["plan"]["spec"]["key"]])
    assert spec.experiment.approval is frozen


def test_the_spec_records_the_version_of_the_dag_bundle(importing: Importing) -> None:
    """The bundle holds the experiment's file. The image may be older."""
    bundle = SimpleNamespace(version="a" * 40, supports_versioning=True)
    importing.ti.bundle_instance = bundle
    assert importing.freeze().commit == "a" * 40


def test_an_import_never_shares_a_run_with_a_retraining(importing: Importing) -> None:
    """The two DAGs may use one run id, so an import has its own run name."""
    assert importing.freeze().run == "import-manual-1"


@pytest.mark.parametrize("decision", [Decision.KEEP, Decision.INCONCLUSIVE, Decision.UNCHANGED])
def test_any_other_verdict_fails_with_its_reason(importing: Importing, decision: Decision) -> None:
    """Another verdict fails the task, because a person waits for the import."""
    spec = importing.freeze()
    with pytest.raises(AirflowFailException, match=rf"not imported\. {decision.value}: so it is"):
        importing.bring(spec, decision)
    assert (importing.version, importing.announced()) == (None, [])


def test_a_champion_that_changed_meanwhile_or_a_policy_that_was_rolled_back_is_not_replaced(
    importing: Importing,
) -> None:
    """SUPERSEDED and REFUSED fail the import."""
    spec = importing.freeze()
    importing.aws.metadata = None
    importing.promote(importing.night("n1"))
    with pytest.raises(AirflowFailException, match=r"not imported\. SUPERSEDED"):
        importing.bring(spec)
    other = importing.night("n2")
    other.deliver(importing.ti.pushed["candidate"]["digest"])
    importing.promote(other)
    importing.roll_back(1)
    importing.upload()
    for key in [key for key in importing.world.store.objects if "import-manual-1" in key]:
        del importing.world.store.objects[key]
    spec = importing.freeze()
    with pytest.raises(AirflowFailException, match=r"not imported\. REFUSED"):
        importing.bring(spec)
    assert importing.version == 1


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            {"env_id": ""},
            "trained on no environment with {}, and the experiment is on CartPole-v1 with {}: "
            "export it with --env-id",
        ),
        ({"env_id": "Acrobot-v1"}, "trained on Acrobot-v1"),
        ({"env_kwargs": {"gravity": 1}}, "with {'gravity': 1}, and the experiment"),
        (
            {"digest": "d" * 64},
            "and the policy was made from dddddddddddd: upload the two files of one export",
        ),
    ],
)
def test_a_policy_that_is_not_what_it_says_is_not_imported(
    importing: Importing, says: dict[str, Any], message: str
) -> None:
    """Wrong metadata or parameters are refused, because consumers and warm starts use them."""
    importing.upload(**says)
    with pytest.raises(AirflowFailException) as failed:
        importing.freeze()
    assert message in str(failed.value)


def test_a_policy_that_the_evaluator_refuses_is_not_imported(importing: Importing) -> None:
    """The error has the evaluator's message."""
    importing.aws.refused = "CartPole-v1: the policy cannot play it"
    with pytest.raises(AirflowFailException, match="cannot play it; nothing is imported"):
        importing.freeze()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gone", "import.json does not exist"),
        ("changed", "do not use it"),
        ("parameters", "is not a safetensors file"),
    ],
)
def test_a_missing_or_changed_bundle_is_named(
    importing: Importing, change: str, message: str
) -> None:
    """The error is one line without a traceback."""
    objects = importing.world.store.objects
    if change == "gone":
        del objects[importing.bundle]
    elif change == "changed":
        objects[importing.bundle] += b" "
    else:
        parameters = importing._put(b"no parameters", "p.safetensors")
        policy = ImportBundle.from_json(objects[importing.bundle], "bundle").policy
        importing.params["bundle"] = importing._put(
            ImportBundle(policy=policy, parameters=parameters).to_json(), "import.json"
        ).key
    with pytest.raises(AirflowFailException, match=message):
        importing.freeze()


def test_a_run_id_that_was_used_for_another_bundle_is_refused(importing: Importing) -> None:
    """A run id may not name a second bundle, because the first would be judged for it."""
    importing.freeze()
    importing.upload(2.0)
    with pytest.raises(AirflowFailException, match="is of another bundle"):
        importing.freeze()


def test_an_edited_pointer_stops_an_import_in_one_line(importing: Importing) -> None:
    """An edited pointer stops an import as it stops a night."""
    importing.world.store.put("registry/cartpole_ppo/champion.json", b"hello")
    with pytest.raises(AirflowFailException, match=r"champion\.json"):
        importing.freeze()


def test_of_two_imports_at_a_time_one_moves_the_champion(importing: Importing) -> None:
    """Two imports are judged and approved together; the later one is SUPERSEDED."""
    first, pushed, says = importing.freeze(), importing.ti.pushed, importing.aws.metadata
    importing.upload(2.0)
    importing.ti = FakeTaskInstance()
    second = importing.freeze("manual-2")
    assert importing.bring(second)["outcome"] == "PROMOTED"
    importing.ti.pushed, importing.aws.metadata = pushed, says
    with pytest.raises(
        AirflowFailException, match=r"not imported\. SUPERSEDED: the champion changed since"
    ):
        importing.bring(first)
    assert [
        (entry.sequence, entry.move)
        for entry in read_history(importing.world.store, "cartpole_ppo")
    ] == [(1, Move.IMPORTED)]
    assert importing.version == 1


def test_a_form_with_nothing_but_blanks_is_not_taken() -> None:
    """Blank fields are refused, because the model card shows the origin permanently."""
    schema = importing_params([])["origin"].schema
    jsonschema.validate("me, on a laptop", schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("  \n ", schema)
