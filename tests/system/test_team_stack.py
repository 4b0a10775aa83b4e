"""A night on a team's Airflow as docker-compose.yaml has it, while its parts die."""

import json
import re
import signal
import subprocess
import tempfile
import textwrap
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
import yaml

from laptop import airflow
from laptop.clean import clean
from laptop.errors import StepFailedError
from laptop.stack.dotenv import LOG_BUCKET
from laptop.stack.team import COMPOSE, TeamStack
from tests.conftest import ROOT
from tests.system.accounts import Account, MachineWatch, check_books
from tests.system.api import EXPERIMENT, NIGHT, Api
from tests.system.faults import ask, queued, triggerer_of, worker_of
from tests.system.projects import copy_project, read_shipped

pytestmark = [pytest.mark.system, pytest.mark.local_aws, pytest.mark.timeout(1800)]

RUN = "a-night-with-faults"
PLACE = f"/api/v2/dags/{NIGHT}/dagRuns/{RUN}"
#: The training lasts longer than Airflow takes to see that a triggerer was killed.
CONF = {
    "trials": 1,
    "total_timesteps": 180_000,
    "max_hours": 1,
    "budget_usd": 5,
    "approval": True,
    "approval_hours": 1,
}
#: User → the roles beside Viewer. The passwords are the same, because they guard nothing.
PEOPLE = {"vera": (), "olga": ("Operator",), "anna": ("Approver",)}
PASSWORD = "a-password-of-a-test"
#: The services that beat in the database, each with one of its processes.
BEATING = {
    "airflow-dag-processor": "airflow-dag-processor",
    "airflow-triggerer": "airflow-triggerer-1",
}
#: Seconds for one step on a busy machine. A quiet one needs a tenth.
PATIENCE_S = 600
DOWN_S = 10


@pytest.fixture(scope="module")
def night_state() -> Iterator[Path]:
    """A state folder that Postgres's user can reach, also where root runs the tests."""
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-team-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("NIGHTSHIFT_STATE", folder)
        yield Path(folder)
        clean()


@pytest.fixture(scope="module")
def stack(night_state: Path) -> Iterator[TeamStack]:
    """The whole stack without its workers, which the night starts itself."""
    shipped = read_shipped(EXPERIMENT)
    easy = {"evaluation": shipped["evaluation"] | {"first_champion_above": 60, "crash_below": 10}}
    dags = copy_project(night_state / "project", {EXPERIMENT: shipped | {"schedule": None} | easy})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        # The cleaner has a test of its own, and one process of the API is enough.
        with TeamStack(
            print,
            dags=dags,
            settings={"AIRFLOW__API__WORKERS": "1"},
            hold=("airflow-worker-1", "airflow-worker-2", "airflow-cleaner"),
        ) as started:
            yield started


@pytest.fixture(scope="module")
def admin(stack: TeamStack) -> Api:
    """The administrator that `airflow-init` made, who gives people their roles."""
    api = Api(stack.url, "admin", stack.password)
    for name, roles in PEOPLE.items():
        api.call(
            "POST",
            "/auth/fab/v1/users",
            {
                "username": name,
                "email": f"{name}@example.org",
                "first_name": name.title(),
                "last_name": "Of the Team",
                "roles": [{"name": role} for role in ("Viewer", *roles)],
                "password": PASSWORD,
            },
        )
    return api


@pytest.fixture(scope="module")
def people(stack: TeamStack, admin: Api) -> dict[str, Api]:
    """Each person, logged in."""
    return {name: Api(stack.url, name, PASSWORD) for name in PEOPLE}


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something is true. :return: it"""
    found: list[Any] = []

    def look() -> bool:
        try:
            found.append(condition())
        except (OSError, ValueError, KeyError):
            return False  # the API is away with the database
        return bool(found[-1])

    assert airflow.wait_for(look, PATIENCE_S, 0.1), what
    return found[-1]


def states(api: Api) -> dict[str, str]:
    """Return the state of each task of the night."""
    found = api._call("GET", f"{PLACE}/taskInstances?limit=100", None)["task_instances"]
    return {one["task_id"]: one["state"] for one in found}


def refused(api: Api, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
    """Say whether a person may not do something."""
    try:
        api._call(method, path, body)
    except urllib.error.HTTPError as error:
        return error.code == 403
    return False


@pytest.fixture(scope="module")
def night(stack: TeamStack, admin: Api, people: dict[str, Api]) -> dict[str, Any]:
    """A whole night, struck four times.

    :return: what happened: when, the machines that worked at once, and who may not do what
    """
    began = time.monotonic()
    until(
        lambda: NIGHT in {dag["dag_id"] for dag in admin.call("GET", "/api/v2/dags")["dags"]},
        "the DAG was not read",
    )
    seen: dict[str, Any] = {"may not": set()}
    with MachineWatch(Account()) as watch:
        _lose_redis_with_a_message(stack, people, seen)
        _kill_a_triggerer(stack, seen)
        _take_postgres_away(stack)
        _stop_the_judging_worker(stack, seen)
        _approve(admin, people, seen)
        seen["state"] = until(
            lambda: (state := admin.call("GET", PLACE)["state"]) in ("success", "failed") and state,
            "the run did not end",
        )
    return seen | {"twice": watch.twice, "seconds": time.monotonic() - began}


def _lose_redis_with_a_message(
    stack: TeamStack, people: dict[str, Api], seen: dict[str, Any]
) -> None:
    """Kill Redis while the first task waits in it for a worker, then start the workers."""
    body = {"logical_date": None, "conf": CONF, "dag_run_id": RUN}
    for name in ("vera", "anna"):
        if refused(people[name], "POST", f"/api/v2/dags/{NIGHT}/dagRuns", body):
            seen["may not"].add((name, "trigger"))
    people["olga"].insist("PATCH", f"/api/v2/dags/{NIGHT}", {"is_paused": False})
    people["olga"].insist("POST", f"/api/v2/dags/{NIGHT}/dagRuns", body)
    before = until(lambda: max(0, queued(stack)), "no task was queued")
    stack.supervisor.kill("redis")
    until(lambda: stack.supervisor.starts("redis") == 2, "Redis was not started again")
    seen["queued"] = (before, until(lambda: max(0, queued(stack)), "the message is lost"))
    for name in stack.names_of("airflow-worker"):
        stack.start("airflow-worker", name)


def _kill_a_triggerer(stack: TeamStack, seen: dict[str, Any]) -> None:
    """Kill the triggerer that waits for the machine; the other one takes the trigger over."""
    killed = until(lambda: triggerer_of(stack, RUN, "await"), "no triggerer waits for the machine")
    stack.supervisor.kill(killed)
    seen["killed triggerer"] = killed
    seen["next triggerer"] = until(
        lambda: (now := triggerer_of(stack, RUN, "await")) != killed and now,
        "no triggerer took over",
    )


def _take_postgres_away(stack: TeamStack) -> None:
    """Stop Postgres at once, as a crash does, and start it ten seconds later."""
    stack.supervisor.stop(["postgres"], signal.SIGQUIT)
    time.sleep(DOWN_S)
    stack.supervisor.start("postgres")


def _stop_the_judging_worker(stack: TeamStack, seen: dict[str, Any]) -> None:
    """Ask the worker that judges to end, as `docker compose up` does with a new image."""

    def judging() -> str | None:
        import psycopg2

        try:
            return worker_of(stack, RUN, "judge")
        except psycopg2.OperationalError:
            return None  # the database starts

    seen["stopped worker"] = until(judging, "judge never ran")
    before = stack.supervisor.starts(seen["stopped worker"])
    stack.supervisor.kill(seen["stopped worker"], signal.SIGTERM)
    seen["restarts"] = threading.Thread(
        target=lambda: seen.update(
            restarted=airflow.wait_for(
                lambda: stack.supervisor.starts(seen["stopped worker"]) > before, PATIENCE_S
            )
        )
    )
    seen["restarts"].start()


def _approve(admin: Api, people: dict[str, Api], seen: dict[str, Any]) -> None:
    """Let a viewer and an operator try to answer, then the approver."""
    place = f"{PLACE}/taskInstances/approve/-1/hitlDetails"
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    until(lambda: states(admin).get("approve") in ("awaiting_input", "deferred"), "nothing asked")
    time.sleep(2)  # Airflow loses an answer that comes before the task has paused
    for name in ("vera", "olga"):
        if refused(people[name], "PATCH", place, answer):
            seen["may not"].add((name, "approve"))
    people["anna"].call("PATCH", place, answer)


def test_a_night_with_four_faults_is_green_on_one_machine(
    stack: TeamStack, night: dict[str, Any]
) -> None:
    """Each fault struck, the run is green, and its one trial had one machine."""
    assert night["state"] == "success"
    assert night["twice"] == set()
    assert len(list(Account().machines(RUN))) == 1
    check_books(Account(), EXPERIMENT, RUN)
    night["restarts"].join()
    assert night["restarted"]
    assert night["queued"] == (1, 1)
    assert night["killed triggerer"] != night["next triggerer"]


def test_an_approver_is_no_administrator_and_is_named(night: dict[str, Any], admin: Api) -> None:
    """Who triggers may not answer, who answers may not trigger, and the record has the name."""
    assert night["may not"] == {
        ("vera", "trigger"),
        ("anna", "trigger"),
        ("vera", "approve"),
        ("olga", "approve"),
    }
    approved = admin.xcom(NIGHT, RUN, "approve")
    assert (approved["approved"], approved["person"]) == (True, "anna")
    assert admin.xcom(NIGHT, RUN, "promote")["outcome"] == "PROMOTED"
    assert admin.call("GET", PLACE)["note"], "the run wrote no note"


def test_the_commands_of_the_page_add_a_person(stack: TeamStack, night: dict[str, Any]) -> None:
    """They are run as docs/team.md has them, and the person can log in with these two roles."""
    page = (ROOT / "docs/team.md").read_text()
    (block,) = re.findall(r"^    URL=.*\n(?:    .*\n)+", page, re.M)
    commands = textwrap.dedent(block).replace('"username": "anna"', '"username": "page"')
    commands = commands.replace("http://127.0.0.1:PORT", stack.url)
    commands = commands.replace("THE-PASSWORD-OF-ADMIN", stack.password)
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    assert {role["name"] for role in added["roles"]} == {"Viewer", "Console", "Approver"}
    page_person = Api(stack.url, "page", "a-password-of-her-own")
    assert page_person.call("GET", "/api/v2/dags")["dags"]


def test_the_api_server_shows_complete_logs_from_s3(
    stack: TeamStack, night: dict[str, Any], admin: Api
) -> None:
    """It shares no disk with workers and triggerers, and shows what both of them wrote."""
    assert not list((stack.state / "homes/airflow-apiserver").rglob("dag_id=*"))
    found = admin.call("GET", f"{PLACE}/taskInstances?limit=100")["task_instances"]
    tasks = {one["task_id"]: one for one in found}
    # What the task's own code writes last, and for `await` what the triggerer writes.
    for task_id, words in {
        "freeze_spec": f"1 trials × {CONF['total_timesteps']:,} steps",
        "await": "steps/s",
        "judge": "report: s3://",
        "promote": "PROMOTED: ",
    }.items():
        text = log_of(admin, tasks[task_id])
        assert f"s3://{LOG_BUCKET}/" in text, f"{task_id}: {text[:2000]}"
        assert words in text, f"{task_id}: {text[:2000]}"


#: Prints the bucket that the viewer lists, then the codes of what AWS refuses.
AS_THE_API_SERVER = """
from botocore.exceptions import ClientError
from rl_airflow.infrastructure.sessions import RoleSession

viewer = RoleSession("viewer", "dev").client("s3")
account = RoleSession(None, "dev").client("sts").get_caller_identity()["Account"]
print(viewer.list_objects_v2(Bucket=f"nightshift-dev-{account}-eu-west-1")["Name"])
for role in ("launcher", "promoter"):
    try:
        RoleSession(role, "dev").client("sts").get_caller_identity()
    except ClientError as error:
        print(error.response["Error"]["Code"])
"""


def test_the_api_server_becomes_the_viewer_and_nothing_else(stack: TeamStack) -> None:
    """With the service's own variables, as the console does it."""
    name = "airflow-apiserver"
    done = subprocess.run(
        [str(stack.python), "-c", AS_THE_API_SERVER],
        env=stack.environment_of(stack.services[name], name),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    bucket, *refused = done.stdout.split()[-3:]
    assert bucket.startswith("nightshift-dev-")
    assert refused == ["AccessDenied", "AccessDenied"]


def log_of(api: Api, instance: dict[str, Any]) -> str:
    """Return the log of all tries of a task, as the UI gets it.

    Airflow counts a try that was queued and never began, and knows nothing else of it.
    """
    task_id, map_index = instance["task_id"], instance["map_index"]
    place = f"{PLACE}/taskInstances/{task_id}"
    mapped = f"/{map_index}" if map_index >= 0 else ""
    tries = api.call("GET", f"{place}{mapped}/tries")["task_instances"]
    query = f"?full_content=true&map_index={map_index}"
    return "\n".join(
        str(api.call("GET", f"{place}/logs/{one['try_number']}{query}"))
        for one in tries
        if one["start_date"]
    )


def test_no_worker_knows_a_secret_of_the_database(stack: TeamStack, night: dict[str, Any]) -> None:
    """The variables that a worker is started with have no password of the metadata database."""
    secrets = {
        name: stack.variables[name]
        for name in ("POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET")
    }
    homes = set()
    for name in stack.names_of("airflow-worker"):
        given = stack.environment_of(stack.services["airflow-worker"], name)
        text = "\n".join(given.values())
        assert stack.variables["REDIS_PASSWORD"] in text
        assert [secret for secret, value in secrets.items() if value in text] == []
        assert list(Path(given["AIRFLOW_HOME"]).iterdir()), f"{name} ran elsewhere"
        homes.add(given["AIRFLOW_HOME"])
    assert len(homes) == 2


def test_composes_health_checks_tell_a_live_service_from_a_missing_one(
    stack: TeamStack, night: dict[str, Any]
) -> None:
    """The commands of the file, with the names that the processes have here."""
    compose = yaml.safe_load(COMPOSE.read_text())["services"]
    checks = {name: compose[name]["healthcheck"]["test"] for name in BEATING}
    for service, name in BEATING.items():
        assert checks[service][:4] == ["CMD", "python", "-m", "airflow_image"]
        check = checks[service][4]
        environment = stack.environment_of(stack.services[service], name)
        assert health(stack, ["python", "-m", "airflow_image", check], environment) == 0
        absent = environment | {"HOSTNAME": "absent"}
        assert health(stack, ["python", "-m", "airflow_image", check], absent) == 1
    kind, line = compose["airflow-worker"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    environment = stack.environment_of(stack.services["airflow-worker"], "airflow-worker-1")
    for name, well in (("airflow-worker-1", True), ("absent", False)):
        here = line.replace("$$", "$").replace("celery@$HOSTNAME", f"{name}@{gethostname()}")
        assert (health(stack, ["sh", "-c", here], environment) == 0) is well


def health(stack: TeamStack, command: list[str], environment: dict[str, str]) -> int:
    """Run a health check as a container does. :return: its exit code"""
    folder = {"PYTHONPATH": str(ROOT)} if command[0] == "python" else {}
    return subprocess.run(
        command, env=environment | folder, cwd=stack.state, capture_output=True, check=False
    ).returncode


def test_old_rows_go_and_the_night_stays(stack: TeamStack, night: dict[str, Any]) -> None:
    """The cleaner deletes what is older than its limit, and says that it is healthy."""
    with pytest.raises(StepFailedError, match="no cleaning has succeeded"):
        stack.run_once("airflow-cleaner", "check-cleaner")
    stack.start("airflow-cleaner", "airflow-cleaner")
    cleaned = Path(
        stack.environment_of(stack.services["airflow-cleaner"], "airflow-cleaner")["TMPDIR"]
    )
    until((cleaned / "airflow-cleaned").exists, "the cleaner did nothing")
    stack.run_once("airflow-cleaner", "check-cleaner")
    assert ask(stack, "SELECT state FROM dag_run WHERE run_id = %s", RUN) == [("success",)]
