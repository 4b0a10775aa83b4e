"""The file for a bug report has calls, errors and versions, and neither secrets nor the account."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from infra_bootstrap.call_log import MOST_FAILURES, CallLog
from infra_bootstrap.clients import Clients
from infra_bootstrap.commands import smoke
from infra_bootstrap.commands.bug_report import Story, write_bug_report
from tests.infra_bootstrap.accounts import Account
from tests.infra_bootstrap.preflight.test_preflight import FakeClients

AT = datetime(2026, 11, 30, 3, tzinfo=UTC)
KEY = "AKIA" + "IOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYPLANTEDKEY"
TOKEN = "FwoGZXIvYXdzEPLANTEDTOKEN//////////wEaDA"


def story(*errors: str) -> Story:
    """Return what a run did."""
    return Story("smoke", AT, {"bootstrap": 1.0}, list(errors), ["a denial"], {})


def test_calls_are_counted_with_their_errors_and_request_ids(
    account: Account, tmp_path: Path
) -> None:
    """Each call is counted, and a failed one is kept with code, status and request id."""
    clients = Clients(account.clients().session)
    clients.iam.list_roles()
    clients.iam.list_roles()
    with pytest.raises(ClientError):
        clients.iam.get_role(RoleName="nobody")
    path = write_bug_report(clients, story(), tmp_path)
    found = json.loads(path.read_text())
    rows = {(row["service"], row["operation"]): row for row in found["calls"]}
    assert rows["iam", "ListRoles"] == {
        "service": "iam",
        "operation": "ListRoles",
        "count": 2,
        "errors": {},
    }
    assert rows["iam", "GetRole"]["errors"] == {"NoSuchEntity": 1}
    (failed,) = [call for call in found["failed_calls"] if call["operation"] == "GetRole"]
    assert (failed["code"], failed["status"]) == ("NoSuchEntity", 404)
    assert failed["request_id"]
    assert found["versions"]["botocore"]
    assert (found["result"], found["region"]) == ("succeeded", "eu-west-1")


def test_a_call_that_breaks_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without an answer is logged under the name of its exception."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    log = CallLog()
    client = boto3.client(
        "sts", region_name="eu-west-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    log.watch(client)
    with pytest.raises(Exception, match="Could not connect"):
        client.get_caller_identity()
    assert [(call.operation, call.code) for call in log.failures] == [
        ("GetCallerIdentity", "EndpointConnectionError")
    ]


def test_no_secret_and_no_account_is_in_the_file(account: Account, tmp_path: Path) -> None:
    """Secrets that are planted in errors, in denials and in the session do not reach the file."""
    session = boto3.Session(KEY, SECRET, TOKEN, region_name="eu-west-1")
    clients = Clients(session)
    clients.__dict__["identity"] = {
        "Account": "999999999999",
        "Arn": "arn:aws:iam::999999999999:user/x",
        "UserId": "x",
    }
    with pytest.raises(ClientError):
        clients.sts.get_access_key_info(AccessKeyId=f"{KEY}{'X' * 120}")
    told = story(
        f"AccessDenied: {KEY} with {SECRET} and {TOKEN} of 999999999999, ask me@example.org",
        "password=hunter2 secret: s3cr3t aws_session_token = abc",
        "denied. Encoded authorization failure message: AAAA_encoded-part",
    )
    text = write_bug_report(clients, told, tmp_path).read_text()
    for planted in (
        *(KEY, SECRET, TOKEN, "999999999999", "me@example.org"),
        *("hunter2", "s3cr3t", "= abc", "encoded-part"),
    ):
        assert planted not in text, planted
    assert json.loads(text)["result"] == "failed"


def test_a_report_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    """A folder that cannot be made gives a line, and no other error."""
    (tmp_path / "file").write_text("in the way")
    said = list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_STATE", str(tmp_path / "file" / "state"))
        smoke._write(FakeClients({}), story(), said.append)
    assert said[0].startswith("the file for a bug report could not be written: ")


def test_only_so_many_failures_are_kept() -> None:
    """A run that fails all the time does not fill the disk."""
    log = CallLog()
    for _ in range(MOST_FAILURES + 5):
        log._note("ec2", "RunInstances", "Throttled", "", {})
    assert len(log.failures) == MOST_FAILURES
    assert log.as_list()[0]["count"] == MOST_FAILURES + 5
