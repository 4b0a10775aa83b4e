"""Who may see what with FAB, the auth manager of a team's Airflow, and with its real roles."""

import json
import os
import re
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from laptop.stack.programs import airflow_python
from tests.conftest import ROOT
from tests.plugins.console.asked_routes import FORBIDDEN, OF_DAG, PERMITTED, ROUTES

pytestmark = pytest.mark.airflow

ONE = "Only cartpole_ppo"
#: User → roles. Nora may read a DAG without its runs, Lena no log, and Paul nothing.
PEOPLE = {
    "vera": ["Viewer"],
    "carl": ["Viewer", "Console"],
    "rita": [ONE],
    "nora": ["Without runs"],
    "lena": ["Without logs"],
    "paul": ["Public"],
}
PLUGINS, DAGS = "/api/v2/plugins", "/ui/dags"
LOG, WEB = OF_DAG[-1], ROUTES[0]


def role_of_the_page() -> dict[str, Any]:
    """The role of docs/team.md for a person who may see one experiment."""
    page = (ROOT / "docs/team.md").read_text()
    (block,) = re.findall(r'^    (\{"name": "Only .*\n(?:    .*\n)+)', page, re.M)
    role: dict[str, Any] = json.loads(block)
    return role


def role_without(name: str, *missing: str) -> dict[str, Any]:
    """The role of the page, without some of its rights."""
    role = role_of_the_page()
    rights = [one for one in role["actions"] if one["resource"]["name"] not in missing]
    return {"name": name, "actions": rights}


@cache
def ask() -> dict[str, Any]:
    """Ask all routes as all people, with the Python of a team's image."""
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    server = compose["services"]["airflow-apiserver"]["environment"]
    roles = [
        role_of_the_page(),
        role_without("Without runs", "DAG Runs"),
        role_without("Without logs", "Task Logs"),
    ]
    folders = (ROOT, *(ROOT / name for name in ("lifecycle", "plugins")))
    done = subprocess.run(
        [airflow_python(), "-m", "tests.plugins.console.fab_answers"],
        input=json.dumps({"people": PEOPLE, "roles": roles}),
        env=os.environ
        | {
            "AIRFLOW__FAB__CUSTOM_ROLES": server["AIRFLOW__FAB__CUSTOM_ROLES"],
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def statuses(name: str, dag_id: str) -> list[int]:
    """What a person got from each route of a DAG."""
    return [ask()["people"][name][route.format(dag=dag_id)] for route in OF_DAG]


@pytest.mark.parametrize("place", ["header", "cookie"])
@pytest.mark.parametrize(
    ("token", "refused"),
    [
        ("none", {401}),
        ("expired", {401}),
        ("no token", {403}),
        ("another signature", {403}),
        ("another secret", {403}),
        ("unsigned", {403}),
        ("a deleted person", {403}),
        ("a locked person", {403}),
    ],
)
def test_a_wrong_token_opens_nothing(token: str, refused: set[int], place: str) -> None:
    """No route of the console, its modules included, answers it."""
    answers = ask()["wrong"][f"{token}, {place}"]
    assert answers.keys() >= set(ROUTES)
    assert set(answers.values()) == refused


def test_roles_that_read_all_dags_see_all_experiments() -> None:
    """Also the machines and the money of an experiment whose file is gone."""
    for name in ("admin", "vera", "carl"):
        assert {*statuses(name, PERMITTED), *statuses(name, FORBIDDEN)} == {200}
        home = ask()["home"][name]
        assert [row["dag_id"] for row in home["experiments"]] == [PERMITTED, FORBIDDEN]
        assert {one["experiment"] for one in home["machines"]} == {
            "cartpole_ppo",
            "lunarlander_ppo",
            "gone",
            "replay",
        }


def test_a_person_who_may_see_one_dag_sees_one_experiment() -> None:
    """Another experiment's pages, report, films, log, machines and money are not shown."""
    assert statuses("rita", PERMITTED) == [200] * len(OF_DAG)
    assert statuses("rita", FORBIDDEN) == [403] * len(OF_DAG)
    home, all_ = ask()["home"]["rita"], ask()["home"]["vera"]
    assert [row["dag_id"] for row in home["experiments"]] == [PERMITTED]
    assert [one["experiment"] for one in home["machines"]] == ["cartpole_ppo"]
    own = home["experiments"][0]["usd_month"]
    assert 0 < home["usd_month"] == own < all_["usd_month"]
    assert home["n_runs"] < all_["n_runs"]


def test_the_console_asks_for_the_rights_that_airflow_asks_for() -> None:
    """Runs need the right to read runs, logs that to read logs, and no right means no page."""
    assert set(statuses("nora", PERMITTED)[:-1]) == {403}
    assert "detail" in ask()["home"]["nora"]
    assert set(statuses("lena", PERMITTED)[:-1]) == {200}
    assert statuses("lena", PERMITTED)[-1] == 403
    assert set(statuses("paul", PERMITTED)) == {403}
    assert "detail" in ask()["home"]["paul"]


def test_the_role_console_opens_the_pages_in_airflows_ui() -> None:
    """The UI asks for the list of plugins, which Airflow's own Viewer may not read."""
    people = ask()["people"]
    may = {name for name in people if people[name][PLUGINS] == 200}
    assert may == {"admin", "carl", "rita", "nora", "lena"}
    assert people["rita"][DAGS] == people["rita"][WEB] == 200
