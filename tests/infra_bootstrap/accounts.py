"""Start a local AWS for the deployment's tests, with sessions of its roles.

`Deployment` creates the stacks with placeholder artifacts, so that nothing has to be built.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.archives import Entry, zip_bytes
from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.sets import ArtifactSet
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.deploy import StackResult, deploy_side_by_side
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name
from infra_bootstrap.stacks.outputs import Outputs, read_outputs
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
ROLES = (
    "trainer",
    "evaluator",
    "player",
    "judge",
    "launcher",
    "promoter",
    "reaper",
    "viewer",
    "deployer",
)
#: The error codes with which AWS's services refuse a call by policy.
REFUSALS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


class Account:
    """A running local AWS, with its endpoint and the credentials of its roles."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        up = self.local_aws("up", "--pace", "steady", "--json", *options)
        self.endpoint_url, self.account_id, self.region = (
            str(up["endpoint_url"]),
            str(up["account_id"]),
            str(up["region"]),
        )
        self._clients: dict[str, Clients] = {}

    def local_aws(self, *arguments: str) -> dict[str, Any]:
        """Run a command of the local AWS."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        done = subprocess.run(
            [sys.executable, "-m", "local_aws", *arguments, "--state", str(self.state)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout)) if "--json" in arguments else {}

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment variables with which a process acts as a role."""
        given: dict[str, str] = self.local_aws("env", "--as", role, "--json")["set"]
        return given

    def clients(self, role: str = "administrator", environment: str = "dev") -> Clients:
        """Return clients of a role, by its full name or its short name in the environment."""
        name = role_name(environment, role) if role in ROLES else role
        if name not in self._clients:
            own = name in ("administrator", "airflow-worker")
            self._clients[name] = (
                Clients(self._session(self.variables(name))) if own else self._become(name)
            )
        return self._clients[name]

    def _become(self, name: str) -> Clients:
        """Assume a role that trusts only services, by widening its trust policy for one call."""
        administrator = self.clients()
        trust = administrator.iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        here = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{self.account_id}:root"},
            "Action": "sts:AssumeRole",
        }
        wide = {**trust, "Statement": [*trust["Statement"], here]}
        administrator.iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(wide))
        try:
            return administrator.assume(administrator.role_arn(name))
        finally:
            administrator.iam.update_assume_role_policy(
                RoleName=name, PolicyDocument=json.dumps(trust)
            )

    def _session(self, variables: Mapping[str, str]) -> boto3.Session:
        request = urllib.request.Request(
            variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
            headers={"Authorization": variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            found = json.loads(answer.read())
        return boto3.Session(
            found["AccessKeyId"], found["SecretAccessKey"], found["Token"], self.region
        )

    def cli(
        self, *arguments: str, role: str = "administrator", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m infra_bootstrap` as a role, as a user would."""
        started = self.start_cli(*arguments, role=role, **variables)
        stdout, stderr = started.communicate(timeout=300)
        return subprocess.CompletedProcess(started.args, started.returncode, stdout, stderr)

    def start_cli(
        self, *arguments: str, role: str = "administrator", **variables: str
    ) -> subprocess.Popen[str]:
        """Start `python -m infra_bootstrap` as a role, and return its process."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        return subprocess.Popen(
            [sys.executable, "-m", "infra_bootstrap", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ | self.variables(role) | variables,
        )

    @contextmanager
    def fault(self, kind: str, *values: str) -> Iterator[None]:
        """Set a fault inside the block: `fault("deny", "action=ec2:CreateVpc")`."""
        made = self.local_aws("fault", "add", kind, *values, "--json")["faults"][-1]["id"]
        try:
            yield
        finally:
            self.local_aws("fault", "clear", made)

    def down(self) -> None:
        """Stop the local AWS."""
        self.local_aws("down")

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Point clients that are created inside the block at this account."""
        before = os.environ.get("AWS_ENDPOINT_URL")
        os.environ["AWS_ENDPOINT_URL"] = self.endpoint_url
        try:
            yield
        finally:
            os.environ.pop("AWS_ENDPOINT_URL")
            if before is not None:
                os.environ["AWS_ENDPOINT_URL"] = before


class Deployment:
    """An environment with all five stacks, whose functions and wheels are placeholders."""

    def __init__(self, account: Account, environment: str = "dev") -> None:
        self.account, self.settings = (
            account,
            DeploymentSettings(environment, lambda_runtime=f"python{PYTHON}"),
        )
        self.printed: list[str] = []

    def deploy(
        self,
        *waves: tuple[Concern, ...],
        clients: Clients | None = None,
        settings: DeploymentSettings | None = None,
        code: str = "def handle(event, context=None):\n    return event\n",
    ) -> list[StackResult]:
        """Deploy the named stacks, or all of them."""
        clients, settings, results = (
            clients or self.account.clients(),
            settings or self.settings,
            [],
        )
        for wave in waves or (
            (Concern.IDENTITY,),
            (Concern.NETWORK, Concern.STORAGE),
            (Concern.TRAINING, Concern.EVALUATION),
        ):
            artifacts = (
                self.upload(clients, code)
                if {Concern.TRAINING, Concern.EVALUATION} & set(wave)
                else None
            )
            results += deploy_side_by_side(clients, settings, wave, artifacts, self.printed.append)
        return results

    def upload(self, clients: Clients, code: str) -> ArtifactSet:
        """Upload small artifacts as the launcher, as the bootstrap does."""
        launcher = clients.assume(
            clients.role_arn(role_name(self.settings.environment, "launcher"))
        )
        wheels = WheelSet(
            python=PYTHON, wheels={"rl_trainer-1-py3-none-any.whl": sha256_hex(code.encode())}
        ).to_json()
        reaper = (ROOT / "infra_bootstrap/reaper/reaper.py").read_bytes()
        files = [
            _file("layer.zip", zip_bytes([Entry("python/placeholder.py", b"")])),
            _file("reaper.zip", zip_bytes([Entry("reaper.py", reaper)])),
            _file(
                "evaluator.zip",
                zip_bytes(
                    [
                        Entry("rl_evaluator/__init__.py", b""),
                        Entry("rl_evaluator/handler.py", code.encode()),
                    ]
                ),
            ),
            _file("wheels.json", wheels),
        ]
        upload(launcher.s3, self.bucket, files)
        layer, reaping, evaluating, wheel_set = (
            Artifact(key=file.key, sha256=file.sha256) for file in files
        )
        return ArtifactSet(
            trainer_wheels=wheel_set,
            trainer_python=PYTHON,
            evaluator_code=evaluating,
            evaluator_layer=layer,
            reaper_code=reaping,
            lambda_runtime=f"python{PYTHON}",
            unzipped_bytes=0,
        )

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return bucket_name(self.settings.environment, self.account.account_id, self.account.region)

    @cached_property
    def outputs(self) -> Outputs:
        """The environment's stack outputs."""
        return read_outputs(self.account.clients(), self.settings.environment)

    def as_role(self, role: str) -> Clients:
        """Return clients of one of the environment's roles or of the Airflow worker's role."""
        return self.account.clients(role, self.settings.environment)


def _file(name: str, data: bytes) -> ArtifactFile:
    return ArtifactFile(artifact_key(sha256_hex(data), name), sha256_hex(data), data=data)


def refusal(error: ClientError) -> tuple[str, str]:
    """Return code and message of an error."""
    return str(error.response["Error"]["Code"]), str(error.response["Error"].get("Message", ""))


def remove_vpc(clients: Clients, vpc: str) -> None:
    """Delete a VPC with its subnets and gateways, as a security team does with default VPCs."""
    ec2: Any = clients.ec2
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    attached = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
    for subnet in ec2.describe_subnets(Filters=inside)["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    for gateway in ec2.describe_internet_gateways(Filters=attached)["InternetGateways"]:
        name = gateway["InternetGatewayId"]
        ec2.detach_internet_gateway(InternetGatewayId=name, VpcId=vpc)
        ec2.delete_internet_gateway(InternetGatewayId=name)
    ec2.delete_vpc(VpcId=vpc)
