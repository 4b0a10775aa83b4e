"""The compose stack is valid, has no default secrets, and its image has no torch."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rl_airflow.infrastructure.project_version import COMMIT_VARIABLE, find_commit

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(sys.prefix) / "share/compose/compose/config/compose_spec.json"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as data, with its required variables filled in."""
    text = (ROOT / "docker-compose.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):\?[^}]*\}", r"value-of-\1", text))
    return document


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
    }
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        mounted = {str(volume).split(":")[0] for volume in service.get("volumes", ())}
        assert mounted <= set(compose["volumes"]), name


def test_no_secret_has_a_default() -> None:
    """A missing secret stops the stack with a message, because a default would be public."""
    text = (ROOT / "docker-compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    assert asked >= {
        "AIRFLOW_FERNET_KEY",
        "AIRFLOW_API_SECRET_KEY",
        "AIRFLOW_JWT_SECRET",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
    }
    assert set(re.findall(r"\$\{(\w+):-[^}]+\}", text)) == set()
    offered = set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.M))
    assert offered == set(re.findall(r"\$\{(\w+):", text))


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
    assert ports == ["127.0.0.1:8080:8080"]


def test_the_image_is_made_from_the_hashed_lock_and_has_no_torch() -> None:
    """The image installs from the hashed lock, copies existing files, and leaves torch out."""
    lock = (ROOT / "locks/airflow.txt").read_text()
    assert not re.search(r"^(torch|stable-baselines3|gymnasium)==", lock, re.M)
    assert re.search(r"^apache-airflow==3\.3\.2", lock, re.M)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    for source in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M):
        for path in source.split():
            assert (ROOT / path).exists(), path
