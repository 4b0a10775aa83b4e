"""`env`: credentials that renew themselves, for the requested role only."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.local_aws.conftest import LocalAwsUnderTest, run_cli

WHO = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"


def test_a_shell_becomes_the_airflow_worker(aws: LocalAwsUnderTest) -> None:
    """The printed lines give a shell the worker's role, even if it holds a real-looking key."""
    lines = run_cli("env", "--state", str(aws.state)).stdout
    environ = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIAREALLYREALKEY000",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_PROFILE": "company",
    }
    done = subprocess.run(
        ["bash", "-c", f'{lines}\nexec {sys.executable} -c "{WHO}"'],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.stdout.strip() == "arn:aws:sts::123456789012:assumed-role/airflow-worker/worker", (
        done.stderr
    )


def test_a_role_that_does_not_exist_is_named(aws: LocalAwsUnderTest) -> None:
    """A short name stands for the environment's role, and the error names the missing role."""
    done = run_cli("env", "--state", str(aws.state), "--as", "launcher", "--environment", "nowhere")
    assert done.returncode == 2
    assert "nightshift-nowhere-launcher" in done.stderr


def test_one_roles_token_does_not_open_another_role(aws: LocalAwsUnderTest) -> None:
    """The credentials of a role need the token of that role."""
    worker = aws.cli("env")["set"]
    uri = worker["AWS_CONTAINER_CREDENTIALS_FULL_URI"].replace("airflow-worker", "administrator")
    request = urllib.request.Request(
        uri, headers={"Authorization": worker["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == 401


def test_control_orders_need_the_state_folders_token(aws: LocalAwsUnderTest) -> None:
    """A process that cannot read the state folder cannot set a fault."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(aws.endpoint_url + "/_local/status", timeout=5)
    assert refused.value.code == 403
