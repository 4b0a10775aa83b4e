"""What the pages show of a real night, and one sentence in place of what cannot be read."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rl_airflow.console.airflow_facts import AirflowRun, DagFacts
from rl_airflow.console.decisions import explain_look
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.console.experiment_page import MOST_RUNS, read_experiment_page
from rl_airflow.console.home_page import HomeReading, read_home
from rl_airflow.console.run_files import find_report_page, read_log
from rl_airflow.console.run_page import EMPTY_RUN, read_run
from rl_airflow.errors import EnvironmentNotReadyError
from rl_lifecycle.evaluation.verdicts import Look
from rl_lifecycle.storage.layout import (
    TrialId,
    champion_key,
    history_prefix,
    ledger_key,
    ledger_prefix,
    shard_key,
    spec_key,
    trainer_log_key,
    version_prefix,
)
from tests.plugins.console.stored_console import (
    DAG_ID,
    EXPERIMENT,
    NOW,
    CountingStore,
    view_of,
    write_bucket,
)

RUNNING = AirflowRun("night-3", "running", NOW - timedelta(minutes=5))
DAG = DagFacts(DAG_ID, EXPERIMENT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bucket of a real night as a folder: two nights that were judged, one that trains."""
    write_bucket(tmp_path / "bucket")
    return tmp_path / "bucket"


@pytest.fixture
def bucket(folder: Path) -> CountingStore:
    """The same as a store."""
    from rl_lifecycle.storage.directory_store import DirectoryStore

    return CountingStore(DirectoryStore(folder))


@pytest.fixture
def viewed(bucket: CountingStore) -> ViewedEnvironment:
    """The environment of the bucket."""
    return view_of(bucket)


def home(viewed: ViewedEnvironment, *experiments: str, newest: AirflowRun = RUNNING) -> HomeReading:
    """Read the home page while the third night trains."""
    names = experiments or (EXPERIMENT,)
    return read_home(lambda: viewed, dict.fromkeys(names, newest), NOW)


def experiment_page(viewed: ViewedEnvironment, *known: AirflowRun) -> dict[str, Any]:
    """Read the experiment's page."""
    page = read_experiment_page(viewed, DAG, known)
    json.dumps(page, allow_nan=False)
    return page


def run_page(viewed: ViewedEnvironment, run: str, known: AirflowRun | None = None) -> Any:
    """Read a run's page."""
    page = read_run(viewed, EXPERIMENT, DAG_ID, run, known, NOW)
    json.dumps(page, allow_nan=False)
    return page


def test_the_home_page_shows_the_last_decision_while_another_night_trains(
    viewed: ViewedEnvironment,
) -> None:
    """The newest run is not judged yet, and hides nothing."""
    reading = home(viewed)
    row = reading.rows[EXPERIMENT]
    assert (reading.problem, row["problem"]) == ("", "")
    assert (row["environment_id"], row["algo"]) == ("CartPole-v1", "ppo")
    assert (row["champion"]["version"], row["champion"]["move"]) == (2, "promoted")
    decision = row["decision"]
    assert (decision["run_id"], decision["decision"]) == ("night-2", "PROMOTE")
    assert decision["words"].startswith(
        "The candidate goes into service: after 100 pairs the candidate is better"
    )
    assert [look["n"] for look in decision["looks"]] == [50, 100]
    assert [step for step, _ in row["curve"]] == [5120, 10240, 15360]
    month = reading.months[EXPERIMENT]
    assert (month.n_runs, month.champions, month.usd > 0) == (3, 2, True)


def test_a_run_shows_its_evidence(viewed: ViewedEnvironment) -> None:
    """Curves, pairs, machines and cost come from the records that decided."""
    page = run_page(viewed, "night-2")
    assert page["problem"] == ""
    assert page["pairs"]["n"] == page["decision"]["n_pairs"] == 100
    candidate, champion = page["pairs"]["candidate"], page["pairs"]["champion"]
    assert sum(candidate) / 100 == pytest.approx(page["decision"]["mean_candidate"])
    assert sum(champion) / 100 == pytest.approx(page["decision"]["mean_champion"])
    (trial,) = page["trials"]
    assert (trial["trial"], trial["state"], trial["step"]) == ("seed-0", "finished", 15_360)
    (attempt,) = trial["attempts"]
    assert (attempt["instance_type"], attempt["end"]) == ("c7i.large", "finished")
    assert attempt["has_log"]
    assert page["cost"]["usd"] == pytest.approx(trial["usd"])
    (curve,), (recorded,) = page["selection"], page["training"]
    assert [point["step"] for point in curve["points"]] == [5120, 10240, 15360]
    assert len(recorded["points"]) > 3
    assert page["spec"]["hyperparameters.n_steps"] == 1024
    assert (page["has_page"], page["live"]) == (True, False)


def test_a_decision_that_waits_for_approval_does_not_claim_to_be_in_service(
    viewed: ViewedEnvironment, folder: Path
) -> None:
    """The gate said PROMOTE, but only a person's answer puts the candidate into service."""
    spec = folder / spec_key(EXPERIMENT, "night-2")
    text = spec.read_text()
    assert '"approval":false' in text
    spec.write_text(text.replace('"approval":false', '"approval":true'))
    for decision in (run_page(viewed, "night-2")["decision"], home(viewed).rows[EXPERIMENT]):
        words = decision.get("words") or decision["decision"]["words"]
        assert words.startswith("The candidate goes into service if a person approves: after")


@pytest.mark.parametrize(
    ("difference", "words"),
    [(2.5, "is 2.5 above the champion"), (-1.0, "is 1 below the"), (0.0, "is as high as the")],
)
def test_a_look_is_explained_in_words(difference: float, words: str) -> None:
    """A tie is neither above nor below."""
    look = Look(
        n=50,
        alpha=0.005,
        mean_difference=difference,
        p_better=1.0,
        p_guard=0.0,
        p_worse=1.0,
        p_guard_broken=1.0,
        crashes_candidate=0,
        crashes_champion=0,
        lost=0,
    )
    assert words in explain_look(look, against_bar=False)


def test_a_night_that_trains_is_live_and_has_no_decision(viewed: ViewedEnvironment) -> None:
    """Also if Airflow does not know the run: then its machines' reports count."""
    for known in (RUNNING, None):
        page = run_page(viewed, "night-3", known)
        assert (page["problem"], page["decision"], page["pairs"]) == ("", None, None)
        assert page["live"]
        assert page["trials"][0]["state"] == "training"


def test_an_experiment_shows_its_champions_runs_and_costs(viewed: ViewedEnvironment) -> None:
    """The newest comes first everywhere. Airflow has deleted the first two runs."""
    page = experiment_page(viewed, RUNNING)
    assert page["problem"] == ""
    assert [run["run_id"] for run in page["runs"]] == ["night-3", "night-2", "night-1"]
    assert [run["state"] for run in page["runs"]] == ["running", None, None]
    assert [run["promoted_version"] for run in page["runs"]] == [None, 2, 1]
    assert [run["decision"] for run in page["runs"]] == [None, "PROMOTE", "PROMOTE"]
    first, last = page["history"][-1], page["history"][0]
    assert (last["to_version"], last["mean_candidate"], last["mean_champion"]) == (
        2,
        pytest.approx(462.84),
        pytest.approx(400.58),
    )
    assert (first["from_version"], first["mean_champion"]) == (None, None)
    assert [one["in_service"] for one in page["versions"]] == [True, False]
    costs = {run["promoted_version"]: run["usd"] for run in page["runs"]}
    assert {one["version"]: one["usd"] for one in page["versions"]} == {1: costs[1], 2: costs[2]}
    assert [move["usd"] for move in page["history"]] == [costs[2], costs[1]]
    assert [night["run_id"] for night in page["nights"]] == ["night-3", "night-2", "night-1"]
    assert [month["month"] for month in page["costs"]["months"]] == ["2026-11"]


def test_a_run_that_began_in_the_month_before_its_spec_has_its_cost(
    viewed: ViewedEnvironment,
) -> None:
    """The ledger is in the month in which the spec was frozen."""
    began = datetime(2026, 11, 1, tzinfo=UTC) - timedelta(seconds=5)
    known = [AirflowRun(f"night-{number}", "success", began) for number in (1, 2, 3)]
    runs = {run["run_id"]: run for run in experiment_page(viewed, *known)["runs"]}
    assert runs["night-2"]["usd"] > 0


def test_a_second_look_reads_only_what_changed(
    viewed: ViewedEnvironment, bucket: CountingStore
) -> None:
    """Only what may have changed is read again: pointer and reports of machines."""
    for look in (
        lambda: run_page(viewed, "night-2"),
        lambda: experiment_page(viewed),
        lambda: home(viewed),
    ):
        look()
        bucket.found.clear()
        look()
        assert set(bucket.found) <= {
            champion_key(EXPERIMENT),
            ledger_key("2026-11", EXPERIMENT, "night-2"),
        }


def test_a_row_is_read_again_when_its_run_changes(
    viewed: ViewedEnvironment, bucket: CountingStore
) -> None:
    """Until then one GET shows whether the champion moved. A row with a problem is not kept."""
    home(viewed)
    bucket.listed.clear()
    home(viewed)
    assert bucket.listed == [ledger_prefix("2026-11")]
    home(viewed, newest=RUNNING._replace(state="success"))
    assert len(bucket.listed) > 2
    bucket.found.clear()
    home(viewed)
    assert champion_key(EXPERIMENT) in bucket.found


def test_a_bucket_that_is_away_is_said_once(
    viewed: ViewedEnvironment, bucket: CountingStore
) -> None:
    """The home page says it for all rows. Nothing is asked hundreds of times."""
    bucket.away = True
    reading = home(viewed, *(f"experiment-{n}" for n in range(200)))
    assert reading.problem.startswith("The bucket does not answer (")
    assert reading.problem.endswith("The page asks again by itself.")
    assert reading.rows == {}
    page = run_page(viewed, "night-2")
    assert page["problem"] == experiment_page(viewed)["problem"] != ""
    assert page["trials"] == []
    assert len(bucket.found) + len(bucket.listed) == 1


def test_a_bucket_of_another_environment_is_one_sentence(
    viewed: ViewedEnvironment, bucket: CountingStore
) -> None:
    """The viewer of one environment may not read the bucket of another."""
    bucket.refuses = True
    pages = run_page(viewed, "night-2"), experiment_page(viewed)
    for problem in (home(viewed).problem, *(page["problem"] for page in pages)):
        assert problem.startswith("The bucket may not be read (")
        assert problem.count("DAG bootstrap_infrastructure") == 1


def test_an_environment_that_cannot_be_opened_is_one_sentence() -> None:
    """For example if it was never deployed."""

    def fail() -> ViewedEnvironment:
        raise EnvironmentNotReadyError("dev", "its viewer's session could not be opened")

    reading = read_home(fail, {EXPERIMENT: None}, NOW)
    assert reading.problem == (
        "environment 'dev': its viewer's session could not be opened; trigger the DAG "
        "bootstrap_infrastructure."
    )


def test_a_run_without_a_spec_says_which_task_made_none(viewed: ViewedEnvironment) -> None:
    """A run is queued, or its first task failed."""
    known = AirflowRun("manual__2026-11-29T23:00:00+00:00", "failed", NOW)
    page = run_page(viewed, known.run, known)
    assert "freeze_spec" in page["problem"]
    assert (page["run_id"], page["state"], page["live"]) == (known.run_id, "failed", False)
    assert {key: page[key] for key in EMPTY_RUN} == EMPTY_RUN


def test_a_half_written_run_shows_what_is_there(viewed: ViewedEnvironment, folder: Path) -> None:
    """A shard is cut, a heartbeat is damaged, the ledger and the attempts are not there yet."""
    (folder / shard_key(EXPERIMENT, "night-2", "select-seed-0-5120", 0)).write_bytes(b'{"schema')
    (folder / "heartbeats" / EXPERIMENT / "night-2" / "seed-0.json").write_bytes(b"{}")
    (folder / ledger_key("2026-11", EXPERIMENT, "night-2")).unlink()
    shutil.rmtree(folder / "attempts" / EXPERIMENT / "night-2")
    page = run_page(viewed, "night-2")
    assert page["problem"].startswith("An evaluation is left out of the curves (")
    assert page["trials"][0]["attempts"] == []
    assert page["trials"][0]["state"] == "unreadable heartbeat"
    assert page["cost"]["usd"] == 0.0
    assert [point["step"] for point in page["selection"][0]["points"]] == [10240, 15360]
    assert page["decision"]["decision"] == "PROMOTE"


def test_a_pointer_that_was_edited_costs_only_the_champion(
    viewed: ViewedEnvironment, folder: Path
) -> None:
    """The history comes from its own files, and a decision from its report."""
    pointer = folder / champion_key(EXPERIMENT)
    text = pointer.read_text()
    for edited in (
        text.replace('"version":2', '"version":1'),
        "no JSON",
        text.replace("96f8", "00"),
    ):
        assert edited != text
        pointer.write_text(edited)
        page, row = experiment_page(viewed), home(viewed).rows[EXPERIMENT]
        assert page["problem"] == row["problem"] != ""
        assert (page["champion"], row["champion"]) == (None, None)
        assert [move["to_version"] for move in page["history"]] == [2, 1]
        assert row["decision"]["decision"] == "PROMOTE"
        assert not any(one["in_service"] for one in page["versions"])


def test_a_lost_pointer_says_how_to_restore_it(viewed: ViewedEnvironment, folder: Path) -> None:
    """The history says that there is a champion."""
    (folder / champion_key(EXPERIMENT)).unlink()
    assert "restore-champion" in home(viewed).rows[EXPERIMENT]["problem"]


def test_a_version_without_its_manifest_is_named(viewed: ViewedEnvironment, folder: Path) -> None:
    """The champion cannot be checked, and the other version is shown."""
    (folder / version_prefix(EXPERIMENT, 2) / "manifest.json").unlink()
    page = experiment_page(viewed)
    assert "names version 2" in page["problem"]
    assert [one["version"] for one in page["versions"]] == [1]


def test_a_gap_in_the_history_is_named(viewed: ViewedEnvironment, folder: Path) -> None:
    """The champion and the runs are shown."""
    (folder / history_prefix(EXPERIMENT) / "000001.json").unlink()
    page = experiment_page(viewed)
    assert "an entry is missing" in page["problem"]
    assert (page["history"], page["champion"]["version"], len(page["runs"])) == ([], 2, 3)


def test_one_damaged_experiment_hides_no_other(viewed: ViewedEnvironment, folder: Path) -> None:
    """An experiment without any key is new."""
    write_bucket(folder, "another")
    (folder / champion_key("another")).write_bytes(b"?")
    rows = home(viewed, EXPERIMENT, "another", "new").rows
    assert [bool(row["problem"]) for row in rows.values()] == [False, True, False]
    assert rows["new"]["champion"] is None
    assert rows["new"]["decision"] is None


def test_a_deleted_experiment_keeps_its_page(viewed: ViewedEnvironment) -> None:
    """Its file is gone, and its champion may still be in service."""
    gone = DAG._replace(is_stale=True, problem="The experiment has no file any more.")
    page = read_experiment_page(viewed, gone, [])
    assert page["problem"] == gone.problem
    assert page["champion"]["version"] == 2


def test_a_thousand_runs_are_listed_and_more_are_not(
    viewed: ViewedEnvironment, folder: Path
) -> None:
    """The newest are shown, and a run without a readable spec has the name of the bucket."""
    spec = (folder / spec_key(EXPERIMENT, "night-1")).read_bytes()
    for number in range(MOST_RUNS + 20):
        path = folder / spec_key(EXPERIMENT, f"old-{number}")
        path.parent.mkdir(parents=True)
        path.write_bytes(spec.replace(b'"night-1"', f'"old-{number}"'.encode()))
    page = experiment_page(viewed, RUNNING)
    assert len(page["runs"]) == MOST_RUNS
    assert {run["run_id"] for run in page["runs"][-3:]} <= {f"old-{n}" for n in range(2000)} | {
        "night-1",
        "night-2",
        "night-3",
    }
    times = [run["at"] for run in page["runs"]]
    assert times == sorted(times, reverse=True)


def test_hostile_names_arrive_as_they_are(viewed: ViewedEnvironment, folder: Path) -> None:
    """The server changes no text: the pages show it as text."""
    hostile = "<script>alert(1)</script> ✂ \u202e"
    log = folder / trainer_log_key(TrialId(EXPERIMENT, "night-2", "seed-0"), 1)
    log.write_text(json.dumps({"message": hostile}) + "\n" + hostile + "\n")
    machine = TrialId(EXPERIMENT, "night-2", "seed-0")
    assert read_log(viewed, machine, 1, 0)["lines"] == [hostile, hostile]  # type: ignore[index]
    pointer = folder / champion_key(EXPERIMENT)
    value = json.loads(pointer.read_text())
    value["entry"]["who"] = hostile
    pointer.write_text(json.dumps(value))
    assert home(viewed).rows[EXPERIMENT]["champion"]["who"] == hostile


def test_a_curve_with_impossible_numbers_is_still_json(
    viewed: ViewedEnvironment, folder: Path
) -> None:
    """A trainer that diverges records NaN, and a chunk may be cut."""
    chunk = folder / "metrics" / EXPERIMENT / "night-2" / "seed-0" / "000000005120.jsonl"
    points = ['{"step": 1, "rollout/ep_rew_mean": NaN}', '{"step": 2, "rollout/ep_rew_mean": 9}']
    chunk.write_text("\n".join([*points, "[1]", '{"step": true}', '{"rollout/ep_rew']))
    points_shown = run_page(viewed, "night-2")["training"][0]["points"]
    assert points_shown[0] == [2, 9]


def test_a_log_is_read_on_from_where_it_was(viewed: ViewedEnvironment, folder: Path) -> None:
    """Each line comes once, and a line that is not ended waits."""
    machine = TrialId(EXPERIMENT, "night-2", "seed-0")
    log = folder / trainer_log_key(machine, 1)
    lines = [f"line {number} {'x' * 90}" for number in range(6000)]
    log.write_text("\n".join(lines) + "\nnot en")
    seen, offset, answers = list[str](), 0, 0
    while True:
        found = read_log(viewed, machine, 1, offset)
        assert found is not None
        seen, offset, answers = seen + found["lines"], found["next_offset"], answers + 1
        if not found["more"]:
            break
    assert (seen, answers) == (lines, 3)
    tail = read_log(viewed, machine, 1, -1)
    assert tail is not None
    assert tail["lines"] == lines[-len(tail["lines"]) :]
    assert 60_000 < sum(len(line) + 1 for line in tail["lines"]) <= 65_536
    assert tail["next_offset"] == offset
    log.write_text(log.read_text() + "ded\n")
    assert read_log(viewed, machine, 1, offset)["lines"] == ["not ended"]  # type: ignore[index]
    assert read_log(viewed, machine, 2, -1) is None


def test_a_line_longer_than_an_answer_does_not_stop_the_log(
    viewed: ViewedEnvironment, folder: Path
) -> None:
    """It comes in parts."""
    machine = TrialId(EXPERIMENT, "night-2", "seed-0")
    (folder / trainer_log_key(machine, 1)).write_text("y" * 300_000 + "\nend\n")
    first = read_log(viewed, machine, 1, 0)
    assert first is not None
    assert first["more"]
    rest = read_log(viewed, machine, 1, first["next_offset"])
    assert rest is not None
    assert "".join(first["lines"] + rest["lines"][:-1]) == "y" * 300_000
    assert rest["lines"][-1] == "end"


def test_the_page_of_a_decision_is_found(viewed: ViewedEnvironment) -> None:
    """Runs that were not judged have none."""
    page = find_report_page(viewed.store, EXPERIMENT, "night-2")
    assert page is not None
    assert page.startswith(b"<!DOCTYPE html>")
    assert find_report_page(viewed.store, EXPERIMENT, "night-3") is None
