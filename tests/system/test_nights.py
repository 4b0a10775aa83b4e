"""Whole nights on the local AWS through the DAGs, as the Airflow worker."""

import contextlib
import re
import sqlite3
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from laptop import airflow, demo, local_account
from laptop.errors import StepFailedError
from laptop.report import stack_outcomes
from rl_lifecycle.evaluation.requests import Shard, merge_shards
from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.reports.run_summary import RunSummary
from rl_lifecycle.storage.layout import spec_key, version_prefix
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.storage.s3_store import S3Store
from tests.conftest import ROOT
from tests.local_aws.answers import unlike_aws
from tests.system import deliveries
from tests.system.accounts import Account
from tests.system.noise import NOISE
from tests.system.projects import copy_project, read_shipped

#: A mean return that CartPole's policies reach long before two million steps.
TARGET = 300
pytestmark = [
    pytest.mark.system,
    pytest.mark.local_aws,
    pytest.mark.airflow,
    pytest.mark.timeout(1800),
]


def _night() -> dict[str, Any]:
    return demo.run_demo([demo.EXPERIMENT], None, lambda line: None)


def _summary(night: dict[str, Any]) -> RunSummary:
    return RunSummary.model_validate(night["nights"][demo.EXPERIMENT]["summary"])


@pytest.fixture(scope="module")
def first(night_state: Path) -> dict[str, Any]:
    """The first night of a fresh account."""
    return _night()


@pytest.fixture(scope="module")
def second(first: dict[str, Any], other_experiments: Path) -> dict[str, Any]:
    """The next night, with a scenario and an early stop, as the guide describes."""
    stacks = demo.bootstrap(lambda line: None)
    _run_there(other_experiments, f"retrain_{demo.EXPERIMENT}")
    return {"stacks": stacks, "nights": {demo.EXPERIMENT: demo.read_night(demo.EXPERIMENT)}}


@pytest.fixture
def store(first: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """The account's bucket, as the Airflow worker sees it."""
    for name, value in local_account.environment().items():
        monkeypatch.setenv(name, value)
    bucket = str(first["nights"][demo.EXPERIMENT]["summary"]["champion_uri"]).split("/")[2]
    return S3Store(boto3.session.Session().client("s3"), bucket)


def test_a_first_night_ends_with_a_champion_above_the_bar(first: dict[str, Any]) -> None:
    """All stacks and trials succeed, the champion passed the bar, and no machine is left."""
    assert set(first["stacks"].values()) == {"created"}
    assert [name.rsplit("-", 1)[-1] for name in first["stacks"]] == [
        "identity",
        "network",
        "storage",
        "training",
        "evaluation",
    ]
    summary = _summary(first)
    assert {one.state for one in summary.trials} == {"finished"}
    assert all(one.step >= one.total_timesteps and one.usd > 0 for one in summary.trials)
    assert summary.verdict is not None
    assert summary.verdict.decision is Decision.PROMOTE
    assert (summary.champion_version, summary.champion_of_this_run) == (1, True)
    assert first["nights"][demo.EXPERIMENT]["instances_left"] == []


def test_each_run_of_the_demo_has_its_note(first: dict[str, Any]) -> None:
    """`airflow dags test` has no API server, and the note needs none."""
    with contextlib.closing(
        sqlite3.connect(f"{airflow.settings()['AIRFLOW_HOME']}/airflow.db")
    ) as db:
        notes = db.execute(
            "select content from dag_run_note join dag_run on dag_run.id = dag_run_id"
            " where dag_id = ? order by dag_run_id",
            [f"retrain_{demo.EXPERIMENT}"],
        ).fetchall()
    (note,) = notes[0]
    assert note.startswith("PROMOTE: after ")
    assert re.search(r"\ncost \d\.\d{4} USD of 2 USD allowed$", note)


def test_the_log_of_a_night_has_no_lines_of_other_packages_about_themselves(
    first: dict[str, Any],
) -> None:
    """A person who reads the log finds the night in it."""
    log = (airflow.log_folder() / f"retrain_{demo.EXPERIMENT}.log").read_text()
    assert "champion: none yet" in log or "champion: version 1" in log
    assert [noise for noise in NOISE if noise in log] == []


def test_trials_train_side_by_side(first: dict[str, Any]) -> None:
    """Two machines run at once, although `airflow dags test` runs mapped tasks one by one."""
    spans = [
        (one["launched_at"], one["ended_at"])
        for one in first["nights"][demo.EXPERIMENT]["attempts"]
    ]
    assert len(spans) >= 2
    assert max(begin for begin, _ in spans[:2]) < min(end for _, end in spans[:2])


def test_a_second_night_changes_no_stack_and_meets_the_champion(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """The second night uses other seeds and unchanged stacks, and its decision has a reason."""
    assert set(second["stacks"].values()) == {"unchanged"}
    summary = _summary(second)
    assert summary.run != _summary(first).run
    assert summary.verdict is not None
    assert summary.verdict.decision in {Decision.PROMOTE, Decision.KEEP, Decision.INCONCLUSIVE}
    assert summary.verdict.mean_champion is not None
    assert summary.verdict.reason
    assert summary.champion_version == (2 if summary.verdict.decision is Decision.PROMOTE else 1)
    assert second["nights"][demo.EXPERIMENT]["instances_left"] == []


def test_trials_end_when_their_target_is_reached_and_the_report_says_why(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Each trial stops at its first good policy, and the report has the saved steps."""
    night = second["nights"][demo.EXPERIMENT]
    summary = _summary(second)
    assert {one.state for one in summary.trials} == {"stopped early"}
    for one in summary.trials:
        assert one.step < one.total_timesteps / 2
        assert re.match(
            rf"target reached at step [\d,]+: mean return .* is at least {TARGET}$", one.stopped
        )
        assert f"{one.trial}: {one.stopped}; saved about {one.saved_usd:.4f} USD" in night["text"]
        assert one.saved_usd > 0
    assert {one["end"] for one in night["attempts"]} == {"stopped_early"}


def test_each_scenarios_guard_is_in_the_report(second: dict[str, Any], store: S3Store) -> None:
    """Verdict and page show each look's guard, and both policies played the same seeds."""
    summary = _summary(second)
    assert summary.verdict is not None
    assert all(set(look.scenarios) == {"sticky"} for look in summary.verdict.looks)
    assert summary.report_uri is not None
    page = get(
        store, summary.report_uri.removeprefix(f"{store.uri}/").removesuffix(".json") + ".html"
    ).data.decode()
    assert "p no more crashes, sticky" in page
    played = _shards_by_evaluation(store, summary)
    gates = {
        name: merge_shards(shards) for name, shards in played.items() if name.startswith("gate-")
    }
    disturbed = {name for name, shard in gates.items() if shard.perturbation.sticky_actions}
    assert len(gates) == 4
    assert {name.removesuffix("--sticky") for name in disturbed} == set(gates) - disturbed
    assert len({(shard.first_seed, len(shard.returns)) for shard in gates.values()}) == 1
    assert all(
        gates[name].returns != gates[name.removesuffix("--sticky")].returns for name in disturbed
    )


def test_stopping_early_and_selecting_never_touch_the_gates_seeds(
    second: dict[str, Any], store: S3Store
) -> None:
    """Stopping and selection use other seeds, and happen before the gate's first episode."""
    summary = _summary(second)
    spec = Spec.from_json(get(store, spec_key(summary.experiment, summary.run)).data)
    seeds: dict[bool, set[int]] = {True: set(), False: set()}
    for name, shards in _shards_by_evaluation(store, summary).items():
        for shard in shards:
            seeds[name.startswith("gate-")].update(
                range(shard.first_seed, shard.first_seed + len(shard.returns))
            )
    assert seeds[False] == set(
        range(
            spec.selection_first_seed,
            spec.selection_first_seed + spec.experiment.evaluation.selection_episodes,
        )
    )
    assert min(seeds[True]) == spec.gate_first_seed
    assert not seeds[True] & seeds[False]


def _shards_by_evaluation(store: S3Store, summary: RunSummary) -> dict[str, list[Shard]]:
    """Return all shards of a run by evaluation."""
    found: dict[str, list[Shard]] = {}
    for item in store.list(f"evaluations/{summary.experiment}/{summary.run}/"):
        if "/shards/" in item.key:
            found.setdefault(item.key.split("/")[3], []).append(
                Shard.from_json(get(store, item.key).data, item.key)
            )
    return found


def test_the_report_has_the_form_that_readme_shows(first: dict[str, Any]) -> None:
    """README's example has the form of this output."""
    shown = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None

    def skeleton(text: str) -> list[str]:
        lines = (
            re.sub(r"[\d.,:+TZ/–-]+", "#", re.sub(r"\s+", " ", line)).strip()
            for line in text.strip().splitlines()
        )
        return [
            re.sub(r"(scheduled|manual)\S*", "run", line).split("p =")[0].split("measured")[0]
            for line in lines
            if line
        ]

    assert skeleton(shown.group(1)) == skeleton(demo.render(first))


@pytest.fixture(scope="module")
def other_experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our DAG files with experiments that stop early, diverge, or have a mistake."""
    root = tmp_path_factory.mktemp("project")
    document = read_shipped("cartpole_ppo")
    thrifty = document | {
        "total_timesteps": 2_000_000,
        "early_stop": {"target_above": TARGET},
        "compute": document["compute"] | {"budget_usd": 5},
        "evaluation": document["evaluation"]
        | {"scenarios": {"sticky": {"perturbation": {"sticky_actions": 0.3}}}},
    }
    wild = document | {
        "trials": 1,
        "hyperparameters": {"n_envs": 8, "n_steps": 32, "learning_rate": 1e30},
    }
    copy_project(
        root, {"cartpole_ppo": thrifty, "wild": wild, "wrong": document | {"total_timestep": 5}}
    )
    return root


def _run_there(folder: Path, dag_id: str) -> None:
    environment = demo.airflow_environment(None) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")
    }
    airflow.run_dag(dag_id, environment)


#: Faults of a delivery: lost, doubled, late or failed, with slow writes.
STORMS = (
    ("lost_event", "count=2"),
    ("duplicate_event", "count=2"),
    ("function_crash", "count=2"),
    ("function_timeout", "count=1"),
    ("throttle", "service=lambda", "action=Invoke*", "count=2"),
    ("slow", "service=s3", "action=PutObject", "key=*/evaluations/*", "seconds=2", "count=2"),
)


def test_lost_doubled_late_or_failed_deliveries_change_no_episode(
    first: dict[str, Any], store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the seconds differ, each shard is written once, and each fault happened."""
    key = version_prefix(demo.EXPERIMENT, 1) + "policy.onnx"
    policy = Artifact(key=key, sha256=sha256_hex(get(store, key).data))
    client = boto3.session.Session().client(
        "lambda", config=Config(read_timeout=910, retries={"total_max_attempts": 1})
    )
    calm = deliveries.gather(store, client, policy, "calm", monkeypatch)
    faults = [_add_fault(*storm) for storm in STORMS]
    try:
        stormy = deliveries.gather(store, client, policy, "stormy", monkeypatch)
        struck = {
            fault["id"]: fault["strikes"] for fault in local_account.call("fault", "list")["faults"]
        }
    finally:
        for fault in faults:
            local_account.call("fault", "clear", fault)
    assert not [STORMS[number] for number, fault in enumerate(faults) if not struck[fault]]
    assert stormy.model_dump_json(exclude={"seconds"}) == calm.model_dump_json(exclude={"seconds"})
    assert len(calm.returns) == deliveries.EPISODES
    shards = deliveries.list_shards(store, "stormy")
    assert len(shards) == deliveries.EPISODES / deliveries.SHARD
    assert _versions(store, shards) == dict.fromkeys(shards, 1)


def _add_fault(kind: str, *words: str) -> str:
    """Set a fault for the evaluator.

    :return: the fault's id
    """
    whom = () if kind in ("throttle", "slow") else (f"function={deliveries.FUNCTION}",)
    return str(local_account.call("fault", "add", kind, *whom, *words)["faults"][-1]["id"])


def _versions(store: S3Store, keys: list[str]) -> dict[str, int]:
    """Count the writes of each key in the versioned bucket."""
    client = Account().client("s3")
    return {
        key: len(client.list_object_versions(Bucket=store.bucket, Prefix=key)["Versions"])
        for key in keys
    }


def test_a_failed_training_is_a_red_run_with_its_cause_and_no_machine_left(
    first: dict[str, Any], other_experiments: Path
) -> None:
    """A successful teardown does not hide the failed training."""
    with pytest.raises(StepFailedError):
        _run_there(other_experiments, "retrain_wild")
    night = demo.read_night("wild")
    trial = RunSummary.model_validate(night["summary"]).trials[0]
    assert trial.state == "failed"
    assert trial.n_attempts == 1
    assert night["instances_left"] == []
    log = (airflow.log_folder() / "retrain_wild.log").read_text()
    assert re.search(r"diverged|not finite|NaN", log)


def test_a_bad_file_is_a_dag_that_explains_the_error(
    first: dict[str, Any], other_experiments: Path
) -> None:
    """One line has the file, the key and the allowed values, and other DAGs run."""
    with pytest.raises(StepFailedError):
        _run_there(other_experiments, "retrain_wrong")
    log = (airflow.log_folder() / "retrain_wrong.log").read_text()
    assert "wrong.yaml: total_timestep: unknown key (did you mean total_timesteps?)" in log


def test_each_unused_permission_has_its_reason(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Each allowed action that no night used is in the reviewed table, and nothing else is."""
    never = {
        role: found["never_used"]
        for role, found in local_account.call("permissions")["roles"].items()
        if role != "administrator"
    }
    table = yaml.safe_load((ROOT / "tests/system/unused_permissions.yaml").read_text())
    explained = {
        role: [pattern for group in groups for pattern in group["actions"]]
        for role, groups in table.items()
    }
    missing = {
        role: [
            action
            for action in actions
            if not any(map(partial(fnmatchcase, action), explained.get(role, [])))
        ]
        for role, actions in never.items()
    }
    assert not any(missing.values()), (
        f"give a reason in unused_permissions.yaml, or take it away: {missing}"
    )
    stale = {
        role: [
            pattern
            for group in groups
            for pattern in group["actions"]
            if not group.get("sometimes")
            and not any(fnmatchcase(action, pattern) for action in never[role])
        ]
        for role, groups in table.items()
    }
    assert not any(stale.values()), (
        f"used by now, or no longer allowed; take it out of unused_permissions.yaml: {stale}"
    )
    assert all(group["reason"] for groups in table.values() for group in groups)


def test_each_answer_of_the_nights_has_the_shape_that_aws_publishes(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """No answer to Airflow, a machine or a function differs from the service's model."""
    answers = local_account.call("status")["answers"]
    assert len(answers["checked"]) > 20
    found = unlike_aws(answers)
    assert not found, sorted(found)


def test_results_of_stacks_are_different_states() -> None:
    """A stack that rolled back is never reported as updated."""
    before = {"a": "CREATE_COMPLETE 1", "b": "CREATE_COMPLETE 1"}
    after = {"a": "UPDATE_COMPLETE 2", "b": "UPDATE_ROLLBACK_COMPLETE 2", "c": "CREATE_COMPLETE 2"}
    assert stack_outcomes(before, after) == {
        "a": "updated",
        "b": "update_rollback_complete",
        "c": "created",
    }
