"""An account under test, with its clean-ups; a row of the table; and what a row has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conftest import located, policy, trust, unique, until

PREFIX = "nightshift-conformance"
"""How the names of all resources begin, so that those of a killed run can be found."""
TAG = {"Key": PREFIX, "Value": "1"}
"""The tag of what has no name."""
INSTANCE_TYPE = "t3.micro"
LAUNCH_USD = 2 * (0.0114 + 0.011) * 0.25
"""What one machine costs at most: a quarter of an hour, after which it ends by itself. Twice the
list price in eu-west-1 of a t3.micro and 100 GiB of gp3, because other regions cost up to twice as
much. Source: https://aws.amazon.com/ec2/pricing/on-demand/ and https://aws.amazon.com/ebs/pricing/,
read on 2026-11-29."""
SLEEPS = "#!/bin/sh\nshutdown -h +14\necho the conformance table runs here\nsleep 900\n"
"""A machine's user data. It ends by itself even if the run that launched it was killed."""
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


def named(kind: str) -> str:
    """Return a new name of a resource of a kind."""
    return unique(f"{PREFIX}-{kind}")


@dataclass(frozen=True)
class Seen:
    """What a row has seen.

    :param holds: whether the row holds.
    :param what: what was measured or answered, for the table.
    """

    holds: bool
    what: str = ""


@dataclass(frozen=True)
class Row:
    """One behaviour.

    :param source: where AWS documents it, or what it is about.
    :param holds: raises an error or returns false if the behaviour does not hold.
    :param launches: how many machines it launches at most.
    """

    name: str
    source: str
    holds: Callable[[Account], bool | Seen]
    launches: int = 0

    def look(self, account: Account) -> Seen:
        """Check the row. An answer where an error is documented counts as no."""
        try:
            found = self.holds(account)
        except pytest.fail.Exception as failure:
            return Seen(False, str(failure))
        return found if isinstance(found, Seen) else Seen(bool(found))


@dataclass
class Account:
    """An account under test, with its clients and the clean-ups.

    :param client: makes a client of a service, of the caller or of a session.
    :param patience_s: how long IAM's and EC2's changes may take to be seen.
    """

    client: Callable[..., Any]
    region: str
    patience_s: float = 30.0
    _clean: list[Callable[[], Any]] = field(default_factory=list)

    def later(self, undo: Callable[[], Any]) -> None:
        """Register a clean-up. Call it in the statement after the creation."""
        self._clean.append(undo)

    def clean(self) -> None:
        """Run the clean-ups, the last one first. One that fails does not stop the others.

        :raises ClientError: the first failure, after all clean-ups.
        """
        failures = []
        for undo in reversed(self._clean):
            try:
                undo()
            except ClientError as failure:
                failures.append(failure)
        self._clean.clear()
        if failures:
            raise failures[0]

    def bucket(self) -> tuple[Any, str]:
        """Create a bucket without versioning; return a client and its name."""
        s3, name = self.client("s3"), named("bucket")
        s3.create_bucket(Bucket=name, **located(self.region))
        self.later(lambda: s3.delete_bucket(Bucket=name))
        self.later(
            lambda: [
                s3.delete_object(Bucket=name, Key=o["Key"])
                for o in s3.list_objects_v2(Bucket=name).get("Contents", [])
            ]
        )
        return s3, name

    def image(self) -> str:
        """Return the id of a deep-learning image."""
        return str(self.client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"])

    def template(self, **data: Any) -> str:
        """Create a launch template; return its id."""
        ec2 = self.client("ec2")
        usual = {
            "ImageId": self.image(),
            "InstanceType": INSTANCE_TYPE,
            "InstanceInitiatedShutdownBehavior": "terminate",
        }
        made = ec2.create_launch_template(
            LaunchTemplateName=named("template"), LaunchTemplateData={**usual, **data}
        )["LaunchTemplate"]["LaunchTemplateId"]
        self.later(lambda: ec2.delete_launch_template(LaunchTemplateId=made))
        return str(made)

    def subnet(self) -> str:
        """Create a VPC with one subnet in a zone that offers our type; return the subnet's id."""
        ec2, vpc = vpc_of(self)
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": [INSTANCE_TYPE]}],
        )["InstanceTypeOfferings"]
        zone = min(offer["Location"] for offer in offers)
        made = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24", AvailabilityZone=zone)[
            "Subnet"
        ]["SubnetId"]
        self.later(lambda: ec2.delete_subnet(SubnetId=made))
        return str(made)

    def end_later(self, instance_id: str) -> None:
        """Register the end of a machine: it is terminated, and its end is awaited."""
        self.later(lambda: self.await_end(instance_id))

    def await_end(self, instance_id: str) -> None:
        """Terminate a machine and wait until it has ended."""
        ec2 = self.client("ec2")
        self.patiently(lambda: ec2.terminate_instances(InstanceIds=[instance_id]))
        # A terminated machine stays listed for an hour, so one that is not listed is new.
        until(lambda: self.state_of(instance_id) == "terminated", "its end", 300)

    def state_of(self, instance_id: str) -> str | None:
        """Return the state of a machine, or None if EC2 lists none."""
        wanted = [{"Name": "instance-id", "Values": [instance_id]}]
        found = self.client("ec2").describe_instances(Filters=wanted)["Reservations"]
        return str(found[0]["Instances"][0]["State"]["Name"]) if found else None

    def patiently(self, call: Callable[[], Any]) -> Any:
        """Make a call again while EC2 does not know a new machine."""
        end = time.monotonic() + self.patience_s
        while True:
            try:
                return call()
            except ClientError as error:
                is_late = error.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
                if not is_late or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    @contextmanager
    def as_role(self, *statements: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
        """Create a role with these permissions; give a function that makes the role's clients."""
        iam, sts, name = self.client("iam"), self.client("sts"), named("role")
        account_id = sts.get_caller_identity()["Account"]
        arn = iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{account_id}:root"}),
        )["Role"]["Arn"]
        try:
            iam.put_role_policy(
                RoleName=name, PolicyName="rights", PolicyDocument=policy(*statements)
            )
            given = until(lambda: _assume(sts, arn), "the role can be assumed", self.patience_s)
            session = boto3.Session(
                given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], self.region
            )
            yield lambda service: self.client(service, session)
        finally:
            for known in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=name, PolicyName=known)
            iam.delete_role(RoleName=name)


def _assume(sts: Any, arn: str) -> Any:
    """Assume a role; return its credentials, or None while IAM does not know the role."""
    try:
        return sts.assume_role(RoleArn=arn, RoleSessionName=PREFIX)["Credentials"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return None


def vpc_of(account: Account) -> tuple[Any, str]:
    """Create a VPC; return a client and its id."""
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(
        CidrBlock="10.20.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": [TAG]}]
    )["Vpc"]["VpcId"]
    account.later(lambda: ec2.delete_vpc(VpcId=vpc))
    return ec2, str(vpc)


def code_or(call: Callable[..., Any], **arguments: Any) -> str:
    """Return the error code of a call, or an empty text if it succeeds."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
