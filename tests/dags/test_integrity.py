"""Every DAG parses quickly, is documented, and keeps its ids and task ids."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rl_airflow.dag_builders.params import OPEN_SECTION
from rl_airflow.infrastructure.experiment_paths import SHARDS
from tests.dags.conftest import DAGS, run_python
from tests.plugins.airflow_home import ROOT

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

#: Each DAG's tasks. Airflow stores history by task id, so a renamed task loses its history: change
#: an id only on purpose.
RETRAIN = {
    "freeze_spec",
    "check_environment",
    "launch",
    "await",
    "terminate",
    "select",
    "judge",
    "approve",
    "promote",
    "report",
    "verdict",
}
EXPECTED: dict[str, set[str]] = {
    "bootstrap_infrastructure": {
        "check_access",
        "build_artifacts",
        "upload_artifacts",
        "deploy_identity",
        "deploy_network",
        "deploy_storage",
        "deploy_training",
        "deploy_evaluation",
        "summarise",
    },
    "destroy_infrastructure": {"destroy_environment"},
    "drill_interruption": {
        "freeze_spec",
        "launch",
        "interrupt_machine",
        "await",
        "terminate",
        "prove_none_left",
        "measure",
    },
    "evaluate_policy": {"evaluate"},
    "import_policy": {"freeze_import", "check_environment", "judge", "approve", "import_policy"},
    "reap_orphaned_instances": {"reap_instances", "close_abandoned_runs"},
    "replay_champion": {
        "freeze_replay",
        "launch",
        "await",
        "terminate",
        "prove_none_left",
        "compare",
    },
    "rollback_policy": {"choose", "roll_back"},
}


def expected() -> dict[str, set[str]]:
    """The expected DAGs: those above, and one for each experiment file."""
    return EXPECTED | {
        f"retrain_{path.stem}": RETRAIN for path in (ROOT / "experiments").glob("*.yaml")
    }


def test_every_file_parses(bag: "DagBag") -> None:
    """No DAG file has an import error."""
    assert bag.import_errors == {}


def test_every_dag_and_task_is_the_one_that_is_expected(bag: "DagBag") -> None:
    """No DAG or task is missing, added or renamed."""
    assert {dag_id: set(dag.task_ids) for dag_id, dag in bag.dags.items()} == expected()


def test_every_dag_file_is_listed() -> None:
    """Every file in dags/ creates a DAG of the list above, shares the experiments' DAGs, or shows
    wrong experiment files.
    """
    shards = {f"retrain_{number}" for number in range(2, SHARDS + 1)}
    assert {path.stem for path in DAGS.glob("*.py")} == {
        *EXPECTED,
        "retrain",
        "check_experiments",
        *shards,
    }


@pytest.mark.parametrize("dag_id", sorted(expected()))
def test_a_dag_tells_how_to_trigger_it_and_what_a_failure_means(bag: "DagBag", dag_id: str) -> None:
    """Every DAG has documentation, an owner and tags, and its runs cannot pile up.

    Catch-up is off. A DAG has one active run, unless it only reads or may wait hours for a person.
    """
    dag = bag.dags[dag_id]
    assert "How to trigger it" in (dag.doc_md or "")
    assert "What a failure means" in (dag.doc_md or "")
    assert "nightshift" in dag.tags
    assert not dag.catchup
    assert dag.max_active_runs == {
        "evaluate_policy": 4,
        "rollback_policy": 16,
        "import_policy": 16,
    }.get(dag_id, 1)


def test_the_dag_that_deletes_stands_last_in_the_list(bag: "DagBag") -> None:
    """Airflow sorts by the name that it shows. A newcomer tries the first DAGs of the list."""
    shown = sorted((dag.dag_display_name, dag_id) for dag_id, dag in bag.dags.items())
    assert shown[0][1] == "bootstrap_infrastructure"
    assert shown[-1][1] == "destroy_infrastructure"


def test_forms_propose_the_experiments_that_have_a_file(bag: "DagBag") -> None:
    """Another name can still be typed: versions outlive the file of their experiment."""
    names = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
    for dag_id in ("rollback_policy", "evaluate_policy", "import_policy", "replay_champion"):
        schema = bag.dags[dag_id].params.get_param("experiment").schema
        assert (schema["examples"], "enum" in schema) == (names, False)


@pytest.mark.parametrize("dag_id", sorted(expected()))
def test_what_must_be_filled_in_is_in_the_open_section(bag: "DagBag", dag_id: str) -> None:
    """A form opens with its other sections closed, and *Trigger* is grey while a field is empty."""
    for name, value in bag.dags[dag_id].params.dump().items():
        schema = bag.dags[dag_id].params.get_param(name).schema
        if value in ("", None) and "null" not in schema["type"]:
            assert schema["section"] == OPEN_SECTION, name


@pytest.mark.parametrize("dag_id", sorted(expected()))
def test_every_field_of_a_form_has_title_section_and_description(
    bag: "DagBag", dag_id: str
) -> None:
    """Every form field has a title, a section and a description for a new user."""
    for name, param in bag.dags[dag_id].params.dump().items():
        schema = bag.dags[dag_id].params.get_param(name).schema
        assert schema.get("title"), f"{name} has no title: {param}"
        assert schema.get("section"), f"{name} has no section"
        assert schema.get("description_md"), f"{name} has no description"


def test_tasks_that_wait_may_be_retried(bag: "DagBag") -> None:
    """Waiting tasks may be retried, because Airflow can fail a deferred task itself."""
    for dag_id, dag in bag.dags.items():
        for task in dag.tasks:
            if task.task_id not in ("verdict", "check_access", "measure"):
                assert task.retries >= 2, f"{dag_id}.{task.task_id}"


@pytest.mark.parametrize("experiment", ["cartpole_ppo", "lunarlander_ppo"])
def test_the_teardown_cannot_hide_a_failure(bag: "DagBag", experiment: str) -> None:
    """The last task raises unless all required tasks succeeded, and it decides the run's state.

    It is itself a teardown, because Airflow skips all other tasks of a run that a person marks as
    failed.
    """
    dag = bag.dags[f"retrain_{experiment}"]
    leaves = [task.task_id for task in dag.leaves]
    assert leaves == ["verdict"]
    assert [task.task_id for task in dag.tasks if task.is_teardown] == [
        "report",
        "verdict",
        "terminate",
    ]
    assert [task.task_id for task in dag.tasks if getattr(task, "on_failure_fail_dagrun", 0)] == [
        "verdict"
    ]
    assert not [task for task in dag.tasks if task.is_setup], (
        "a setup task's failure costs all tasks after it, whatever their trigger rules say"
    )


@pytest.mark.parametrize(
    ("dag_id", "working"), [("drill_interruption", "measure"), ("replay_champion", "compare")]
)
def test_the_teardown_of_a_replay_or_drill_cannot_hide_a_failure(
    bag: "DagBag", dag_id: str, working: str
) -> None:
    """The teardown runs after every launch, and its failure fails the run."""
    dag = bag.dags[dag_id]
    assert {task.task_id for task in dag.leaves} == {working, "prove_none_left"}
    proof, teardown = dag.get_task("prove_none_left"), dag.get_task("terminate")
    assert (proof.trigger_rule, proof.upstream_task_ids, teardown.is_teardown) == (
        "all_done",
        {"terminate"},
        True,
    )
    assert not any(task.is_setup for task in dag.tasks)


def test_the_schedule_of_the_file_is_the_dags_in_utc(bag: "DagBag") -> None:
    """The DAG's timetable is the file's schedule in UTC."""
    timetable: Any = bag.dags["retrain_cartpole_ppo"].timetable
    assert (timetable.expression, str(timetable.timezone)) == ("0 2 * * *", "UTC")


PARSE = """
import json, sys, time
import airflow.sdk, airflow.models
from airflow.dag_processing.dagbag import DagBag
began = time.process_time()
bag = DagBag(dag_folder=sys.argv[1] if len(sys.argv) > 1 else {folder!r})
seconds = time.process_time() - began
suspects = ("boto3", "botocore", "torch", "numpy", "gymnasium", "infra_bootstrap.clients")
print(json.dumps({{
    "seconds": seconds,
    "heavy": [name for name in suspects if name in sys.modules],
    "dags": len(bag.dags),
    "errors": len(bag.import_errors),
}}))
"""


def test_parsing_is_quick_and_loads_nothing_heavy() -> None:
    """Parsing takes at most 0.3 s of CPU per file and loads no heavy package."""
    result = json.loads(run_python(PARSE.format(folder=str(DAGS))).splitlines()[-1])
    assert result["heavy"] == []
    assert result["errors"] == 0
    assert result["seconds"] < 0.3 * len(list(DAGS.glob("*.py")))


def copy_project(folder: Path, files: dict[str, str]) -> Path:
    """Copy dags/ beside other experiment files."""
    (folder / "dags").mkdir()
    (folder / "experiments").mkdir()
    (folder / "dags" / "retrain.py").write_text((DAGS / "retrain.py").read_text())
    for name, text in files.items():
        (folder / "experiments" / name).write_text(text)
    return folder / "dags"


def test_a_bad_file_becomes_a_dag_that_explains_the_error(tmp_path: Path) -> None:
    """A bad experiment file becomes a DAG that shows the reason, and other DAGs still parse."""
    from airflow.dag_processing.dagbag import DagBag

    good = (ROOT / "experiments" / "cartpole_ppo.yaml").read_text()
    folder = copy_project(
        tmp_path,
        {
            "good.yaml": good,
            "typo.yaml": good.replace("trials: 2", "trails: 2"),
            "no yaml.yaml": "a: [",
            "empty.yaml": "",
            "Caps.yaml": good,
            "twice.yaml": good + "\ntrials: 5\n",
            "cron.yaml": good.replace("0 2 * * *", "61 2 * * *"),
            "two.yaml": good,
            "two.yml": good,
        },
    )
    bag = DagBag(dag_folder=str(folder))
    assert bag.import_errors == {}
    assert set(bag.dags["retrain_good"].task_ids) == RETRAIN
    broken = {dag_id: dag for dag_id, dag in bag.dags.items() if dag_id != "retrain_good"}
    assert len(broken) == 7
    for dag_id, dag in broken.items():
        assert dag.dag_display_name == f"{dag_id} (broken file: refuses new runs)"
    problems = {dag_id: dag.get_task("freeze_spec").problem for dag_id, dag in broken.items()}
    assert "two.yml is beside it and names the same experiment" in problems["retrain_two"]
    assert "trails: unknown key (did you mean trials?)" in problems["retrain_typo"]
    assert "twice.yaml: trials: is written twice" in problems["retrain_twice"]
    assert all("\n" not in problem and "experiments/" in problem for problem in problems.values())


def test_a_wrong_file_changes_no_task_of_its_dag(tmp_path: Path) -> None:
    """Ids, edges, groups, rules and pools stay, so that Airflow removes no task of a run."""
    from airflow.dag_processing.dagbag import DagBag

    good = (ROOT / "experiments" / "cartpole_ppo.yaml").read_text()
    wrong = good.replace("trials: 2", "trails: 2")
    folder = copy_project(tmp_path, {"good.yaml": good, "typo.yaml": wrong, "empty.yaml": ""})
    dags = DagBag(dag_folder=str(folder)).dags
    shapes = {
        dag_id: {
            task.task_id: (
                sorted(task.downstream_task_ids),
                str(task.trigger_rule),
                task.is_setup,
                task.is_teardown,
                task.pool,
                task.pool_slots,
                task.retries,
                task.task_group and task.task_group.group_id,
            )
            for task in dag.tasks
        }
        for dag_id, dag in dags.items()
    }
    assert shapes["retrain_typo"] == shapes["retrain_empty"] == shapes["retrain_good"]
    assert type(dags["retrain_typo"].timetable).__name__ == "NullTimetable"


def test_a_worker_builds_only_the_dag_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that needs one DAG does not read the other experiment files."""
    from airflow.dag_processing.dagbag import DagBag

    good = (ROOT / "experiments" / "cartpole_ppo.yaml").read_text()
    folder = copy_project(tmp_path, {"one.yaml": good, "two.yaml": good})
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "retrain_two")
    assert list(DagBag(dag_folder=str(folder)).dags) == ["retrain_two"]


@pytest.mark.parametrize("dag_id", sorted(expected()))
def test_a_task_holds_no_copy_of_the_form(bag: "DagBag", dag_id: str) -> None:
    """The form is stored once with its DAG. Copies in tasks would cost most of the parsing time."""
    assert bag.dags[dag_id].params
    assert {task.task_id: dict(task.params) for task in bag.dags[dag_id].tasks if task.params} == {}
