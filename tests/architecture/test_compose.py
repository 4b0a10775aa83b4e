"""The compose stack is valid and gives each service what it needs, and its image has no torch."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from airflow_image.__main__ import service_of
from airflow_image.services import SECRETS, SERVICES
from laptop.airflow import FOREIGN_WARNINGS
from laptop.stack.compose_file import read_image_variables
from rl_airflow.infrastructure.project_version import COMMIT_VARIABLE, find_commit

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(sys.prefix) / "share/compose/compose/config/compose_spec.json"
#: The longest that one call of a function may take:
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
LAMBDA_S = 900


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as data, with its required variables filled in."""
    text = (ROOT / "docker-compose.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):\?[^}]*\}", r"value-of-\1", text))
    return document


@pytest.fixture(scope="module")
def airflow_services(compose: dict[str, Any]) -> dict[str, Any]:
    """The services that run the project's image."""
    return {name: one for name, one in compose["services"].items() if "build" in one}


def test_the_file_has_the_form_that_compose_asks_for(compose: dict[str, Any]) -> None:
    """The compose file is valid under the schema that docker-compose ships."""
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    assert list(validator.iter_errors(compose)) == []


def test_the_schema_refuses_what_compose_would_refuse(compose: dict[str, Any]) -> None:
    """The schema finds a misspelt key, so the check above can fail."""
    broken = compose | {"services": compose["services"] | {"redis": {"imagee": "redis"}}}
    assert list(jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).iter_errors(broken))


def test_a_celery_airflow_has_all_its_parts(compose: dict[str, Any]) -> None:
    """The stack has every Airflow component, with Postgres and Redis behind them."""
    assert set(compose["services"]) == {
        "postgres",
        "redis",
        "airflow-init",
        "airflow-apiserver",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "airflow-worker",
        "airflow-cleaner",
        "statsd",
    }
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        mounted = {str(volume).split(":")[0] for volume in service.get("volumes", ())}
        named = {volume for volume in mounted if not volume.startswith("./")}
        assert named <= set(compose["volumes"]), name
        assert all((ROOT / file).exists() for file in mounted - named), name


def test_no_secret_has_a_default() -> None:
    """A missing secret stops the stack with a message, because a default would be public."""
    text = (ROOT / "docker-compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) >= set(SECRETS.values())
    assert set(re.findall(r"\$\{(\w+):-[^}]+\}", text)) == set()
    offered = set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.M))
    assert offered == set(re.findall(r"\$\{(\w+):", text))


def test_no_variable_is_for_keys_that_expire() -> None:
    """Keys with a session token expire after hours, and a container keeps what it began with."""
    for file in ("docker-compose.yaml", ".env.example"):
        assert "SESSION_TOKEN" not in (ROOT / file).read_text()


def test_each_service_has_the_secrets_that_it_needs_and_no_other(
    airflow_services: dict[str, Any],
) -> None:
    """The entrypoint's table says what each needs. A worker knows no secret of the database."""
    for name, service in airflow_services.items():
        started, environment = service_of(service["command"]), service["environment"]
        assert started is not None
        assert set(environment) & set(SECRETS) == set(SERVICES[started].secrets), name
    worker = airflow_services["airflow-worker"]["environment"]
    assert not any(
        f"value-of-{secret}" in value
        for secret in ("POSTGRES_PASSWORD", "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET")
        for value in worker.values()
    )
    with_keys = {
        name: service["environment"]["AWS_ACCESS_KEY_ID"]
        for name, service in airflow_services.items()
        if "AWS_ACCESS_KEY_ID" in service["environment"]
    }
    assert with_keys == {
        "airflow-apiserver": "${LOGS_AWS_ACCESS_KEY_ID:-}",
        "airflow-triggerer": "${AWS_ACCESS_KEY_ID:-}",
        "airflow-worker": "${AWS_ACCESS_KEY_ID:-}",
    }


def test_people_log_in_with_a_name_of_their_own(airflow_services: dict[str, Any]) -> None:
    """Not with the auth manager that is meant for development, and there are roles to give."""
    for name, service in airflow_services.items():
        assert service["environment"]["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager"), (
            name
        )
    roles = json.loads(
        airflow_services["airflow-apiserver"]["environment"]["AIRFLOW__FAB__CUSTOM_ROLES"]
    )
    allowed = {
        role: {f"{one['action']} {one['resource']}" for one in entries}
        for role, entries in roles.items()
    }
    answer, trigger = "can_edit HITL Detail", "can_create DAG Runs"
    assert answer in allowed["Approver"]
    assert trigger not in allowed["Approver"]
    assert trigger in allowed["Operator"]
    assert answer not in allowed["Operator"]
    assert allowed["Console"] == {"can_read Plugins"}


def test_every_service_has_limits_and_says_whether_it_is_healthy(compose: dict[str, Any]) -> None:
    """Each has a limit on its memory, and each that stays has a health check and is restarted."""
    for name, service in compose["services"].items():
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if not service.get("profiles"):
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_a_worker_has_memory_for_its_tasks(compose: dict[str, Any]) -> None:
    """A task takes about 230 MB, and each of Celery's processes about 160 MB (measured)."""
    worker = compose["services"]["airflow-worker"]
    tasks = int(worker["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    limit_mb = int(worker["deploy"]["resources"]["limits"]["memory"].removesuffix("m"))
    assert limit_mb >= tasks * 230 + (tasks + 1) * 160
    assert (
        int(worker["environment"]["AIRFLOW__CORE__PARALLELISM"])
        == tasks * worker["deploy"]["replicas"]
    )
    assert compose["services"]["airflow-triggerer"]["deploy"]["replicas"] == 2


def test_a_stopped_worker_may_finish_its_longest_task(compose: dict[str, Any]) -> None:
    """A task may wait for one call of a function. Only then does Docker kill the worker."""
    grace = re.fullmatch(r"(\d+)m", compose["services"]["airflow-worker"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) * 60 > LAMBDA_S


def test_every_airflow_service_has_a_minute_to_stop(airflow_services: dict[str, Any]) -> None:
    """Docker's own ten seconds would kill a scheduler on a busy host."""
    for name, service in airflow_services.items():
        if not service.get("profiles"):
            found = re.fullmatch(r"(\d+)m", service["stop_grace_period"])
            assert found is not None, name
            assert int(found[1]) >= 1, name


def test_a_message_survives_redis(compose: dict[str, Any]) -> None:
    """Redis writes each message to a volume, and a task that is lost all the same starts again."""
    redis = compose["services"]["redis"]
    assert "--appendonly yes" in " ".join(redis["command"])
    assert [volume.split(":")[1] for volume in redis["volumes"]] == ["/data"]
    scheduler = compose["services"]["airflow-scheduler"]["environment"]
    assert int(scheduler["AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"]) == 120


def test_starting_the_stack_migrates_nothing(compose: dict[str, Any]) -> None:
    """Only `run airflow-init` migrates, because old services may still use the database."""
    assert compose["services"]["airflow-init"]["profiles"] == ["init"]
    for name, service in compose["services"].items():
        assert "airflow-init" not in service.get("depends_on", {}), name
        assert "migrate" not in service.get("command", ()), name


def test_logs_metrics_and_built_files_leave_the_containers(
    compose: dict[str, Any], airflow_services: dict[str, Any]
) -> None:
    """Logs go to S3, metrics to a service, and a new worker does not build everything again."""
    for name, service in airflow_services.items():
        environment = service["environment"]
        assert environment["AIRFLOW__LOGGING__REMOTE_LOGGING"] == "True", name
        assert environment["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"], name
        assert environment["AIRFLOW__METRICS__STATSD_HOST"] in compose["services"], name
        assert environment["AIRFLOW__API__BASE_URL"] == "value-of-AIRFLOW_BASE_URL", name
    cache = re.search(r"NIGHTSHIFT_CACHE=(\S+)", (ROOT / "Dockerfile").read_text())
    assert cache is not None
    assert airflow_services["airflow-worker"]["volumes"] == [f"airflow-cache:{cache[1]}"]


def test_the_image_silences_the_same_foreign_warnings_as_a_laptop() -> None:
    """Airflow would write them into the log of each task."""
    variables = read_image_variables(ROOT / "Dockerfile")
    assert variables["PYTHONWARNINGS"].split(",") == list(FOREIGN_WARNINGS)


def test_no_secret_gets_into_the_image() -> None:
    """The file of secrets is not sent to the build."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".env", ".git", ".nightshift"} <= set(ignored)


def test_the_image_knows_the_commit_that_it_was_built_from(
    compose: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image has no git, so a build argument sets the variable that names the commit."""
    assert "ARG NIGHTSHIFT_COMMIT" in (ROOT / "Dockerfile").read_text()
    assert f"ENV {COMMIT_VARIABLE}=${{NIGHTSHIFT_COMMIT}}" in (ROOT / "Dockerfile").read_text()
    assert compose["services"]["airflow-worker"]["build"]["args"] == {
        "NIGHTSHIFT_COMMIT": "${NIGHTSHIFT_COMMIT:-}"
    }
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    assert find_commit(tmp_path) is None
    monkeypatch.setenv(COMMIT_VARIABLE, "a" * 40)
    assert find_commit(tmp_path) == "a" * 40


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    """Every published port is bound to the loopback interface."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8080:8080", "127.0.0.1:9102:9102"]


def test_the_image_is_made_from_the_hashed_lock_and_has_no_torch() -> None:
    """The image installs from the hashed lock, copies existing files, and leaves torch out."""
    lock = (ROOT / "locks/airflow.txt").read_text()
    assert not re.search(r"^(torch|stable-baselines3|gymnasium)==", lock, re.M)
    assert re.search(r"^apache-airflow==3\.3\.2", lock, re.M)
    assert re.search(r"^(apache-airflow-providers-fab|statsd|authlib)==", lock, re.M)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    for source in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M):
        for path in source.split():
            assert (ROOT / path).exists(), path


def test_every_link_in_the_image_has_its_file() -> None:
    """A wheel is built from these folders, and its licence is a link to a file outside them."""
    found = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    copied = {ROOT / path for line in found for path in line.split()}
    links = [link for one in copied for link in one.rglob("*") if link.is_symlink()]
    assert links
    for link in links:
        assert copied & {link.resolve(), *link.resolve().parents}, link


def test_the_code_of_the_image_can_be_read_and_not_changed(tmp_path: Path) -> None:
    """Whatever umask the checkout had, others read the code, and Python finds it compiled."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    found = re.search(r"^RUN (.*compileall.*)$", dockerfile, re.M)
    assert found is not None
    shutil.copytree(ROOT / "airflow_image", tmp_path / "code/airflow_image")
    for path in (tmp_path / "code").rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.suffix == ".sh" else 0o600)
    command = f"umask 077; PATH={Path(sys.executable).parent}:$PATH; {found[1]}"
    subprocess.run(["sh", "-c", command], cwd=tmp_path / "code", check=True)
    files = sorted((tmp_path / "code").rglob("*"))
    assert {oct(path.stat().st_mode & 0o777) for path in files if path.is_dir()} == {"0o755"}
    for path in files:
        if path.suffix == ".py":
            assert path.stat().st_mode & 0o777 == 0o644, path
            assert Path(importlib.util.cache_from_source(path)) in files, path


def test_the_user_of_the_image_owns_its_logs_and_its_cache_and_nothing_else() -> None:
    """It may add to its home, and the sticky bit keeps it from replacing the code in it."""
    before, _, after = (ROOT / "Dockerfile").read_text().partition("\nUSER airflow\n")
    assert not re.search(r"^(COPY|RUN|USER) ", after, re.M)
    assert "chown" not in before
    owned = re.findall(r"--owner=airflow --group=0 (.+)$", before, re.M)
    assert owned == ["logs nightshift-cache"]
    assert "RUN chmod 1775 . &&" in before


def test_the_image_starts_programs_through_the_checks_and_an_init_process() -> None:
    """The entrypoint is tini with the module that checks and then becomes the command."""
    found = re.search(r"^ENTRYPOINT (.+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert found is not None
    assert json.loads(found[1]) == ["tini", "--", "python", "-m", "airflow_image"]


def test_the_page_for_teams_has_each_service_with_its_memory(compose: dict[str, Any]) -> None:
    """The table of docs/team.md says the same as the file."""
    page = (ROOT / "docs/team.md").read_text()
    rows = {
        re.findall(r"`([\w-]+)`", line)[0]: line.rpartition("| ")[2].strip(" |")
        for line in page.partition("## What runs")[2].partition("\n## ")[0].splitlines()
        if line.startswith("| `")
    }
    assert set(rows) == set(compose["services"]) - {"airflow-init"}
    for name, shown in rows.items():
        number, unit = shown.split()[:2]
        megabytes = float(number) * {"GB": 1024, "MB": 1}[unit]
        limit = compose["services"][name]["deploy"]["resources"]["limits"]["memory"]
        assert megabytes == int(limit[:-1]) * {"g": 1024, "m": 1}[limit[-1]], name


def test_the_example_of_a_companys_login_gives_roles_that_exist(compose: dict[str, Any]) -> None:
    """It loads where the image's packages are, and each group gets a role of ours or of Airflow."""
    code = (
        "import json, runpy; found = runpy.run_path('docs/examples/webserver_config.py');"
        "print(json.dumps([found['AUTH_TYPE'], found['AUTH_ROLES_MAPPING']]))"
    )
    names = ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_METADATA_URL")
    done = subprocess.run(
        [ROOT / ".venv-stack/bin/python", "-c", code],
        cwd=ROOT,
        env=dict.fromkeys(names, "x"),
        capture_output=True,
        text=True,
        check=True,
    )
    kind, mapping = json.loads(done.stdout)
    server = compose["services"]["airflow-apiserver"]["environment"]
    ours = set(json.loads(server["AIRFLOW__FAB__CUSTOM_ROLES"]))
    assert kind == 4  # OAuth
    assert {role for roles in mapping.values() for role in roles} <= ours | {"Viewer", "Admin"}
