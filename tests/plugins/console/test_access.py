"""Who may see what: each route without a login, with wrong ones, and for a restricted user."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.console.asked_routes import FORBIDDEN, OF_ALL, OF_DAG, PERMITTED, ROUTES

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.airflow

Login = Callable[..., "TestClient"]


@pytest.fixture(scope="module")
def login(airflow_app: "FastAPI", tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a browser that shows a token, by header or by cookie."""
    from airflow.api_fastapi.app import get_auth_manager
    from fastapi.testclient import TestClient

    from rl_airflow.console import app

    web = tmp_path_factory.mktemp("web")
    (web / "console.js").write_text("export {};\n")
    (web / "notes.txt").write_text("no part of the console\n")
    (web.parent / "outside.js").write_text("secret\n")

    def made(user: Any = None, *, seconds: int = 600, token: str = "", cookie: bool = False) -> Any:
        client = TestClient(airflow_app)
        if user is not None:
            token = get_auth_manager().generate_jwt(user, expiration_time_in_seconds=seconds)
        if token and cookie:
            client.cookies.set("_token", token)
        elif token:
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "WEB", Path(web))
        yield made


def users() -> Any:
    """The users of the tests."""
    from tests.plugins.console import restricted_access

    return restricted_access


def test_these_are_all_routes(airflow_app: "FastAPI") -> None:
    """A route that is added is tested here, too."""
    from starlette.routing import Mount

    (console,) = (
        route.app
        for route in airflow_app.routes
        if isinstance(route, Mount) and route.path == "/nightshift"
    )
    paths = {route.path for route in console.routes}  # type: ignore[attr-defined]
    tested = {route.partition("?")[0].removeprefix("/nightshift") for route in ROUTES}
    tested = {route.replace(PERMITTED, "{dag_id}") for route in tested}
    assert {path.replace("{file}", "console.js") for path in paths} == tested


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_a_route_needs_a_login(login: Login, route: str, cookie: bool) -> None:
    """Without a token, with a wrong one, and with one that has expired, nothing is shown."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    ada = SimpleAuthManagerUser(username="ada", role="admin")
    assert login().get(route).status_code == 401
    assert login(token="no.such.token", cookie=cookie).get(route).status_code in (401, 403)
    assert login(ada, seconds=-60, cookie=cookie).get(route).status_code == 401
    assert login(ada, cookie=cookie).get(route).status_code == 200


@pytest.mark.parametrize("route", OF_DAG)
def test_a_dag_that_a_user_may_not_read_is_refused(login: Login, route: str) -> None:
    """The restricted user sees one DAG, and a viewer sees both."""
    rita, vera = login(users().RESTRICTED), login(users().VIEWER)
    assert rita.get(route.format(dag=PERMITTED)).status_code == 200
    assert rita.get(route.format(dag=FORBIDDEN)).status_code == 403
    assert vera.get(route.format(dag=FORBIDDEN)).status_code in (200, 404)


def test_the_home_page_shows_only_permitted_experiments(login: Login) -> None:
    """The other user's page is from the same reading, and shows all of them."""
    vera = login(users().VIEWER).get("/nightshift/api/home").json()
    rita = login(users().RESTRICTED).get("/nightshift/api/home").json()
    assert {PERMITTED, FORBIDDEN} <= {row["dag_id"] for row in vera["experiments"]}
    assert [row["dag_id"] for row in rita["experiments"]] == [PERMITTED]


def test_a_report_runs_no_script_and_has_no_session(login: Login) -> None:
    """It comes from the bucket, and a film in it from an experiment's own code."""
    answer = login(users().VIEWER).get(OF_DAG[3].format(dag=PERMITTED))
    assert answer.text.startswith("<!DOCTYPE html>")
    assert answer.headers["Content-Security-Policy"] == (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "file", ["notes.txt", "absent.js", "..%2foutside.js", "%2e%2e/outside.js", "*.js", ""]
)
def test_only_the_consoles_own_files_are_served(login: Login, file: str) -> None:
    """No name leads out of the folder."""
    answer = login(users().VIEWER).get(f"/nightshift/web/{file}")
    assert answer.status_code == 404


def test_a_file_that_a_browser_has_is_not_sent_again(login: Login) -> None:
    """A browser asks each time, so that an upgrade never mixes old and new files."""
    vera = login(users().VIEWER)
    first = vera.get(OF_ALL[0])
    assert first.headers["content-type"].startswith("text/javascript")
    again = vera.get(OF_ALL[0], headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("experiments/reap_orphaned_instances", 404),
        ("experiments/retrain_..", 404),
        ("experiments/retrain_no_such", 404),
        (f"experiments/{PERMITTED}/run", 422),
        (f"experiments/{PERMITTED}/compare?run_id=night-1", 422),
        (f"experiments/{PERMITTED}/report?run_id=night-9", 404),
        (f"experiments/{PERMITTED}/log?run_id=night-2&trial=..&attempt=1", 404),
        (f"experiments/{PERMITTED}/log?run_id=night-2&trial=seed-0&attempt=x", 422),
        (f"experiments/{PERMITTED}/log?run_id=night-2&trial=seed-0&attempt=9", 404),
    ],
)
def test_a_wrong_question_gets_one_sentence(login: Login, question: str, status: int) -> None:
    """It says what is wrong, and what to do."""
    answer = login(users().VIEWER).get(f"/nightshift/api/{question}")
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
