"""The viewer reads what the console shows, and the API server's identity becomes nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import AccessRefusedError, BadInputError
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name
from infra_bootstrap.stacks.parameters import plan_parameters
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.storage.layout import (
    ARTIFACTS,
    BUFFERS,
    CHECKPOINTS,
    POLICIES,
    SPECS,
    WRITERS,
)
from tests.infra_bootstrap.accounts import Account, Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients
from tests.infra_bootstrap.stacks.test_bucket_writers import assert_refused, key_of

#: The API server's identity as `make stack` has it.
API_SERVER, LOG_BUCKET = "airflow-api-server", "logs-of-airflow"
NEVER_SHOWN = {ARTIFACTS, CHECKPOINTS, BUFFERS, POLICIES}
SHOWN = sorted(set(WRITERS) - NEVER_SHOWN)


@pytest.fixture(scope="module")
def _viewed(running_account: Account) -> Deployment:
    """An environment with a KMS key, whose API server has an identity of its own."""
    deployment = Deployment(running_account, "viewed")
    with running_account.reachable():
        administrator = running_account.clients()
        key = administrator.client("kms").create_key()["KeyMetadata"]["Arn"]
        own = {"KmsKeyArn": key, "ApiServerArn": administrator.role_arn(API_SERVER)}
        deployment.settings = DeploymentSettings("viewed", parameters=own)
        deployment.deploy((Concern.IDENTITY,), (Concern.STORAGE,))
    names = ("airflow-worker", API_SERVER, LOG_BUCKET, "viewed")
    for _ in range(2):  # as each start of `make stack` does
        subprocess.run(
            [sys.executable, "-m", "laptop.stack.identities", *names],
            env=running_account.variables("administrator"),
            check=True,
        )
    return deployment


@pytest.fixture
def viewed(_viewed: Deployment, account: Account) -> Deployment:
    """The environment, with clients that point at its account."""
    assert account is _viewed.account
    return _viewed


@pytest.fixture
def viewer(viewed: Deployment) -> Clients:
    """The viewer, as the API server becomes it."""
    return become(viewed, API_SERVER, "viewer")


def become(deployment: Deployment, identity: str, role: str) -> Clients:
    """Assume a role of the environment with an identity's own credentials."""
    clients = deployment.as_role(identity)
    return clients.assume(clients.role_arn(role_name(deployment.settings.environment, role)))


def write(deployment: Deployment, prefix: str) -> str:
    """Write a key of a class as its writer, and return it."""
    key = key_of(prefix, f".{len(prefix)}.shown")
    writer = "launcher" if prefix == ARTIFACTS else WRITERS[prefix][0]
    s3 = deployment.as_role(writer).s3
    s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"shown", IfNoneMatch="*")
    return key


@pytest.mark.local_aws
@pytest.mark.parametrize("prefix", SHOWN)
def test_the_viewer_reads_what_the_console_shows(
    viewed: Deployment, viewer: Clients, prefix: str
) -> None:
    """It lists and reads each class of which a page shows something."""
    key = write(viewed, prefix)
    listed = viewer.s3.list_objects_v2(Bucket=viewed.bucket, Prefix=prefix)
    assert key in [item["Key"] for item in listed["Contents"]]
    assert viewer.s3.get_object(Bucket=viewed.bucket, Key=key)["Body"].read() == b"shown"


@pytest.mark.local_aws
@pytest.mark.parametrize("prefix", sorted(NEVER_SHOWN))
def test_the_viewer_reads_nothing_else(viewed: Deployment, viewer: Clients, prefix: str) -> None:
    """Models, replay buffers and code are refused, though they are there."""
    key = write(viewed, prefix)
    assert_refused(viewer.s3.get_object, Bucket=viewed.bucket, Key=key)


@pytest.mark.local_aws
def test_the_viewer_sees_machines(viewer: Clients) -> None:
    """It may ask which machines there are."""
    assert "Reservations" in viewer.ec2.describe_instances()


@pytest.mark.local_aws
@pytest.mark.parametrize("prefix", SHOWN)
def test_the_viewer_changes_nothing(viewed: Deployment, viewer: Clients, prefix: str) -> None:
    """It neither writes nor deletes a key of what it reads."""
    place: dict[str, Any] = {"Bucket": viewed.bucket, "Key": key_of(prefix, ".sly")}
    assert_refused(viewer.s3.put_object, **place, Body=b"", IfNoneMatch="*")
    assert_refused(viewer.s3.delete_object, **place)


@pytest.mark.local_aws
@pytest.mark.parametrize("role", ["launcher", "promoter", "reaper", "deployer", "trainer"])
def test_the_api_servers_identity_becomes_the_viewer_alone(viewed: Deployment, role: str) -> None:
    """It becomes no role that writes or launches, also not if its own policy allows it."""
    with pytest.raises(AccessRefusedError):
        become(viewed, API_SERVER, role)
    iam = viewed.as_role("administrator").iam
    may = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName=API_SERVER, PolicyName="more", PolicyDocument=document)
    try:
        with pytest.raises(AccessRefusedError):
            become(viewed, API_SERVER, role)
    finally:
        iam.delete_role_policy(RoleName=API_SERVER, PolicyName="more")


@pytest.mark.local_aws
def test_the_api_servers_identity_has_no_other_right(viewed: Deployment) -> None:
    """Without the viewer it reads the logs of tasks, and nothing of the environment."""
    own = viewed.as_role(API_SERVER)
    assert_refused(own.s3.get_object, Bucket=viewed.bucket, Key=key_of(SPECS))
    assert_refused(own.s3.list_objects_v2, Bucket=viewed.bucket)
    assert_refused(own.ec2.describe_instances)
    assert own.s3.list_objects_v2(Bucket=LOG_BUCKET)["KeyCount"] == 0


@pytest.mark.local_aws
def test_another_environment_shows_nothing_to_it(viewed: Deployment, dev: Deployment) -> None:
    """An environment whose `ApiServerArn` is empty trusts Airflow's role alone."""
    iam = viewed.as_role("administrator").iam
    may = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName=API_SERVER, PolicyName="more", PolicyDocument=document)
    try:
        with pytest.raises(AccessRefusedError):
            become(dev, API_SERVER, "viewer")
    finally:
        iam.delete_role_policy(RoleName=API_SERVER, PolicyName="more")
    became = become(dev, "airflow-worker", "viewer")
    assert became.s3.list_objects_v2(Bucket=dev.bucket)["Name"] == dev.bucket
    theirs = bucket_name("viewed", dev.account.account_id, dev.account.region)
    assert_refused(became.s3.list_objects_v2, Bucket=theirs)


@pytest.mark.parametrize("arn", ["airflow-api-server", "arn:aws:iam::123456789012:role/*"])
def test_only_one_identity_can_be_the_api_servers(arn: str) -> None:
    """A name is no ARN, and a pattern would let other identities look."""
    settings = DeploymentSettings("dev", parameters={"ApiServerArn": arn})
    with pytest.raises(BadInputError, match="the ARN of one IAM role or user, or empty"):
        plan_parameters(FakeClients({}), settings, Concern.IDENTITY, {})
