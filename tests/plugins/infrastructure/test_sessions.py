"""Each task acts as its role or through its Airflow connection."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from moto import mock_aws

from rl_airflow.infrastructure.sessions import CHATTY_LOGGERS, RoleSession, role_arn


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with the launcher's role, in moto."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Connection]:
    """Airflow's connections: none, unless a test defines one."""
    defined: dict[str, Connection] = {}

    def get_connection(conn_id: str) -> Connection:
        if conn_id not in defined:
            raise AirflowNotFoundException(conn_id)
        return defined[conn_id]

    monkeypatch.setattr(BaseHook, "get_connection", get_connection)
    return defined


def who(session: RoleSession) -> str:
    """Return the ARN that AWS sees."""
    identity: dict[str, Any] = session.client("sts").get_caller_identity()
    return str(identity["Arn"])


def test_without_a_connection_the_role_of_the_environment_is_assumed(
    connections: dict[str, Connection],
) -> None:
    """The environment's role in the caller's account is assumed, and CloudTrail shows the task."""
    arn = who(RoleSession("launcher", "dev", region_name="eu-west-1"))
    assert arn.endswith(":assumed-role/nightshift-dev-launcher/airflow-launcher")


def test_a_defined_connection_decides(connections: dict[str, Connection]) -> None:
    """A defined connection is used, whatever role it has."""
    extra = json.dumps(
        {"role_arn": "arn:aws:iam::123456789012:role/ours", "region_name": "eu-central-1"}
    )
    connections["nightshift_launcher"] = Connection(
        conn_id="nightshift_launcher", conn_type="aws", extra=extra
    )
    session = RoleSession("launcher", "dev")
    assert ":assumed-role/ours/" in who(session)
    assert session.client("ec2").meta.region_name == "eu-central-1"


def test_a_named_connection_must_exist(connections: dict[str, Connection]) -> None:
    """A missing connection is an error, because a typo must not select other rights."""
    with pytest.raises(AirflowNotFoundException):
        RoleSession("launcher", "dev", aws_conn_id="no_such").client("sts")


@pytest.mark.parametrize("role", [None, "deployer"])
def test_the_worker_itself_and_who_deploys_assume_nothing(
    connections: dict[str, Connection], role: Any
) -> None:
    """Worker and deploying tasks assume no role, because CloudFormation has its own."""
    assert "assumed-role" not in who(RoleSession(role, "dev", region_name="eu-west-1"))


def test_lambdas_client_never_calls_twice_and_outwaits_the_function(
    connections: dict[str, Connection],
) -> None:
    """A retried call would run the function again, so the client waits for it."""
    config = RoleSession(None, "dev", region_name="eu-west-1").client("lambda").meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout > 900


def test_a_session_makes_each_client_once(connections: dict[str, Connection]) -> None:
    """Each client is created once, because EC2's takes 0.4 s of CPU."""
    session = RoleSession(None, "dev", region_name="eu-west-1")
    assert session.client("ec2") is session.client("ec2")


def test_roles_are_named_by_environment_in_any_partition() -> None:
    """Role ARNs are right in every partition, such as China and GovCloud."""
    assert role_arn("arn:aws-cn:iam::123456789012:user/x", "prod", "reaper") == (
        "arn:aws-cn:iam::123456789012:role/nightshift-prod-reaper"
    )


@pytest.fixture
def levels() -> Iterator[None]:
    """The loggers' levels, which are put back."""
    loggers = [logging.getLogger(name) for name in ("", "botocore", *CHATTY_LOGGERS)]
    before = [(one, one.level) for one in loggers]
    for one, _ in before:
        one.setLevel(logging.NOTSET)
    logging.getLogger().setLevel(logging.INFO)
    yield
    for one, level in before:
        one.setLevel(level)


def messages_of_a_client(caplog: pytest.LogCaptureFixture) -> str:
    """Make a client, which looks for its endpoint and its credentials. :return: the log"""
    caplog.clear()
    RoleSession(None, "dev", region_name="eu-west-1").client("sts").get_caller_identity()
    return caplog.text


def test_a_client_does_not_log_where_it_found_endpoint_and_credentials(
    levels: None,
    connections: dict[str, Connection],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lines would fill each task's log. A level that you choose yourself is kept."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9")
    logging.getLogger("botocore").setLevel(logging.INFO)
    assert "Found credentials in environment variables" in messages_of_a_client(caplog)
    RoleSession(None, "dev", region_name="eu-west-1").client("ec2")
    assert "Found endpoint for ec2" in caplog.text
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    assert messages_of_a_client(caplog) == ""
    RoleSession(None, "dev", region_name="eu-west-1").client("ec2")
    assert caplog.text == ""
