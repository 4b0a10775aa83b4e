"""Whole nights on the local AWS, through the DAGs, as the Airflow worker: the first, the second, and a bad one."""

import re
import shutil
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop import airflow, demo, twin
from laptop.errors import StepFailedError
from laptop.report import stack_outcomes
from rl_lifecycle.gates import Decision
from rl_lifecycle.summaries import RunSummary
from tests.conftest import ROOT

pytestmark = [pytest.mark.system, pytest.mark.local_aws, pytest.mark.airflow]


def _night() -> dict[str, Any]:
    return demo.run_demo([demo.EXPERIMENT], None, lambda line: None)


def _summary(night: dict[str, Any]) -> RunSummary:
    return RunSummary.model_validate(night["nights"][demo.EXPERIMENT]["summary"])


@pytest.fixture(scope="module")
def first(night_state: Path) -> dict[str, Any]:
    """The first night of a fresh account."""
    return _night()


@pytest.fixture(scope="module")
def second(first: dict[str, Any]) -> dict[str, Any]:
    """The night after."""
    return _night()


def test_a_first_night_ends_with_a_champion_that_earned_it(first: dict[str, Any]) -> None:
    """All stacks are made, all trials are trained, the first champion proved the absolute bar, and no machine is left."""
    assert set(first["stacks"].values()) == {"created"}
    assert [name.rsplit("-", 1)[-1] for name in first["stacks"]] == ["identity", "network", "storage", "training", "evaluation"]
    summary = _summary(first)
    assert {one.state for one in summary.trials} == {"finished"}
    assert all(one.step >= one.total_timesteps and one.usd > 0 for one in summary.trials)
    assert summary.verdict is not None
    assert summary.verdict.decision is Decision.PROMOTE
    assert (summary.champion_version, summary.champion_of_this_run) == (1, True)
    assert first["nights"][demo.EXPERIMENT]["instances_left"] == []


def test_trials_train_side_by_side(first: dict[str, Any]) -> None:
    """Two machines were up at the same time, although `airflow dags test` runs mapped tasks one after another."""
    spans = [(one["launched_at"], one["ended_at"]) for one in first["nights"][demo.EXPERIMENT]["attempts"]]
    assert len(spans) >= 2
    assert max(begin for begin, _ in spans[:2]) < min(end for _, end in spans[:2])


def test_a_second_night_changes_no_stack_and_meets_the_champion(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Other seeds, the same infrastructure, and a decision between two policies with its reason."""
    assert set(second["stacks"].values()) == {"unchanged"}
    summary = _summary(second)
    assert summary.run != _summary(first).run
    assert summary.verdict is not None
    assert summary.verdict.decision in {Decision.PROMOTE, Decision.KEEP, Decision.INCONCLUSIVE}
    assert summary.verdict.mean_champion is not None
    assert summary.verdict.reason
    assert summary.champion_version == (2 if summary.verdict.decision is Decision.PROMOTE else 1)
    assert second["nights"][demo.EXPERIMENT]["instances_left"] == []


def test_the_report_has_the_form_that_readme_shows(first: dict[str, Any]) -> None:
    """README's example is this output with other numbers."""
    shown = re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown is not None

    def skeleton(text: str) -> list[str]:
        lines = (re.sub(r"[\d.,:+TZ/–-]+", "#", re.sub(r"\s+", " ", line)).strip() for line in text.strip().splitlines())
        return [re.sub(r"(scheduled|manual)\S*", "run", line).split("p =")[0].split("measured")[0] for line in lines if line]

    assert skeleton(shown.group(1)) == skeleton(demo.render(first))


@pytest.fixture(scope="module")
def other_experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our DAG files beside experiments of other kinds: one that diverges, and one whose file is wrong."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "dags", root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    document = yaml.safe_load((ROOT / "experiments/cartpole_ppo.yaml").read_text())
    (root / "experiments").mkdir()
    wild = document | {"trials": 1, "hyperparameters": {"n_envs": 8, "n_steps": 32, "learning_rate": 1e30}}
    (root / "experiments/wild.yaml").write_text(yaml.safe_dump(wild))
    (root / "experiments/wrong.yaml").write_text(yaml.safe_dump(document | {"total_timestep": 5}))
    return root


def _run_there(folder: Path, dag_id: str) -> None:
    environment = demo.airflow_environment(None) | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")}
    airflow.run_dag(dag_id, environment)


def test_a_failed_training_is_a_red_run_with_its_cause_and_no_machine_left(
        first: dict[str, Any], other_experiments: Path) -> None:
    """The teardown is good, and the run is red all the same: nobody learns in the morning that nothing was trained."""
    with pytest.raises(StepFailedError):
        _run_there(other_experiments, "retrain_wild")
    night = demo.read_night("wild")
    trial = RunSummary.model_validate(night["summary"]).trials[0]
    assert trial.state == "failed"
    assert trial.n_attempts == 1
    assert night["instances_left"] == []
    log = (airflow.log_folder() / "retrain_wild.log").read_text()
    assert re.search(r"diverged|not finite|NaN", log)


def test_a_wrong_file_is_a_dag_that_explains_itself_beside_the_others(first: dict[str, Any], other_experiments: Path) -> None:
    """One line: file, key, what is allowed."""
    with pytest.raises(StepFailedError):
        _run_there(other_experiments, "retrain_wrong")
    log = (airflow.log_folder() / "retrain_wrong.log").read_text()
    assert "wrong.yaml: total_timestep: unknown key (did you mean total_timesteps?)" in log


def test_what_a_role_may_and_no_night_used_has_its_reason(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Per role: each allowed action that none of these nights used stands in the reviewed table, and nothing else does."""
    never = {role: found["never_used"] for role, found in twin.call("permissions")["roles"].items() if role != "administrator"}
    table = yaml.safe_load((ROOT / "tests/system/unused_permissions.yaml").read_text())
    explained = {role: [pattern for group in groups for pattern in group["actions"]] for role, groups in table.items()}
    missing = {role: [action for action in actions if not any(map(partial(fnmatchcase, action), explained.get(role, [])))]
               for role, actions in never.items()}
    assert not any(missing.values()), f"give a reason in unused_permissions.yaml, or take it away: {missing}"
    stale = {role: [pattern for pattern in patterns if not any(fnmatchcase(action, pattern) for action in never[role])]
             for role, patterns in explained.items()}
    assert not any(stale.values()), f"used by now, or no longer allowed; take it out of unused_permissions.yaml: {stale}"
    assert all(group["reason"] for groups in table.values() for group in groups)


def test_outcomes_of_stacks_are_told_apart() -> None:
    """A stack that rolled back is never called updated."""
    before = {"a": "CREATE_COMPLETE 1", "b": "CREATE_COMPLETE 1"}
    after = {"a": "UPDATE_COMPLETE 2", "b": "UPDATE_ROLLBACK_COMPLETE 2", "c": "CREATE_COMPLETE 2"}
    assert stack_outcomes(before, after) == {"a": "updated", "b": "update_rollback_complete", "c": "created"}
