"""The home page as a browser gets it: Airflow's part, the bucket's part, and the machines."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rl_airflow.console.answers import wait_for
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.console.home_page import HomeReading, MonthOfExperiment, PermittedDags, compose_home
from rl_airflow.console.machine_list import mark_orphans, read_machines
from rl_airflow.machines.instances import Machines
from tests.plugins.console.stored_console import NOW, CountingStore, view_of
from tests.plugins.worlds import World

if TYPE_CHECKING:
    from fastapi import FastAPI

DAG = "retrain_cartpole_ppo"


@pytest.fixture(scope="module")
def vera(airflow_app: "FastAPI") -> Any:
    """A viewer's browser."""
    from airflow.api_fastapi.app import get_auth_manager
    from fastapi.testclient import TestClient

    from tests.plugins.console.restricted_access import VIEWER

    token = get_auth_manager().generate_jwt(VIEWER)
    return TestClient(airflow_app, headers={"Authorization": f"Bearer {token}"})


def machines_of(world: World) -> list[dict[str, Any]]:
    """The machines of a world, as the console lists them."""
    viewed = view_of(world.store)
    return read_machines(
        ViewedEnvironment("dev", viewed.store, world.store, Machines(world.ec2, "dev")), world.time
    )


def test_a_machine_shows_what_it_reported() -> None:
    """Until its trainer reports, it is starting."""
    world = World(trials=1)
    world.look()
    (before,) = machines_of(world)
    assert (before["state"], before["step"], before["dag_id"]) == ("starting", None, DAG)
    world.beat(step=5000)
    world.pass_time(90)
    (after,) = machines_of(world)
    assert (after["state"], after["step"], after["silent_s"]) == ("training", 5000, 90)
    assert (after["run"], after["trial"], after["seat"]) == ("night-1", "seed-0", 0)
    assert (after["orphan"], after["attempt"]) == (False, 1)


def test_an_orphan_is_past_its_deadline_or_its_run_has_ended() -> None:
    """A machine of an active run within its time is none."""
    world = World(trials=1)
    world.look()
    (one,) = machines_of(world)
    assert not mark_orphans([one], {(DAG, "night-1")})[0]["orphan"]
    assert mark_orphans([one], {(DAG, "night-2")})[0]["orphan"]
    world.pass_time(timedelta(days=2).total_seconds())
    (late,) = machines_of(world)
    assert mark_orphans([late], {(DAG, "night-1")})[0]["orphan"]


def test_money_and_machines_of_other_experiments_are_not_shown() -> None:
    """Also those of experiments that have no DAG any more."""
    world = World(trials=1)
    world.look()
    reading = HomeReading(
        months={"cartpole_ppo": MonthOfExperiment(1.0, 2, 1), "gone": MonthOfExperiment(4.0, 1, 0)},
        machines=tuple(machines_of(world)),
    )

    def page(*permitted: str, gone: bool = False) -> dict[str, Any]:
        permissions = PermittedDags(permitted, {DAG, "retrain_other"}, lambda _: gone)
        return compose_home(reading, [], {}, set(), permissions, NOW)

    shown = {name: page(DAG)[name] for name in ("usd_month", "n_runs", "champions")}
    assert shown == {"usd_month": 1.0, "n_runs": 2, "champions": 1}
    assert len(page(DAG)["machines"]) == 1
    assert (page("retrain_other")["usd_month"], page("retrain_other")["machines"]) == (0, [])
    assert page(DAG, gone=True)["usd_month"] == 5.0
    assert page("retrain_other", gone=True)["usd_month"] == 4.0


def test_a_machine_of_a_replay_belongs_to_the_replays_dag() -> None:
    """Its experiment has no page, and it is an orphan only after the end of the replay's run."""
    world = World(trials=1)
    world.look()
    (one,) = world.ec2.machines.values()
    run = "cartpole_ppo-r1"
    one.tags |= {"nightshift:experiment": "replay", "nightshift:run": run}

    def shown(active: set[tuple[str, str]], permitted: str) -> list[tuple[str, bool]]:
        reading = HomeReading(machines=tuple(machines_of(world)))
        permissions = PermittedDags({permitted}, {"replay_champion", "replay_cartpole_ppo"}, bool)
        page = compose_home(reading, [], {}, active, permissions, NOW)
        return [(machine["dag_id"], machine["orphan"]) for machine in page["machines"]]

    by_form, scheduled = "replay_champion", "replay_cartpole_ppo"
    assert shown({(by_form, run)}, by_form) == [(by_form, False)]
    assert shown({(scheduled, run)}, scheduled) == [(scheduled, False)]
    assert shown({(scheduled, run)}, by_form) == []
    assert shown(set(), by_form) == [(by_form, True)]


@pytest.mark.airflow
def test_an_active_replay_has_the_name_that_its_machine_has(airflow_app: "FastAPI") -> None:
    """The form names the experiment, which comes first in the name of the run."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.settings import Session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    from rl_airflow.console.airflow_facts import read_active_runs

    session: Any = Session()
    dag: Any = SerializedDagModel.get("replay_champion", session=session).dag  # type: ignore[union-attr]
    run = dag.create_dagrun(
        run_id="r1",
        run_after=NOW,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        conf={"experiment": "cartpole_ppo"},
        session=session,
    )
    session.commit()
    try:
        assert ("replay_champion", "cartpole_ppo-r1") in read_active_runs(session)
    finally:
        session.delete(run)
        session.commit()


@pytest.mark.airflow
def test_the_home_page_joins_airflow_and_the_bucket(vera: Any) -> None:
    """An experiment that never ran has only Airflow's part."""
    page = vera.get("/nightshift/api/home").json()
    assert (page["problem"], page["month"]) == ("", "2026-11")
    rows = {row["experiment"]: row for row in page["experiments"]}
    ours, other = rows["cartpole_ppo"], rows["lunarlander_ppo"]
    assert (ours["problem"], ours["champion"]["version"]) == ("", 2)
    assert 0 < ours["usd_month"] == pytest.approx(page["usd_month"])
    assert (other["champion"], other["decision"], other["curve"]) == (None, None, [])
    assert set(ours) == set(other)
    assert "T" in page["at"]


@pytest.mark.airflow
def test_runs_are_compared_by_the_settings_in_which_they_differ(vera: Any) -> None:
    """The stored nights trained for other lengths; their names and seeds are no difference."""
    address = f"/nightshift/api/experiments/{DAG}/compare?run_id=night-1&run_id=night-2"
    page = vera.get(address).json()
    assert [run["run"] for run in page["runs"]] == ["night-1", "night-2"]
    differences = {row["key"]: row["values"] for row in page["differences"]}
    assert differences["total_timesteps"] == [5120, 15360]
    assert differences["champion_version"] == [None, 1]
    assert not {"run", "run_id", "name", "created_at"} & differences.keys()


@pytest.mark.airflow
def test_a_slow_bucket_costs_one_sentence_and_no_page(
    vera: Any, bucket: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages keep Airflow's part, and say that they ask again.

    This comes before the bucket that is away, because that one is not asked again for seconds.
    """
    monkeypatch.setattr(wait_for, "__defaults__", (0.2,))
    place = f"/nightshift/api/experiments/{DAG}"
    bucket.answers.clear()
    try:
        for path in ("", "/run?run_id=slow-1"):
            page = vera.get(place + path).json()
            assert "the page asks again by itself" in page["problem"]
            assert page["dag_id"] == DAG
    finally:
        bucket.answers.set()


@pytest.mark.airflow
def test_a_bucket_that_is_away_leaves_airflows_part(
    airflow_app: "FastAPI", vera: Any, bucket: CountingStore
) -> None:
    """Each page says it in `problem`, and what goes through the bucket alone answers 503."""
    place = f"/nightshift/api/experiments/{DAG}"
    bucket.away = True
    try:
        run = vera.get(f"{place}/run?run_id=night-3").json()
        assert run["problem"].startswith("The bucket does not answer")
        answer = vera.get(f"{place}/log?run_id=night-2&trial=seed-0&attempt=1&offset=1")
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("The bucket does not answer")
    finally:
        bucket.away = False
