"""Ask the console's routes as people whom Airflow's FAB auth manager keeps, and print the answers.

Run with the Python of a team's image, which has FAB: `python -m tests.plugins.console.fab_answers`.
Standard input has the people and their roles.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.plugins.console.asked_routes import FORBIDDEN, HOME, OF_DAG, ROUTES
from tests.plugins.console.stored_console import NOW, opened_app, write_bucket
from tests.plugins.fake_ec2 import FakeEc2, FakeMachine

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

AUTH_MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
PASSWORD = "a-password-of-a-test"
#: What Airflow's own UI asks before it shows a page of a plugin, and the list of DAGs.
OF_AIRFLOW = ("/api/v2/plugins", "/ui/dags")
#: Experiments with a machine: two with a DAG, one whose file is gone, and the replays.
AT_WORK = ("cartpole_ppo", "lunarlander_ppo", "gone", "replay")


def machines() -> FakeEc2:
    """EC2 with a machine of each experiment."""
    ec2 = FakeEc2(lambda: NOW)
    for number, experiment in enumerate(AT_WORK):
        names = {
            "environment": "dev",
            "experiment": experiment,
            "run": "night-3",
            "trial": "seed-0",
            "attempt": "1",
        }
        tags = {f"nightshift:{name}": value for name, value in names.items()}
        one = FakeMachine(f"i-{number:017x}", "c7i.large", "subnet-a", "spot", tags, NOW)
        ec2.machines[one.instance_id] = one
    return ec2


@contextmanager
def opened() -> Iterator["FastAPI"]:
    """Open Airflow's application with two nights of two experiments."""
    with tempfile.TemporaryDirectory() as folder:
        store = [write_bucket(Path(folder), name) for name in AT_WORK[:2]][-1]
        with opened_app(AUTH_MANAGER, store, machines()) as app:
            yield app


def browser(app: "FastAPI", token: str = "", *, cookie: bool = False) -> "TestClient":
    """Make a browser that shows a token, by header or by cookie."""
    from fastapi.testclient import TestClient

    client = TestClient(app, raise_server_exceptions=False)
    if token and cookie:
        client.cookies.set("_token", token)
    elif token:
        client.headers["Authorization"] = f"Bearer {token}"
    return client


def log_in(app: "FastAPI", name: str) -> str:
    """Log in with the password. :return: the token"""
    answer = browser(app).post("/auth/token", json={"username": name, "password": PASSWORD})
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def add_people(app: "FastAPI", asked: Mapping[str, Any]) -> None:
    """Add an administrator, and through the API the roles and the people."""
    from airflow.api_fastapi.app import get_auth_manager

    manager: Any = get_auth_manager()
    with manager.flask_app.app_context():
        security = manager.security_manager
        admin = security.find_role("Admin")
        assert security.add_user("admin", "A", "D", "admin@example.org", admin, PASSWORD)
    client = browser(app, log_in(app, "admin"))
    for role in asked["roles"]:
        client.post("/auth/fab/v1/roles", json=role).raise_for_status()
    for name, roles in asked["people"].items():
        person = {
            "username": name,
            "email": f"{name}@example.org",
            "first_name": name,
            "last_name": "Of the Team",
            "roles": [{"name": role} for role in roles],
            "password": PASSWORD,
        }
        client.post("/auth/fab/v1/users", json=person).raise_for_status()


def wrong_tokens(app: "FastAPI") -> dict[str, str]:
    """Make tokens that open nothing: name → token."""
    import jwt
    from airflow.api_fastapi.app import get_auth_manager

    manager: Any = get_auth_manager()
    good = log_in(app, "vera")
    claims = jwt.decode(good, options={"verify_signature": False})
    body, _, signature = good.rpartition(".")
    changed = jwt.encode(claims, "another-secret-of-at-least-64-bytes" * 2, "HS512")

    def token_of(user: Any, seconds: int = 600) -> str:
        return str(manager.generate_jwt(user, expiration_time_in_seconds=seconds))

    from airflow.providers.fab.auth_manager.models import User

    return {
        "none": "",
        "no token": "no.such.token",
        "another signature": f"{body}.{signature[::-1]}",
        "another secret": changed,
        "unsigned": jwt.encode(claims, None, "none"),
        "expired": token_of(User(id=int(claims["sub"])), -60),
        "a deleted person": token_of(User(id=999_999)),
        "a locked person": _lock(app),
    }


def _lock(app: "FastAPI") -> str:
    """Lock a person out who has logged in. :return: the token"""
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session

    token = log_in(app, "paul")
    with create_session() as session:
        session.query(User).filter(User.username == "paul").one().active = False
    FabAuthManager.cache.clear()  # it keeps people for half a minute
    return token


def statuses(client: "TestClient") -> dict[str, int]:
    """Ask each route, also about the forbidden experiment."""
    routes = (*ROUTES, *(route.format(dag=FORBIDDEN) for route in OF_DAG), *OF_AIRFLOW)
    return {route: client.get(route).status_code for route in routes}


def main() -> None:
    """Print the answers as JSON."""
    asked = json.load(sys.stdin)
    answers: dict[str, Any] = {"people": {}, "home": {}, "wrong": {}}
    with opened() as app:
        add_people(app, asked)
        for name in ("admin", *asked["people"]):
            client = browser(app, log_in(app, name))
            answers["people"][name] = statuses(client)
            answers["home"][name] = client.get(HOME).json()
        for name, token in wrong_tokens(app).items():
            for cookie in (False, True):
                client = browser(app, token, cookie=cookie)
                answers["wrong"][f"{name}, {'cookie' if cookie else 'header'}"] = statuses(client)
    sys.stdout.write(f"{json.dumps(answers)}\n")


if __name__ == "__main__":
    main()
