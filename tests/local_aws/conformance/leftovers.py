"""Remove what a killed run has left. Everything has a name or a tag of the conformance table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from tests.local_aws.conformance.account import PREFIX, Account
from tests.local_aws.conftest import until

LIVING = ["pending", "running", "stopping", "stopped", "shutting-down"]
TAGGED = [{"Name": "tag-key", "Values": [PREFIX]}]


def remove_leftovers(account: Account) -> list[str]:
    """Remove everything that earlier runs have left; return what was removed."""
    removed: list[str] = []
    for remove in (machines, networks, templates, buckets, roles, policies, queues, parameters):
        removed += list(remove(account))
    return removed


def machines(account: Account) -> Iterator[str]:
    """Terminate the machines with our tag, and wait for their ends."""
    ec2 = account.client("ec2")
    filters = [*TAGGED, {"Name": "instance-state-name", "Values": LIVING}]

    def living() -> list[str]:
        found = ec2.describe_instances(Filters=filters)["Reservations"]
        return [i["InstanceId"] for reservation in found for i in reservation["Instances"]]

    left = living()
    if left:
        account.patiently(lambda: ec2.terminate_instances(InstanceIds=left))
        until(lambda: not living(), "the end of all machines", 300)
    yield from left


def networks(account: Account) -> Iterator[str]:
    """Remove the VPCs with our tag, with what is in them."""
    ec2 = account.client("ec2")
    for vpc in ec2.describe_vpcs(Filters=TAGGED)["Vpcs"]:
        inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        for subnet in ec2.describe_subnets(Filters=inside)["Subnets"]:
            ec2.delete_subnet(SubnetId=subnet["SubnetId"])
        for group in ec2.describe_security_groups(Filters=inside)["SecurityGroups"]:
            if group["GroupName"] != "default":
                ec2.delete_security_group(GroupId=group["GroupId"])
        ec2.delete_vpc(VpcId=vpc["VpcId"])
        yield str(vpc["VpcId"])


def templates(account: Account) -> Iterator[str]:
    """Remove launch templates."""
    ec2 = account.client("ec2")
    pages = ec2.get_paginator("describe_launch_templates").paginate()
    yield from _each(
        [one["LaunchTemplateName"] for page in pages for one in page["LaunchTemplates"]],
        lambda name: ec2.delete_launch_template(LaunchTemplateName=name),
    )


def buckets(account: Account) -> Iterator[str]:
    """Remove buckets with their objects."""
    s3 = account.client("s3")

    def remove(name: str) -> None:
        for one in s3.list_objects_v2(Bucket=name).get("Contents", []):
            s3.delete_object(Bucket=name, Key=one["Key"])
        s3.delete_bucket(Bucket=name)

    yield from _each([one["Name"] for one in s3.list_buckets()["Buckets"]], remove)


def roles(account: Account) -> Iterator[str]:
    """Remove instance profiles and roles with their policies."""
    iam = account.client("iam")
    for page in iam.get_paginator("list_instance_profiles").paginate():
        for profile in page["InstanceProfiles"]:
            if profile["InstanceProfileName"].startswith(PREFIX):
                name = profile["InstanceProfileName"]
                for role in profile["Roles"]:
                    iam.remove_role_from_instance_profile(
                        InstanceProfileName=name, RoleName=role["RoleName"]
                    )
                iam.delete_instance_profile(InstanceProfileName=name)
                yield str(name)

    def remove(name: str) -> None:
        for known in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=known)
        for one in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            iam.detach_role_policy(RoleName=name, PolicyArn=one["PolicyArn"])
        iam.delete_role(RoleName=name)

    pages = iam.get_paginator("list_roles").paginate()
    yield from _each([one["RoleName"] for page in pages for one in page["Roles"]], remove)


def policies(account: Account) -> Iterator[str]:
    """Remove managed policies with their versions."""
    iam = account.client("iam")
    pages = iam.get_paginator("list_policies").paginate(Scope="Local")
    arns = {one["PolicyName"]: one["Arn"] for page in pages for one in page["Policies"]}

    def remove(name: str) -> None:
        for version in iam.list_policy_versions(PolicyArn=arns[name])["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=arns[name], VersionId=version["VersionId"])
        iam.delete_policy(PolicyArn=arns[name])

    yield from _each(list(arns), remove)


def queues(account: Account) -> Iterator[str]:
    """Remove queues."""
    sqs = account.client("sqs")
    for url in sqs.list_queues(QueueNamePrefix=PREFIX).get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=url)
        yield str(url)


def parameters(account: Account) -> Iterator[str]:
    """Remove parameters."""
    ssm = account.client("ssm")
    pages = ssm.get_paginator("describe_parameters").paginate()
    for page in pages:
        for one in page["Parameters"]:
            if one["Name"].startswith(f"/{PREFIX}"):
                ssm.delete_parameter(Name=one["Name"])
                yield str(one["Name"])


def _each(names: list[str], remove: Callable[[str], Any]) -> Iterator[str]:
    """Remove each resource with one of our names."""
    for name in names:
        if not name.startswith(PREFIX):
            continue
        try:
            remove(name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchEntity", "NoSuchBucket"):
                raise
        yield name
