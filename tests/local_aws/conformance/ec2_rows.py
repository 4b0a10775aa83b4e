"""Rows about EC2 that launch nothing."""

from __future__ import annotations

from tests.local_aws.conformance.account import Account, named, vpc_of
from tests.local_aws.conftest import code_of


def dry_run(account: Account) -> bool:
    """A dry run answers with an error that says the result."""
    ec2 = account.client("ec2")
    image = ec2.describe_images(
        Owners=["amazon"],
        Filters=[{"Name": "name", "Values": ["Deep Learning Base OSS*Ubuntu 24.04*"]}],
    )["Images"][0]["ImageId"]
    return (
        code_of(
            ec2.run_instances,
            ImageId=image,
            InstanceType="c7i.large",
            MinCount=1,
            MaxCount=1,
            DryRun=True,
        )
        == "DryRunOperation"
    )


def unknown_instance(account: Account) -> bool:
    """An unknown id and a malformed id have different errors."""
    ec2 = account.client("ec2")
    codes = [
        code_of(ec2.describe_instances, InstanceIds=[given])
        for given in ("i-0123456789abcdef0", "x")
    ]
    return codes == ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"]


def ids_and_pages(account: Account) -> bool:
    """Ids and a page size cannot be combined."""
    ec2 = account.client("ec2")
    return (
        code_of(ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"], MaxResults=5)
        == "InvalidParameterCombination"
    )


def unknown_filter(account: Account) -> bool:
    """An unknown filter is refused."""
    return (
        code_of(
            account.client("ec2").describe_instances,
            Filters=[{"Name": "colour", "Values": ["red"]}],
        )
        == "InvalidParameterValue"
    )


def many_values(account: Account) -> bool:
    """The filters of one call have at most 200 values."""
    ec2, names = account.client("ec2"), [f"i-{number:017x}" for number in range(201)]
    ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": names[1:]}])
    return (
        code_of(ec2.describe_instances, Filters=[{"Name": "instance-id", "Values": names}])
        == "FilterLimitExceeded"
    )


def unknown_type(account: Account) -> bool:
    """An unknown instance type is refused."""
    return (
        code_of(account.client("ec2").describe_instance_types, InstanceTypes=["zz9.large"])
        == "InvalidInstanceType"
    )


def subnets_fit(account: Account) -> bool:
    """A subnet lies within its VPC and does not overlap another subnet."""
    ec2, vpc = vpc_of(account)
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    account.later(lambda: ec2.delete_subnet(SubnetId=subnet))
    codes = [
        code_of(ec2.create_subnet, VpcId=vpc, CidrBlock=block)
        for block in ("10.21.0.0/24", "10.20.1.128/25")
    ]
    return codes == ["InvalidSubnet.Range", "InvalidSubnet.Conflict"]


def vpc_in_use(account: Account) -> bool:
    """A VPC with a subnet is not deleted."""
    ec2, vpc = vpc_of(account)
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    account.later(lambda: ec2.delete_subnet(SubnetId=subnet))
    return code_of(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"


def groups_and_rules_once(account: Account) -> bool:
    """A group's name can be used once in a VPC, and a rule once in a group."""
    ec2, vpc = vpc_of(account)
    wanted = {"GroupName": named("group"), "Description": "test", "VpcId": vpc}
    group = ec2.create_security_group(**wanted)["GroupId"]
    account.later(lambda: ec2.delete_security_group(GroupId=group))
    rule = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    twice = code_of(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=rule)
    return (code_of(ec2.create_security_group, **wanted), twice) == (
        "InvalidGroup.Duplicate",
        "InvalidPermission.Duplicate",
    )


def template_versions(account: Account) -> bool:
    """A template's name can be used once; its versions are numbered, and $Latest is the last."""
    ec2, name = account.client("ec2"), named("template")
    ec2.create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "c7i.large"}
    )
    account.later(lambda: ec2.delete_launch_template(LaunchTemplateName=name))
    ec2.create_launch_template_version(
        LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "m7i.large"}
    )
    newest = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])[
        "LaunchTemplateVersions"
    ]
    codes = [
        code_of(
            ec2.create_launch_template,
            LaunchTemplateName=name,
            LaunchTemplateData={"InstanceType": "c7i.large"},
        ),
        code_of(ec2.describe_launch_template_versions, LaunchTemplateName=name, Versions=["99"]),
    ]
    wanted = [
        "InvalidLaunchTemplateName.AlreadyExistsException",
        "InvalidLaunchTemplateId.VersionNotFound",
    ]
    return (newest[0]["VersionNumber"], codes) == (2, wanted)


def spot_prices(account: Account) -> bool:
    """Prices of one type come newest first, from the region's zones."""
    found = account.client("ec2").describe_spot_price_history(
        InstanceTypes=["c6i.large"], ProductDescriptions=["Linux/UNIX"]
    )
    prices = found["SpotPriceHistory"]
    return (
        {p["InstanceType"] for p in prices} == {"c6i.large"}
        and all(
            p["AvailabilityZone"].startswith(account.region) and float(p["SpotPrice"]) > 0
            for p in prices
        )
        and [p["Timestamp"] for p in prices]
        == sorted((p["Timestamp"] for p in prices), reverse=True)
    )


def offered_by_zone(account: Account) -> bool:
    """The offerings of a type name zones of the region."""
    found = account.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["c6i.large"]}],
    )["InstanceTypeOfferings"]
    return bool(found) and all(
        (o["InstanceType"], o["Location"][:-1]) == ("c6i.large", account.region) for o in found
    )


def sizes(account: Account) -> bool:
    """A type has its number of vCPUs, its memory and its GPUs."""
    found = account.client("ec2").describe_instance_types(InstanceTypes=["g4dn.xlarge"])[
        "InstanceTypes"
    ][0]
    gpu = found["GpuInfo"]["Gpus"][0]
    return (
        found["VCpuInfo"]["DefaultVCpus"],
        found["MemoryInfo"]["SizeInMiB"],
        gpu["Name"],
        gpu["Count"],
    ) == (4, 16384, "T4", 1)
