"""A replay freezes the version's spec, ends its machine early, and compares digests."""

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rl_airflow.dag_builders.replay import (
    build_replay_dag,
    build_scheduled_replay,
    scheduled_dag_id,
)
from rl_airflow.machines.pools import VCPU_POOL
from rl_airflow.registry import replay_operators as operators
from rl_airflow.registry.replay_operators import S3CompareReplayOperator, S3FreezeReplayOperator
from rl_airflow.run.experiment_files import ExperimentFile, read_experiment_file
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.record import canonical_json, sha256_hex
from rl_lifecycle.storage.layout import checkpoint_key, policy_key, version_prefix
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.checkpoints import CheckpointManifest
from tests.conftest import ROOT
from tests.plugins.registry.test_champions import Service
from tests.plugins.trials.test_trials import FakeTaskInstance
from tests.plugins.worlds import EXPERIMENT, World


class _Place:
    launch_template = "lt-0123456789abcdef0:7"
    environment, bucket, evaluator, topic_arn = "dev", "b", "evaluator:live", None
    launch_template_id, launch_template_version = "lt-0123456789abcdef0", "7"
    subnet_ids, evaluator_memory_mib = {"zone": "subnet"}, 1769.0
    instance_profile_arn = None


class Replayed(Service):
    """A registry with one trained version, and its replay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.promote(self.night("n1"))
        monkeypatch.setattr(operators, "find_environment", lambda *_, **__: _Place())
        monkeypatch.setattr(operators, "S3Store", lambda client, bucket: self.world.store)
        monkeypatch.setattr(S3CompareReplayOperator, "_session", lambda operator, plan: None)
        self.notices: list[str] = []
        self.must_compare = False
        monkeypatch.setattr(
            operators, "send_notice", lambda plan, event, message: self.notices.append(event)
        )
        self.params |= {"version": None, "segments": 1}
        self.ti = FakeTaskInstance()

    def freeze(self) -> Spec:
        """Run the freezing task."""
        trial = S3FreezeReplayOperator(task_id="freeze_replay").execute(
            self.context("replay_champion") | {"ti": self.ti, "run_id": "manual-1"}
        )
        assert trial == "seed-0"
        plan = self.ti.pushed["plan"]
        return Spec.from_json(self.world.store.objects[plan["spec"]["key"]])

    def train(self, spec: Spec, digest: str, cpu: str = "any") -> None:
        """Let the replay's machine deliver the policy of the step."""
        assert spec.replay is not None
        trial, step = spec.trial_id("seed-0"), spec.replay.step
        manifest = CheckpointManifest(
            step=step,
            segment=1,
            attempt=1,
            spec_sha256=spec.sha256,
            trial_seed=spec.trials[0].seed,
            numeric_class={"cpu": cpu},
            digest=digest,
            files={},
        ).to_json()
        key = checkpoint_key(trial, step, 1, "manifest.json")
        self.world.store.put(key, manifest)
        record = self.night("unused").record.model_copy(
            update={
                "digest": digest,
                "step": step,
                "manifest": Artifact(key=key, sha256=sha256_hex(manifest)),
            }
        )
        self.world.store.put(policy_key(trial, step, "json"), record.to_json())

    def compare(self) -> dict[str, Any]:
        """Run the comparing task."""
        return S3CompareReplayOperator(
            task_id="compare",
            plan=self.ti.pushed["plan"],
            trial="seed-0",
            must_compare=self.must_compare,
        ).execute(self.context())


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Replayed:
    """A version that can be replayed."""
    return Replayed(monkeypatch)


@pytest.mark.parametrize("version", [None, 1, 1.0])
def test_a_replay_with_the_same_digest_is_green(replayed: Replayed, version: Any) -> None:
    """The replay uses the version's spec under its own name; the form's 1.0 means version 1."""
    replayed.params["version"] = version
    spec = replayed.freeze()
    assert spec == replayed.freeze()
    assert (spec.experiment.name, spec.replay and spec.replay.version) == ("replay", 1)
    replayed.train(spec, "digest of n1")
    assert replayed.compare()["outcome"] == "SAME"


def test_a_drift_fails_the_task_and_is_reported(replayed: Replayed) -> None:
    """Another digest on the same numeric class fails the task."""
    replayed.train(replayed.freeze(), "another")
    with pytest.raises(
        AirflowFailException, match="DRIFTED: version 1 of cartpole_ppo cannot be rebuilt any more"
    ):
        replayed.compare()
    assert replayed.notices == ["drifted"]


def test_another_kind_of_machine_says_nothing(replayed: Replayed) -> None:
    """On another numeric class the task is skipped, not successful."""
    replayed.train(replayed.freeze(), "another", cpu="other")
    with pytest.raises(AirflowSkipException, match="NOT_COMPARABLE"):
        replayed.compare()


def test_another_kind_of_machine_is_red_if_the_experiment_asks_for_it(replayed: Replayed) -> None:
    """The message says what changed on the machine, and a notice is sent."""
    replayed.must_compare = True
    replayed.train(replayed.freeze(), "another", cpu="other")
    with pytest.raises(
        AirflowFailException, match=r"NOT_COMPARABLE: .*cpu other instead of .*replay_must_compare"
    ):
        replayed.compare()
    assert replayed.notices == ["not comparable"]


def test_the_versions_own_spec_can_ask_for_it(replayed: Replayed) -> None:
    """A replay by hand uses what the experiment asked for when the version was trained."""
    spec = replayed.freeze()
    replayed.train(spec, "another", cpu="other")
    asking = spec.experiment.model_copy(update={"replay_must_compare": True})
    strict = spec.model_copy(update={"experiment": asking}).to_json()
    frozen = replayed.ti.pushed["plan"]["spec"]
    replayed.world.store.objects[frozen["key"]] = strict
    frozen["sha256"] = sha256_hex(strict)
    with pytest.raises(AirflowFailException, match="NOT_COMPARABLE"):
        replayed.compare()


@pytest.mark.parametrize("case", ["no champion yet", "was imported"])
def test_a_scheduled_replay_with_nothing_to_replay_is_skipped(
    replayed: Replayed, case: str
) -> None:
    """A scheduled replay without a version is skipped, because it would fail every week."""
    objects = replayed.world.store.objects
    if case == "no champion yet":
        for key in [key for key in objects if key.startswith("registry/cartpole_ppo/")]:
            del objects[key]
    else:
        key = version_prefix("cartpole_ppo", 1) + "manifest.json"
        objects[key] = canonical_json(
            {**json.loads(objects[key]), "kind": "imported", "trial_seed": None}
        )
    task = S3FreezeReplayOperator(task_id="freeze_replay", experiment="cartpole_ppo")
    context: Any = replayed.context("replay_cartpole_ppo") | {
        "ti": replayed.ti,
        "run_id": "scheduled-1",
    }
    with pytest.raises(AirflowSkipException, match=case):
        task.execute(context)


@pytest.mark.parametrize(
    ("version", "message"), [(5, "versions/000005/manifest.json does not exist")]
)
def test_a_missing_version_is_named(replayed: Replayed, version: int, message: str) -> None:
    """The error is one line."""
    replayed.params["version"] = version
    with pytest.raises(AirflowFailException, match=message):
        replayed.freeze()


def test_a_changed_spec_is_not_replayed(replayed: Replayed) -> None:
    """A spec that was changed after the training is refused."""
    replayed.world.store.objects[version_prefix("cartpole_ppo", 1) + "spec.json"] = b"{}"
    with pytest.raises(AirflowFailException, match="do not use it"):
        replayed.freeze()


def test_the_machine_ends_after_the_compared_segment(replayed: Replayed) -> None:
    """The machine trains one segment, not the whole training."""
    spec = replayed.freeze()
    world = World()
    world.spec, world.store = spec, replayed.world.store
    world.plan = world.plan.model_copy(
        update={
            "experiment": "replay",
            "run": spec.run,
            "spec": Artifact(key=f"specs/replay/{spec.run}/spec.json", sha256=spec.sha256),
            "trials": ("seed-0",),
        }
    )
    world.look()
    world.pass_time(60)
    world.beat(step=90)
    assert world.look()[0].kind is ActionKind.WAIT
    replayed.train(spec, "digest of n1")
    action, _ = world.look()
    assert (action.kind, "enough to compare with" in action.finding.reason) == (
        ActionKind.FINISH,
        True,
    )
    assert world.machines_of() == []


def test_an_experiment_with_a_schedule_has_a_dag_of_its_own() -> None:
    """The experiment's cron in UTC makes a DAG; without one, only the form exists."""
    experiment: Experiment = World(replay_schedule="0 6 * * *", replay_segments=2).experiment
    file = ExperimentFile(Path("experiments/cartpole_ppo.yaml"), experiment, "")
    assert scheduled_dag_id(file) == "replay_cartpole_ppo"
    dag = build_replay_dag("replay_cartpole_ppo", file)
    timetable: Any = dag.timetable
    assert timetable.expression == "0 6 * * *"
    assert dag.params["segments"] == 2
    assert scheduled_dag_id(file._replace(experiment=World().experiment)) is None


def test_a_replays_machine_counts_in_the_pool() -> None:
    """A replay takes pool slots, and the form's replay takes those of `auto`'s types."""
    experiment: Experiment = World(
        replay_schedule="0 6 * * *", compute={"instance_types": ["c7i.xlarge"]}
    ).experiment
    file = ExperimentFile(Path("experiments/cartpole_ppo.yaml"), experiment, "")
    for dag, slots in (
        (build_replay_dag("replay_cartpole_ppo", file), 4),
        (build_replay_dag("replay_champion"), 2),
    ):
        taken = {
            task_id: (dag.get_task(task_id).pool, dag.get_task(task_id).pool_slots)
            for task_id in ("launch", "await")
        }
        assert taken == dict.fromkeys(("launch", "await"), (VCPU_POOL, slots))


def test_an_experiment_with_a_large_machine_stops_no_replay_of_another(tmp_path: Path) -> None:
    """The form's replays take no more slots for it."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "experiments").mkdir()
    shutil.copy(ROOT / "dags/replay_champion.py", tmp_path / "dags")
    large = tmp_path / "experiments/cartpole_large.yaml"
    large.write_text(
        json.dumps(
            {**EXPERIMENT, "compute": {"instance_types": ["p5.48xlarge"], "budget_usd": 5000}}
        )
    )
    assert read_experiment_file(large).problem == ""
    dag = runpy.run_path(str(tmp_path / "dags/replay_champion.py"))["replay_champion"]
    assert {dag.get_task(task_id).pool_slots for task_id in ("launch", "await")} == {2}


@pytest.mark.parametrize("name", ["champion", "replay", "drill"])
def test_names_that_are_taken_are_refused(tmp_path: Path, name: str) -> None:
    """The DAG id or folder of another replay is refused as an experiment's name."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(json.dumps({**EXPERIMENT, "replay_schedule": "0 6 * * *"}))
    file = read_experiment_file(path)
    assert (file.experiment, scheduled_dag_id(file)) == (None, None)
    assert f"the name {name} belongs to" in file.problem


def test_a_replay_schedule_that_airflow_refuses_affects_no_other_dag() -> None:
    """The experiment's own DAG shows the reason."""
    experiment = World(replay_schedule="0 6 * * *").experiment
    good = ExperimentFile(Path("experiments/cartpole_ppo.yaml"), experiment, "")
    bad = good._replace(
        experiment=experiment.model_copy(update={"replay_schedule": "every blue moon"})
    )
    assert build_scheduled_replay(good) is not None
    refused = build_scheduled_replay(bad)
    assert refused is not None
    assert type(refused.timetable).__name__ == "NullTimetable"


def test_a_wrong_file_keeps_the_replays_tasks_but_not_their_schedule(tmp_path: Path) -> None:
    """A replay in flight goes on: its tasks, their pool slots and the form's fields stay."""
    path = tmp_path / "cartpole_ppo.yaml"
    document = {
        **EXPERIMENT,
        "replay_schedule": "0 6 * * *",
        "compute": {"instance_types": ["c7i.xlarge"]},
    }
    path.write_text(yaml.safe_dump(document))
    good = build_scheduled_replay(read_experiment_file(path))
    path.write_text(yaml.safe_dump(document | {"trails": 2}))
    file = read_experiment_file(path)
    assert file.experiment is None
    bad = build_scheduled_replay(file)
    assert good is not None
    assert bad is not None
    assert type(bad.timetable).__name__ == "NullTimetable"
    assert (set(bad.params), bad.task_dict.keys()) == (set(good.params), good.task_dict.keys())
    assert bad.get_task("launch").pool_slots == good.get_task("launch").pool_slots == 4
    path.write_text(path.read_text() + "\n  no: yaml: at all\n")
    assert build_scheduled_replay(read_experiment_file(path)) is not None


def test_a_replay_has_no_more_rights_than_its_experiment(
    replayed: Replayed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experiment's own profile comes first. Replays without one may share another."""
    asked: list[Any] = []

    def find(*_: Any, experiments: Any) -> _Place:
        asked.append(experiments)
        return _Place()

    monkeypatch.setattr(operators, "find_environment", find)
    replayed.freeze()
    assert asked == [("cartpole_ppo", "replay")]
