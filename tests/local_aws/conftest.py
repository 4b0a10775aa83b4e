"""One local AWS for each test process, with its own state folder, and clients of its roles."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_aws.answers import unlike_aws

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
ACCOUNT = "123456789012"
QUICK = Config(retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=64)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs the server."""
    for item in items:
        if {"aws", "admin", "own_state"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.local_aws)


def run_cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m local_aws` as a user does, from another folder."""
    environ = (
        {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "NIGHTSHIFT_"))}
        | {"PYTHONPATH": str(ROOT)}
        | variables
    )
    return subprocess.run(
        [sys.executable, "-m", "local_aws", *arguments],
        capture_output=True,
        text=True,
        env=environ,
        timeout=90,
        check=False,
    )


def until(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """Wait for a condition and return its value; fail with its description after the deadline."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail(f"not within {within_s:.0f} s: {what}")


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    """Return the error code of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def unique(kind: str) -> str:
    """Return a name that no other test uses."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


def located(region: str) -> dict[str, Any]:
    """Return what CreateBucket needs to know of a region. In us-east-1 it may not be named.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    """
    wanted = {"LocationConstraint": region}
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": wanted}


def policy(*statements: dict[str, Any]) -> str:
    """Return a policy document."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(
    actions: str | list[str],
    resources: str | list[str] = "*",
    condition: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a statement that allows something."""
    return {
        "Effect": "Allow",
        "Action": actions,
        "Resource": resources,
        **({"Condition": condition} if condition else {}),
    }


def trust(principal: dict[str, str]) -> str:
    """Return a trust policy."""
    return policy({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})


def zipped(files: dict[str, str]) -> bytes:
    """Return a zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


class LocalAwsUnderTest:
    """A running local AWS, with the helpers that tests need."""

    def __init__(self, state: Path, up: dict[str, Any]) -> None:
        self.state = state
        self.endpoint_url = str(up["endpoint_url"])
        self.region = str(up["region"])
        self.pid = int(up["pid"])
        self._sessions: dict[str, boto3.Session] = {}

    def cli(self, *arguments: str) -> dict[str, Any]:
        """Run a command that must succeed, and return its JSON object."""
        done = run_cli(*arguments, "--json", "--state", str(self.state))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def credentials(self, role: str) -> dict[str, str]:
        """Fetch a role's credentials as a container does."""
        variables = self.cli("env", "--as", role)["set"]
        request = urllib.request.Request(
            variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
            headers={"Authorization": variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def session(self, role: str = "administrator") -> boto3.Session:
        """Return a session of a role that container tasks may assume."""
        if role not in self._sessions:
            found = self.credentials(role)
            self._sessions[role] = boto3.Session(
                found["AccessKeyId"], found["SecretAccessKey"], found["Token"], self.region
            )
        return self._sessions[role]

    def client(self, service: str, session: boto3.Session | None = None) -> Any:
        """Return a client of a session, or of the administrator."""
        return (session or self.session()).client(
            service, endpoint_url=self.endpoint_url, config=QUICK
        )  # type: ignore[call-overload]

    def assume(self, role: str, session: boto3.Session | None = None) -> boto3.Session:
        """Return a session of a role that the session's own role may assume."""
        found = self.client("sts", session).assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="test"
        )["Credentials"]
        return boto3.Session(
            found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], self.region
        )

    def role_with(self, *statements: dict[str, Any], boundary: str | None = None) -> boto3.Session:
        """Make a role with these permissions and return a session of it."""
        name, iam = unique("role"), self.client("iam")
        extra = {"PermissionsBoundary": boundary} if boundary else {}
        iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
            **extra,
        )
        iam.put_role_policy(RoleName=name, PolicyName="test", PolicyDocument=policy(*statements))
        return self.assume(name)

    def service_role(self, service: str, *statements: dict[str, Any]) -> str:
        """Make a role for a service; return its name."""
        name, iam = unique("role"), self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": service}))
        if statements:
            iam.put_role_policy(
                RoleName=name, PolicyName="test", PolicyDocument=policy(*statements)
            )
        return name

    def instance_profile(self, *statements: dict[str, Any]) -> str:
        """Create a role for machines and a profile of the same name; return the name."""
        name, iam = self.service_role("ec2.amazonaws.com", *statements), self.client("iam")
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return name

    def image(self) -> str:
        """Return the id of the deep-learning image."""
        flavour = "base-oss-nvidia-driver-gpu-ubuntu-24.04"
        name = f"/aws/service/deeplearning/ami/x86_64/{flavour}/latest/ami-id"
        return str(self.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def launch(
        self,
        user_data: str = "#!/bin/sh\nsleep 300\n",
        session: boto3.Session | None = None,
        **request: Any,
    ) -> str:
        """Launch one instance; return its id."""
        defaults = {
            "ImageId": self.image(),
            "InstanceType": "c7i.large",
            "MinCount": 1,
            "MaxCount": 1,
            "UserData": user_data,
        }
        return str(
            self.client("ec2", session).run_instances(**{**defaults, **request})["Instances"][0][
                "InstanceId"
            ]
        )

    def instance(self, instance_id: str) -> dict[str, Any]:
        """Describe one instance."""
        return dict(
            self.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0][
                "Instances"
            ][0]
        )

    def console(self, instance_id: str) -> str:
        """Return an instance's console."""
        found = self.client("ec2").get_console_output(InstanceId=instance_id, Latest=True)
        return str(found["Output"])

    def await_state(self, instance_id: str, state: str) -> dict[str, Any]:
        """Wait until an instance is found and in a state; return its description."""
        self.await_found(instance_id)
        until(
            lambda: self.instance(instance_id)["State"]["Name"] == state, f"{instance_id} {state}"
        )
        return self.instance(instance_id)

    def await_found(self, instance_id: str) -> None:
        """Wait until EC2 knows a new instance by its id."""
        wanted = [{"Name": "instance-id", "Values": [instance_id]}]
        ec2 = self.client("ec2")

        def is_found() -> bool:
            try:
                self.instance(instance_id)
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvalidInstanceID.NotFound":
                    return False
                raise
            return bool(ec2.describe_instances(Filters=wanted)["Reservations"])

        until(is_found, f"{instance_id} is found")

    def await_console(self, instance_id: str, text: str) -> str:
        """Wait until a text is on an instance's console; return the whole console."""
        self.await_found(instance_id)
        until(
            lambda: text in self.console(instance_id), f"{text!r} on the console of {instance_id}"
        )
        return self.console(instance_id)

    def bucket(self) -> str:
        """Make a bucket."""
        name = unique("bucket")
        self.client("s3").create_bucket(Bucket=name, **located(self.region))
        return name

    def function(self, source: str, *statements: dict[str, Any], **settings: Any) -> str:
        """Make a function from its source; return its name."""
        name, client = unique("function"), self.client("lambda")
        role = self.service_role("lambda.amazonaws.com", *statements)
        runtime = self.cli("status")["lambda_runtimes"][0]
        defaults = {
            "Runtime": runtime,
            "Handler": "index.handler",
            "Timeout": 20,
            "MemorySize": 512,
            "Code": {"ZipFile": zipped({"index.py": source})},
        }
        client.create_function(
            FunctionName=name,
            Role=f"arn:aws:iam::{ACCOUNT}:role/{role}",
            **{**defaults, **settings},
        )
        until(
            lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active",
            f"{name} is active",
        )
        return name


def find_ami() -> Path:
    """Return the machine image that `make setup` made, else the server's own environment."""
    made = ROOT / ".venv-ami"
    return made if (made / "bin" / "python").exists() else ROOT / ".venv-aws"


def start(state: Path, *arguments: str) -> LocalAwsUnderTest:
    """Start a local AWS for a folder."""
    done = run_cli("up", "--json", "--state", str(state), "--ami", str(find_ami()), *arguments)
    assert done.returncode == 0, done.stderr
    return LocalAwsUnderTest(state, json.loads(done.stdout))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAwsUnderTest]:
    """A local AWS that all tests of one process share. No launch is late.

    Each test makes its own roles, buckets and machines.
    """
    state = tmp_path_factory.mktemp("aws") / "state"
    started = start(state, "--pace", "steady")
    yield started
    answers = started.cli("status")["answers"]
    run_cli("down", "--state", str(state))
    found = unlike_aws(answers)
    assert not found, sorted(found)


@pytest.fixture(autouse=True)
def no_machine_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Terminate a test's machines after it, because they count against the account's quota."""
    yield
    if "aws" in request.fixturenames:
        ec2 = request.getfixturevalue("aws").client("ec2")
        living = ec2.describe_instances(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}]
        )
        ids = [
            instance["InstanceId"]
            for reservation in living["Reservations"]
            for instance in reservation["Instances"]
        ]
        if ids:
            ec2.terminate_instances(InstanceIds=ids)


@pytest.fixture
def own_state(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose local AWS is stopped after the test."""
    state = tmp_path / "state"
    yield state
    run_cli("down", "--state", str(state))
