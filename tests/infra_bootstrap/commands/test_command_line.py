"""The command line prints one JSON object or one clear line, and sets the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from infra_bootstrap.commands.cli import build_parser, run
from infra_bootstrap.stacks.resolving import canonical
from tests.infra_bootstrap.accounts import ROOT, Deployment


def alone(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must end before it calls AWS."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "infra_bootstrap", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )


KEYS = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["deploy"], {}, "the following arguments are required: --environment"),
        (["deploy", "--environment", "Prod"], {}, "--environment 'Prod': lower case, digits and -"),
        (["deploy", "--environment", "a" * 21], {}, "at most 20 characters"),
        (["deploy", "--environment", "dev", "--stack", "compute"], {}, "invalid choice: 'compute'"),
        (
            ["destroy", "--environment", "dev", "--confirm", "dev", "--stack", "training"],
            {**KEYS, "AWS_REGION": "eu-west-1"},
            "destroy deletes the whole environment dev, and not the stack training alone",
        ),
        (["smoke", "--stack", "training"], {}, "unrecognized arguments: --stack"),
        (
            ["deploy", "--environment", "dev", "--lambda-runtime", "python3.9"],
            {},
            "invalid choice: 'python3.9'",
        ),
        (
            ["deploy", "--environment", "dev", "--airflow-role", "arn:aws:iam::1:role/x"],
            {},
            "without a path, not its ARN",
        ),
        (
            ["deploy", "--environment", "dev", "--parameter", "VpcCidr"],
            {},
            "--parameter VpcCidr: must be NAME=VALUE",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VpcCidr=8.8.0.0/16"],
            {},
            "must be a private range such as 10.64.0.0/16",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VpcCidr=10.0.0.0/8"],
            {},
            "with a prefix from /16 to /18",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VpcCidr=10.300.0.0/16"],
            {},
            "IPv4 or IPv6 network; write for example 10.64.0.0/16",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VpcCidr=10.64.7.0/17"],
            {},
            "10.64.7.0/17 has host bits set; write 10.64.0.0/17",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VolumeGib=1"],
            {},
            "VolumeGib=1: must lie between 8 and 16384",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "VolumeGib=big"],
            {},
            "VolumeGib=big: must be a number",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "EnableNat=yes"],
            {},
            "EnableNat=yes: choose one of true, false",
        ),
        (
            ["plan", "--environment", "dev", "--parameter", "Colour=red"],
            {},
            "--parameter Colour: no template has it; they have Ai",
        ),
        (
            ["outputs", "--environment", "dev"],
            {},
            "no AWS region: give one, such as `--region eu-west-1`",
        ),
        (
            ["outputs", "--environment", "dev", "--region", "eu-west-1"],
            {},
            "no AWS credentials: log in first",
        ),
        (
            ["deploy", "--environment", "dev", "--region", "eu-wset-1"],
            {},
            "did you mean eu-west-1 or ",
        ),
        (
            ["outputs", "--environment", "dev", "--profile", "absent"],
            {},
            "The config profile (absent) could not be found",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_status_2(
    arguments: list[str], variables: dict[str, str], message: str
) -> None:
    """Bad input is refused in one line before the first call to AWS."""
    done = alone(*arguments, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_missing_policy_file_is_refused_with_the_options_form() -> None:
    """A missing policy file is refused with the option's form, before the first call to AWS."""
    done = alone(
        "upload-policy",
        "--environment",
        "dev",
        "--region",
        "eu-west-1",
        "--policy",
        "no/p.onnx",
        **KEYS,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "infra_bootstrap: --policy: no/p.onnx: No such file or directory; write it with `python -m "
        "rl_trainer export"
    )


def test_an_endpoint_that_does_not_answer_is_one_line(tmp_path: object) -> None:
    """An endpoint that does not answer gives one line and no traceback."""
    done = alone(
        "outputs", "--environment", "dev", "--region", "eu-west-1", **KEYS, AWS_MAX_ATTEMPTS="1"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("infra_bootstrap: Could not connect to the endpoint URL")
    assert "Traceback" not in done.stderr


def test_another_account_than_the_one_that_was_meant_is_refused(dev: Deployment) -> None:
    """`--account` refuses credentials of another account."""
    done = dev.account.cli("deploy", "--environment", "dev", "--account", "999999999999")
    assert done.returncode == 2
    assert "these credentials are of account 123456789012" in done.stderr


def test_unknown_credentials_may_mean_a_region_without_opt_in(dev: Deployment) -> None:
    """The error of unknown credentials also names the other cause, a region without opt-in."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "infra_bootstrap",
            "outputs",
            "--environment",
            "dev",
            "--region",
            "eu-south-2",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.devnull,
            **KEYS,
            "AWS_ENDPOINT_URL": dev.account.endpoint_url,
        },
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "aws account enable-region --region-name REGION" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_not_deployed_says_what_to_run(dev: Deployment) -> None:
    """The outputs of an environment that does not exist name the command that creates it."""
    done = dev.account.cli("outputs", "--environment", "nowhere", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "run `python -m infra_bootstrap deploy --environment nowhere`" in done.stderr


def test_outputs_drift_and_preflight_print_one_json_object(dev: Deployment) -> None:
    """Results are JSON on stdout, and messages for people go to stderr."""
    outputs = json.loads(
        dev.account.cli("outputs", "--environment", "dev", "--json", role="airflow-worker").stdout
    )
    assert outputs["bucket"] == dev.bucket
    drift = dev.account.cli("drift", "--environment", "dev", "--stack", "identity", "--json")
    assert (drift.returncode, json.loads(drift.stdout)["drift"]) == (0, [])
    preflight = dev.account.cli("preflight", "--environment", "dev", "--json")
    assert preflight.returncode == 0, preflight.stdout
    verdicts = {check["name"]: check["verdict"] for check in json.loads(preflight.stdout)["checks"]}
    assert verdicts["bucket"] == "ok"


def test_the_policy_of_an_airflow_worker_is_a_file_to_attach(dev: Deployment) -> None:
    """The printed policy is the one that the identity stack attaches; it needs no stack."""
    printed = json.loads(dev.account.cli("airflow-policy", "--environment", "dev").stdout)
    iam = dev.as_role("administrator").iam
    arn = f"arn:aws:iam::{dev.account.account_id}:policy/nightshift-dev-airflow"
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    attached = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    assert canonical(printed) == canonical(attached)
    later = dev.account.cli("airflow-policy", "--environment", "later", "--json")
    assert f"arn:aws:iam::{dev.account.account_id}:role/nightshift-later-launcher" in later.stdout
    assert json.loads(later.stdout)["Version"] == "2012-10-17"


def test_the_policy_for_task_logs_names_one_bucket(dev: Deployment) -> None:
    """A worker reads and writes there, an API server only reads; neither may do anything else."""
    policy = ("airflow-policy", "--environment", "dev")
    writing, reading = (
        json.loads(dev.account.cli(*policy, option, "my-airflow-logs").stdout)
        for option in ("--log-bucket", "--read-log-bucket")
    )
    assert [one["Action"] for one in writing["Statement"]] == [
        ["s3:GetObject", "s3:PutObject"],
        "s3:ListBucket",
    ]
    assert [one["Action"] for one in reading["Statement"]] == [["s3:GetObject"], "s3:ListBucket"]
    resources = ["arn:aws:s3:::my-airflow-logs/*", "arn:aws:s3:::my-airflow-logs"]
    for document in (writing, reading):
        assert [one["Resource"] for one in document["Statement"]] == resources


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn")])
def test_the_policy_for_task_logs_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    region: str,
    partition: str,
) -> None:
    """A person without an account can print it. The region decides how ARNs begin."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    policy = ["airflow-policy", "--environment", "dev", "--region", region]
    for option in ("--log-bucket", "--read-log-bucket"):
        assert run([*policy, option, "my-airflow-logs"]) == 0
        resources = [one["Resource"] for one in json.loads(capsys.readouterr().out)["Statement"]]
        assert resources[1] == f"arn:{partition}:s3:::my-airflow-logs"
    assert run(policy) == 2
    assert "no AWS credentials: log in first" in capsys.readouterr().err


def test_the_policy_of_an_api_server_lets_it_become_the_viewer(dev: Deployment) -> None:
    """The command prints one right, on one environment, and not beside another policy."""
    policy = ("airflow-policy", "--environment", "later", "--api-server")
    viewer = f"arn:aws:iam::{dev.account.account_id}:role/nightshift-later-viewer"
    assert json.loads(dev.account.cli(*policy).stdout)["Statement"] == [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": viewer}
    ]
    both = dev.account.cli(*policy, "--log-bucket", "my-airflow-logs")
    assert (both.returncode, both.stdout) == (2, "")
    assert "not allowed with argument" in both.stderr


def test_a_folder_is_no_bucket_for_task_logs(dev: Deployment) -> None:
    """A person may give the value of AIRFLOW_LOG_FOLDER. One line says what to give instead."""
    done = dev.account.cli(
        *("airflow-policy", "--environment", "dev", "--log-bucket", "s3://my-logs/nightshift")
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "infra_bootstrap: 's3://my-logs/nightshift' is no name of a bucket: give the name alone, "
        "such as my-airflow-logs, without s3:// and without a folder"
    ]


def test_destroy_without_confirmation_deletes_nothing(dev: Deployment) -> None:
    """Without confirmation, destroy deletes nothing, exits with 2 and prints the words to type."""
    done = dev.account.cli("destroy", "--environment", "dev", "--confirm", "prod")
    assert (done.returncode, done.stdout) == (2, "")
    assert "add `--confirm dev`" in done.stderr


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Help needs neither network nor credentials and lists each command's required options."""
    for command in ("preflight", "plan", "deploy", "build", "outputs", "drift", "destroy", "smoke"):
        with pytest.raises(SystemExit, match="0"):
            build_parser().parse_args([command, "--help"])
        assert "--environment NAME" in capsys.readouterr().out
