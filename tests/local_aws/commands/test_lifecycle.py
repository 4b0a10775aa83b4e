"""The server's life: start, a second start, stop and crash."""

import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from local_aws.machines.processes import find_marked
from local_aws.state_folder import StateFolder
from tests.local_aws.conftest import run_cli, start, trust, until


def one_line(text: str) -> str:
    """Return the error message of a command, which must be one line without a traceback."""
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text
    return text.strip()


def test_a_second_up_finds_the_first(own_state: Path) -> None:
    """A second `up` answers with the first server's endpoint and starts nothing."""
    first = start(own_state)
    second = json.loads(run_cli("up", "--json", "--state", str(own_state)).stdout)
    assert second["started"] is False
    assert (second["endpoint_url"], second["pid"]) == (first.endpoint_url, first.pid)
    assert set(second) == {"endpoint_url", "pid", "state", "account_id", "region", "started"}


def test_nothing_is_left_after_down_and_committed_state_comes_back(own_state: Path) -> None:
    """`down` ends every process, and the saved state is back after the next `up`."""
    aws = start(own_state)
    aws.client("iam").create_role(
        RoleName="kept", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"})
    )
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a/b", Body=b"kept")
    machine = aws.launch()
    aws.await_state(machine, "running")
    running = StateFolder(own_state).find_running()
    assert running is not None
    assert run_cli("down", "--state", str(own_state)).returncode == 0
    assert find_marked("LOCAL_AWS_TWIN", running.process_mark) == []
    assert StateFolder(own_state).find_running() is None
    again = start(own_state)
    assert again.endpoint_url == aws.endpoint_url, "shells that were set up keep working"
    assert again.client("iam").get_role(RoleName="kept")["Role"]["RoleName"] == "kept"
    assert again.client("s3").get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"kept"
    assert again.instance(machine)["State"]["Name"] == "terminated"
    assert again.instance(machine)["StateReason"]["Code"] == "Server.InternalError"


def test_a_killed_server_leaves_no_process_and_loses_nothing_committed(own_state: Path) -> None:
    """SIGKILL of the server ends its machines, also daemons, and loses no answered change."""
    aws = start(own_state)
    aws.client("iam").create_role(
        RoleName="kept", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"})
    )
    bucket = aws.bucket()
    machine = aws.launch("#!/bin/sh\n(setsid sleep 4711 &)\necho away\nsleep 4711\n")
    aws.await_console(machine, "away")
    aws.client("s3").put_object(Bucket=bucket, Key="last", Body=b"committed")
    session = aws.session()
    running = StateFolder(own_state).find_running()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    until(
        lambda: not find_marked("LOCAL_AWS_TWIN", running.process_mark),
        "every process of the killed server is gone",
        5,
    )
    again = start(own_state)
    assert again.client("iam", session).get_role(RoleName="kept")["Role"]["RoleName"] == "kept", (
        "sessions survive as on AWS"
    )
    assert again.client("s3").get_object(Bucket=bucket, Key="last")["Body"].read() == b"committed"
    assert again.instance(machine)["State"]["Name"] == "terminated"


def test_a_pointer_that_moves_while_the_server_is_killed_is_whole(own_state: Path) -> None:
    """Every answered write is there, as the current object and as a version; no object is half."""
    aws = start(own_state)
    bucket, s3, written = aws.bucket(), aws.client("s3"), []
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def write(name: str) -> None:
        client = aws.client("s3")
        for n in range(10_000):
            try:
                answer = client.put_object(Bucket=bucket, Key=name, Body=b"%d" % n * 50)
            except BotoCoreError:
                return
            written.append((name, n, answer["VersionId"]))

    with ThreadPoolExecutor(3) as pool:
        writers = [
            pool.submit(write, name) for name in ("a/head.json", "b/head.json", "c/head.json")
        ]
        until(lambda: len(written) > 60, "some writes")
        os.kill(aws.pid, signal.SIGKILL)
        [writer.result() for writer in writers]
    again = start(own_state).client("s3")
    for name, n, version in written:
        assert (
            again.get_object(Bucket=bucket, Key=name, VersionId=version)["Body"].read()
            == b"%d" % n * 50
        )
    for name in ("a/head.json", "b/head.json", "c/head.json"):
        last = max((n for key, n, _ in written if key == name), default=0)
        assert again.get_object(Bucket=bucket, Key=name)["Body"].read() in (
            b"%d" % last * 50,
            b"%d" % (last + 1) * 50,
        )


def test_two_accounts_do_not_meet(own_state: Path, tmp_path: Path) -> None:
    """Two state folders are two separate accounts."""
    first = start(own_state)
    bucket = first.bucket()
    second = start(tmp_path / "other")
    try:
        assert second.endpoint_url != first.endpoint_url
        assert bucket not in [b["Name"] for b in second.client("s3").list_buckets()["Buckets"]]
    finally:
        run_cli("down", "--state", str(tmp_path / "other"))


def test_a_start_costs_little(own_state: Path) -> None:
    """A start needs under 150 MB and less than two seconds of processor time."""
    aws = start(own_state)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{aws.pid}/status").read_text().splitlines()
    )
    ticks = Path(f"/proc/{aws.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert int(status["VmRSS"].split()[0]) < 150_000
    assert sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") < 6, (
        "processor time, three times what an idle machine takes"
    )


def test_a_taken_port_is_one_clear_line(own_state: Path) -> None:
    """A fixed port of another process: exit 2, and the message names the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_cli("up", "--port", str(port), "--state", str(own_state))
    assert done.returncode == 2
    assert str(port) in one_line(done.stderr)


@pytest.mark.parametrize(
    "arguments", [["up", "--port", "99999999"], ["up", "--nonsense"], ["fly"], []]
)
def test_bad_arguments_are_one_clear_line(arguments: list[str]) -> None:
    """Bad input: exit 2 and one line."""
    done = run_cli(*arguments)
    assert done.returncode == 2
    one_line(done.stderr)


def test_a_folder_of_another_version_is_refused(own_state: Path) -> None:
    """A state folder of another version is refused, named and not overwritten."""
    own_state.mkdir()
    (own_state / "version").write_text("0\n")
    done = run_cli("up", "--state", str(own_state))
    assert done.returncode == 2
    assert str(own_state) in one_line(done.stderr)


def test_env_without_a_server_names_the_next_command(own_state: Path) -> None:
    """`env` without a server: exit 2, and the message names the command to run."""
    done = run_cli("env", "--state", str(own_state))
    assert done.returncode == 2
    assert "python -m local_aws up" in one_line(done.stderr)


def test_down_and_status_without_a_server_succeed(own_state: Path) -> None:
    """No server to stop is an outcome, not an error."""
    assert (
        json.loads(run_cli("down", "--json", "--state", str(own_state)).stdout)["stopped"] is False
    )
    assert (
        json.loads(run_cli("status", "--json", "--state", str(own_state)).stdout)["running"]
        is False
    )
