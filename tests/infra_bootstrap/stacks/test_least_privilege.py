"""Roles cannot launch, end, pass, invoke, assume or deploy more than they need.

A launch is tried as a dry run: AWS answers DryRunOperation if it is allowed, and
UnauthorizedOperation if not, before it checks anything else.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import AccessRefusedError
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.events import find_failure
from tests.infra_bootstrap.accounts import Deployment, refusal
from tests.infra_bootstrap.stacks.test_bucket_writers import EVALUATED, assert_refused

Request = dict[str, Any]
TAGS = {
    "nightshift:environment": "dev",
    "nightshift:deadline": "2026-01-01T00:00:00Z",
    "nightshift:attempt": "1",
}
#: The roles that Airflow's worker becomes.
ITS_ROLES = ("launcher", "promoter", "reaper", "viewer")
WORKING = (*ITS_ROLES, "trainer", "evaluator", "deployer", "airflow-worker")


def fleet(dev: Deployment, **override: Any) -> Request:
    """Build the launcher's request as a dry run."""
    subnet = dev.outputs.subnet_ids["eu-west-1a"]
    template = {
        "LaunchTemplateId": dev.outputs.launch_template_id,
        "Version": dev.outputs.launch_template_version,
    }
    tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    return {
        "Type": "instant",
        "DryRun": True,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": template,
                "Overrides": [{"InstanceType": "c7i.large", "SubnetId": subnet, **override}],
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot",
        },
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
    }


def instance(dev: Deployment, **changes: Any) -> Request:
    """Build the same request for RunInstances, which can override more than CreateFleet."""
    asked = fleet(dev)
    return {
        "DryRun": True,
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": "c7i.large",
        "LaunchTemplate": asked["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"],
        "SubnetId": asked["LaunchTemplateConfigs"][0]["Overrides"][0]["SubnetId"],
        "TagSpecifications": asked["TagSpecifications"],
        **changes,
    }


def of_gang(dev: Deployment, request: Request) -> Request:
    """Change a launch request so that it names the launch template of gangs."""
    ours = {
        "LaunchTemplateId": dev.outputs.gang_launch_template_id,
        "Version": dev.outputs.gang_launch_template_version,
    }
    if "LaunchTemplate" in request:
        return {**request, "LaunchTemplate": ours}
    (config,) = request["LaunchTemplateConfigs"]
    return {**request, "LaunchTemplateConfigs": [{**config, "LaunchTemplateSpecification": ours}]}


def tagged(request: Request, **tags: str | None) -> Request:
    """Change tags of the request; None removes a tag."""
    changed = copy.deepcopy(request)
    wanted = {**TAGS, **{f"nightshift:{name}": value for name, value in tags.items()}}
    changed["TagSpecifications"][0]["Tags"] = [
        {"Key": key, "Value": value} for key, value in wanted.items() if value is not None
    ]
    return changed


def without_template(request: Request) -> Request:
    """Build the request of a machine without a launch template."""
    return {key: value for key, value in request.items() if key != "LaunchTemplate"}


def dry_run(call: Callable[..., Any], request: Request, refused_on: str = "") -> str:
    """Make a dry run and return AWS's error code.

    :param refused_on: the resource that a refusal must name, besides the action
    """
    with pytest.raises(ClientError) as caught:
        call(**request)
    code, message = refusal(caught.value)
    if code == "UnauthorizedOperation":
        assert EVALUATED.search(message), message
        assert refused_on in message, message
    return code


def disk(**settings: Any) -> list[dict[str, Any]]:
    """Build a root volume of another kind."""
    return [
        {
            "DeviceName": "/dev/sda1",
            "Ebs": {"Encrypted": True, "VolumeType": "gp3", "VolumeSize": 100, **settings},
        }
    ]


def foreign(dev: Deployment, what: str) -> str:
    """Create a foreign resource in the account as the administrator."""
    ec2 = dev.as_role("administrator").ec2
    if what == "template":
        data = {
            "ImageId": dev.outputs.image_id,
            "InstanceType": "c7i.large",
            "IamInstanceProfile": {"Arn": dev.outputs.trainer_instance_profile_arn},
            "SecurityGroupIds": [dev.outputs.security_group_id],
            "BlockDeviceMappings": disk(),
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        }
        name = "foreign-template"
        templates = ec2.describe_launch_templates()["LaunchTemplates"]
        found = [item for item in templates if item["LaunchTemplateName"] == name]
        if not found:
            found = [
                ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)[
                    "LaunchTemplate"
                ]
            ]
        return str(found[0]["LaunchTemplateId"])
    if what == "profile":
        iam, name = dev.as_role("administrator").iam, "somebodys-profile"
        if name not in str(iam.list_instance_profiles()["InstanceProfiles"]):
            iam.create_instance_profile(InstanceProfileName=name)
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName="administrator")
        return name
    vpc = ec2.describe_subnets(SubnetIds=list(dev.outputs.subnet_ids.values()))["Subnets"][0][
        "VpcId"
    ]
    if what == "subnet":
        block = f"10.64.{200 + len(ec2.describe_subnets()['Subnets'])}.0/24"
        return str(ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"])
    wanted = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": ["default"]}]
    return str(ec2.describe_security_groups(Filters=wanted)["SecurityGroups"][0]["GroupId"])


# ---- launching
LAUNCHES: dict[str, Callable[[Deployment], Request]] = {
    "without the environment's tag": lambda dev: tagged(fleet(dev), environment="prod"),
    "without a deadline": lambda dev: tagged(fleet(dev), deadline=None),
    "without an attempt": lambda dev: tagged(fleet(dev), attempt=None),
    "of a type that was not allowed": lambda dev: fleet(dev, InstanceType="p3.2xlarge"),
    "from another image": lambda dev: fleet(dev, ImageId=dev.outputs.image_id),
    "with an open volume": lambda dev: fleet(dev, BlockDeviceMappings=disk(Encrypted=False)),
    "with a huge volume": lambda dev: fleet(dev, BlockDeviceMappings=disk(VolumeSize=4000)),
    "with an expensive volume": lambda dev: fleet(
        dev, BlockDeviceMappings=disk(VolumeType="io2", Iops=1000)
    ),
    "on hardware of its own": lambda dev: fleet(dev, Placement={"Tenancy": "dedicated"}),
    "on a dedicated host": lambda dev: fleet(dev, Placement={"Tenancy": "host"}),
    "in a placement group": lambda dev: fleet(dev, Placement={"GroupName": "somebodys"}),
    "in a subnet that is not ours": lambda dev: fleet(dev, SubnetId=foreign(dev, "subnet")),
    "with IMDSv1": lambda dev: fleet(dev, MetadataOptions={"HttpTokens": "optional"}),
    "with metadata that leaves the machine": lambda dev: fleet(
        dev, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3}
    ),
    "with another profile": lambda dev: fleet(
        dev, IamInstanceProfile={"Name": foreign(dev, "profile")}
    ),
    "with a key pair": lambda dev: fleet(dev, KeyName="somebody"),
}
#: What an override can change without harm. The machine is ours whatever the value is.
HARMLESS = {
    "AvailabilityZone": "the subnet has one, and only our subnets are allowed",
    "AvailabilityZoneId": "the subnet has one, and only our subnets are allowed",
    "MaxPrice": "it can only be lower than the on-demand price, which the budget counts with",
    "Priority": "the order of types that are allowed",
    "WeightedCapacity": "the number of machines, which the tag of the attempt and the reaper limit",
    "InstanceRequirements": "EC2 chooses types, and each is compared with AllowedInstanceTypes",
}
DIRECT: dict[str, Callable[[Deployment], Request]] = {
    "without our template": lambda dev: without_template(
        instance(dev, ImageId=dev.outputs.image_id)
    ),
    "from a template that is not ours": lambda dev: instance(
        dev, LaunchTemplate={"LaunchTemplateId": foreign(dev, "template")}
    ),
    "with IMDSv1": lambda dev: instance(dev, MetadataOptions={"HttpTokens": "optional"}),
    "with metadata that leaves the machine": lambda dev: instance(
        dev, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3}
    ),
    "from another image": lambda dev: instance(dev, ImageId=dev.outputs.image_id),
    "with a key pair": lambda dev: instance(dev, KeyName="somebody"),
    "with an open volume": lambda dev: instance(dev, BlockDeviceMappings=disk(Encrypted=False)),
    "with a huge volume": lambda dev: instance(dev, BlockDeviceMappings=disk(VolumeSize=4000)),
    "with an expensive volume": lambda dev: instance(
        dev, BlockDeviceMappings=disk(VolumeType="io2", Iops=1000)
    ),
    "with another group": lambda dev: instance(dev, SecurityGroupIds=[foreign(dev, "group")]),
    "in a subnet that is not ours": lambda dev: instance(dev, SubnetId=foreign(dev, "subnet")),
    "of a type that was not allowed": lambda dev: instance(dev, InstanceType="p3.2xlarge"),
    "without a deadline": lambda dev: tagged(instance(dev), deadline=None),
}


#: The resource on which each change is refused, which shows which condition decides.
REFUSED_ON = {
    "without the environment's tag": "instance/*",
    "without a deadline": "instance/*",
    "without an attempt": "instance/*",
    "of a type that was not allowed": "instance/*",
    "from another image": "image/",
    "with an open volume": "volume/*",
    "with a huge volume": "volume/*",
    "with an expensive volume": "volume/*",
    "on hardware of its own": "instance/*",
    "on a dedicated host": "instance/*",
    "in a placement group": "placement-group/somebodys",
    "in a subnet that is not ours": "subnet/",
    "without our template": "instance/*",
    "from a template that is not ours": "launch-template/",
    "with IMDSv1": "instance/*",
    "with metadata that leaves the machine": "instance/*",
    "with another profile": "instance/*",
    "with a key pair": "key-pair/somebody",
    "with another group": "security-group/",
}


@pytest.mark.parametrize("market", ["spot", "on-demand"])
def test_the_launcher_may_launch_as_it_does(dev: Deployment, market: str) -> None:
    """The pipeline's own request is allowed in both markets, so the refusals can tell."""
    request = fleet(dev)
    request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] = market
    assert dry_run(dev.as_role("launcher").ec2.create_fleet, request) == "DryRunOperation"
    assert dry_run(dev.as_role("launcher").ec2.run_instances, instance(dev)) == "DryRunOperation"


@pytest.mark.parametrize("change", LAUNCHES)
def test_a_fleet_is_refused(dev: Deployment, change: str) -> None:
    """A condition refuses each change that an override or a tag of a Fleet could make."""
    assert (
        dry_run(dev.as_role("launcher").ec2.create_fleet, LAUNCHES[change](dev), REFUSED_ON[change])
        == "UnauthorizedOperation"
    )


def test_each_override_of_a_fleet_has_a_test_or_does_no_harm(dev: Deployment) -> None:
    """Each member of an override that the API has is refused by a test, or cannot do harm."""
    model = dev.as_role("launcher").ec2.meta.service_model
    shape = model.shape_for("FleetLaunchTemplateOverridesRequest")
    tried = {
        name
        for build in LAUNCHES.values()
        for name in build(dev)["LaunchTemplateConfigs"][0]["Overrides"][0]
    }
    assert set(shape.members) == tried | set(HARMLESS)
    assert not tried & set(HARMLESS)


@pytest.mark.parametrize("change", DIRECT)
def test_a_direct_launch_is_refused(dev: Deployment, change: str) -> None:
    """A condition refuses each change that RunInstances could make."""
    request = DIRECT[change](dev)
    if change == "with a key pair":
        dev.as_role("administrator").ec2.create_key_pair(KeyName="somebody")
    try:
        assert (
            dry_run(dev.as_role("launcher").ec2.run_instances, request, REFUSED_ON[change])
            == "UnauthorizedOperation"
        )
    finally:
        if change == "with a key pair":
            dev.as_role("administrator").ec2.delete_key_pair(KeyName="somebody")


def test_the_launcher_passes_no_other_role(dev: Deployment) -> None:
    """The launcher may pass only the trainer's role."""
    iam = dev.as_role("administrator").iam
    iam.create_instance_profile(InstanceProfileName="foreign")
    iam.add_role_to_instance_profile(InstanceProfileName="foreign", RoleName="administrator")
    try:
        request = instance(dev, IamInstanceProfile={"Name": "foreign"})
        assert (
            dry_run(dev.as_role("launcher").ec2.run_instances, request, "instance/*")
            == "UnauthorizedOperation"
        )
    finally:
        iam.remove_role_from_instance_profile(
            InstanceProfileName="foreign", RoleName="administrator"
        )
        iam.delete_instance_profile(InstanceProfileName="foreign")


def test_the_trainers_profile_with_another_role_in_it_is_not_passed(dev: Deployment) -> None:
    """The trainer's profile with another role is refused: PassRole checks the role."""
    iam, profile = dev.as_role("administrator").iam, "nightshift-dev-trainer"
    iam.remove_role_from_instance_profile(
        InstanceProfileName=profile, RoleName="nightshift-dev-trainer"
    )
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName="administrator")
    try:
        refused = (
            f"iam:PassRole on resource: arn:aws:iam::{dev.account.account_id}:role/administrator"
        )
        for call, request in (
            (dev.as_role("launcher").ec2.run_instances, instance(dev)),
            (dev.as_role("launcher").ec2.create_fleet, fleet(dev)),
        ):
            assert dry_run(call, request, refused) == "UnauthorizedOperation"
    finally:
        iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName="administrator")
        iam.add_role_to_instance_profile(
            InstanceProfileName=profile, RoleName="nightshift-dev-trainer"
        )


@pytest.mark.parametrize(
    "role", ["trainer", "evaluator", "promoter", "reaper", "viewer", "deployer", "airflow-worker"]
)
def test_only_the_launcher_launches(dev: Deployment, role: str) -> None:
    """Every other role is refused the pipeline's own request."""
    assert dry_run(dev.as_role(role).ec2.create_fleet, fleet(dev)) == "UnauthorizedOperation"
    assert dry_run(dev.as_role(role).ec2.run_instances, instance(dev)) == "UnauthorizedOperation"


# ---- ending and tagging
@pytest.fixture
def stranger(dev: Deployment) -> Any:
    """A foreign machine in the same account, which is ended after the test."""
    ec2 = dev.as_role("administrator").ec2
    made = ec2.run_instances(
        ImageId=dev.outputs.image_id,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/sh\nsleep 600\n",
    )["Instances"][0]["InstanceId"]
    yield made
    ec2.terminate_instances(InstanceIds=[made])


@pytest.mark.parametrize("role", WORKING)
def test_no_role_ends_a_foreign_machine(dev: Deployment, stranger: str, role: str) -> None:
    """Every role is refused to end a machine without our tag, also roles that may end ours."""
    assert_refused(dev.as_role(role).ec2.terminate_instances, InstanceIds=[stranger])


def test_the_launcher_cannot_make_a_machine_ours_by_tagging_it(
    dev: Deployment, stranger: str
) -> None:
    """Tags can be set only at creation, so no role adopts a machine or moves a deadline."""
    tags = [{"Key": "nightshift:environment", "Value": "dev"}]
    assert_refused(dev.as_role("launcher").ec2.create_tags, Resources=[stranger], Tags=tags)
    assert_refused(dev.as_role("launcher").ec2.delete_tags, Resources=[stranger], Tags=tags)


def test_the_launcher_cannot_change_the_template(dev: Deployment) -> None:
    """Only the deployer creates versions of the launch template."""
    assert_refused(
        dev.as_role("launcher").ec2.create_launch_template_version,
        LaunchTemplateId=dev.outputs.launch_template_id,
        SourceVersion="1",
        LaunchTemplateData={"InstanceType": "c7i.xlarge"},
    )


def test_the_reaper_reads_no_object(dev: Deployment) -> None:
    """The reaper may not read objects, because a machine's tag has its deadline."""
    reaper = dev.as_role("reaper").s3
    for key in (
        "attempts/exp/run/seed-0/1.json",
        "heartbeats/exp/run/seed-0.json",
        "registry/exp/champion.json",
    ):
        assert_refused(reaper.get_object, Bucket=dev.bucket, Key=key)
    assert_refused(reaper.list_objects_v2, Bucket=dev.bucket)


# ---- what the deployer touches
Resource = dict[str, Any]


@pytest.fixture(scope="module")
def foreign_network(deployed: Deployment) -> Iterator[dict[str, str]]:
    """A foreign network in the same account, without our tags."""
    with deployed.account.reachable():
        ec2 = deployed.as_role("administrator").ec2
        vpc = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
        made = {
            "Vpc": vpc,
            "OwnVpc": vpc_of(deployed),
            "OwnTable": table_of(deployed),
            "OwnSubnet": deployed.outputs.subnet_ids["eu-west-1a"],
            "Subnet": ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.0.0/24")["Subnet"]["SubnetId"],
            "Table": ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"],
            "Group": ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=vpc)[
                "GroupId"
            ],
            "Gateway": ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"],
            "Address": ec2.allocate_address(Domain="vpc")["AllocationId"],
        }
        yield made
        ec2.release_address(AllocationId=made["Address"])
        ec2.delete_internet_gateway(InternetGatewayId=made["Gateway"])
        ec2.delete_security_group(GroupId=made["Group"])
        ec2.delete_route_table(RouteTableId=made["Table"])
        ec2.delete_subnet(SubnetId=made["Subnet"])
        ec2.delete_vpc(VpcId=vpc)


def vpc_of(dev: Deployment) -> str:
    """Return the environment's own network."""
    subnets = dev.as_role("administrator").ec2.describe_subnets(
        SubnetIds=list(dev.outputs.subnet_ids.values())
    )["Subnets"]
    return str(subnets[0]["VpcId"])


def table_of(dev: Deployment) -> str:
    """Return the environment's own route table."""
    wanted = [{"Name": "association.subnet-id", "Values": [dev.outputs.subnet_ids["eu-west-1a"]]}]
    return str(
        dev.as_role("administrator").ec2.describe_route_tables(Filters=wanted)["RouteTables"][0][
            "RouteTableId"
        ]
    )


def kind(name: str, **properties: Any) -> Resource:
    """Build a template's resource of a kind."""
    return {"Type": f"AWS::EC2::{name}", "Properties": properties}


def prods(value: str) -> list[dict[str, str]]:
    """Build tags of another environment."""
    return [{"Key": value, "Value": "prod"}]


#: Requests that a template could make through the deployer, with the call that must be refused.
INTRUSIONS: dict[str, tuple[Callable[[dict[str, str]], Resource], str]] = {
    "a route in their table": (
        lambda their: kind(
            "Route",
            RouteTableId=their["Table"],
            DestinationCidrBlock="0.0.0.0/0",
            GatewayId=their["Gateway"],
        ),
        "ec2:CreateRoute on resource: {Table}",
    ),
    "our table for their subnet": (
        lambda their: kind(
            "SubnetRouteTableAssociation", RouteTableId=their["OwnTable"], SubnetId=their["Subnet"]
        ),
        "ec2:AssociateRouteTable on resource: {Subnet}",
    ),
    "a subnet in their network": (
        lambda their: kind("Subnet", VpcId=their["Vpc"], CidrBlock="10.77.9.0/24"),
        "ec2:CreateSubnet on resource: {Vpc}",
    ),
    "a table in their network": (
        lambda their: kind("RouteTable", VpcId=their["Vpc"]),
        "ec2:CreateRouteTable on resource: {Vpc}",
    ),
    "a group in their network": (
        lambda their: kind("SecurityGroup", VpcId=their["Vpc"], GroupDescription="sly"),
        "ec2:CreateSecurityGroup on resource: {Vpc}",
    ),
    "a way into their group": (
        lambda their: kind(
            "SecurityGroupIngress",
            GroupId=their["Group"],
            IpProtocol="tcp",
            FromPort=22,
            ToPort=22,
            CidrIp="0.0.0.0/0",
        ),
        "ec2:AuthorizeSecurityGroupIngress on resource: {Group}",
    ),
    "their gateway on our network": (
        lambda their: kind(
            "VPCGatewayAttachment", VpcId=their["OwnVpc"], InternetGatewayId=their["Gateway"]
        ),
        "ec2:AttachInternetGateway on resource: {Gateway}",
    ),
    "a NAT gateway on their address": (
        lambda their: kind(
            "NatGateway", SubnetId=their["OwnSubnet"], AllocationId=their["Address"]
        ),
        "ec2:CreateNatGateway on resource: {Address}",
    ),
    "an endpoint on their table": (
        lambda their: kind(
            "VPCEndpoint",
            VpcId=their["OwnVpc"],
            RouteTableIds=[their["Table"]],
            ServiceName="com.amazonaws.eu-west-1.s3",
            VpcEndpointType="Gateway",
        ),
        "ec2:CreateVpcEndpoint on resource: {Table}",
    ),
    "a flow log of their network": (
        lambda their: kind(
            "FlowLog",
            ResourceId=their["Vpc"],
            ResourceType="VPC",
            TrafficType="ALL",
            LogGroupName="sly",
        ),
        "ec2:CreateFlowLogs on resource: {Vpc}",
    ),
    "a network that says it is another environment's": (
        lambda _: kind("VPC", CidrBlock="10.78.0.0/16", Tags=prods("nightshift:environment")),
        "ec2:CreateVpc on resource: vpc/*",
    ),
    "a gateway that says it is another deployment's": (
        lambda _: kind("InternetGateway", Tags=prods("nightshift:deployment")),
        "ec2:CreateInternetGateway on resource: internet-gateway/*",
    ),
    "a group that says it is another environment's": (
        lambda their: kind(
            "SecurityGroup",
            VpcId=their["OwnVpc"],
            GroupDescription="sly",
            Tags=prods("nightshift:environment"),
        ),
        "ec2:CreateTags on resource: security-group/",
    ),
}


@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_the_deployer_touches_nothing_that_is_not_ours(
    dev: Deployment, foreign_network: dict[str, str], intrusion: str
) -> None:
    """A template cannot reach a foreign network or another environment through the deployer."""
    make, refused = INTRUSIONS[intrusion]
    clients, name = (
        dev.as_role("administrator"),
        "sly-" + "-".join(intrusion.split()).replace("'", "")[:60],
    )
    body = json.dumps({"Resources": {"Sly": make(foreign_network)}})
    made = clients.cloudformation.create_stack(
        StackName=name, TemplateBody=body, RoleARN=clients.role_arn("nightshift-dev-deployer")
    )["StackId"]
    for _ in range(100):
        stack = find_stack(clients, made)
        assert stack is not None
        if not stack.is_busy:
            break
        time.sleep(0.1)
    resource, reason = find_failure(clients, made)
    clients.cloudformation.delete_stack(StackName=name)
    assert resource == "Sly"
    assert "is not authorized to perform: " in reason, reason
    action, _, touched = refused.partition(" on resource: ")
    assert action in reason, reason
    assert touched.format(**foreign_network) in reason, reason


# ---- becoming and passing
BECOMING = [
    (role, target)
    for role in WORKING
    for target in ("launcher", "promoter", "viewer", "deployer", "trainer", "evaluator")
    if role != target and (role != "airflow-worker" or target not in ITS_ROLES)
]


@pytest.mark.parametrize(("role", "target"), BECOMING)
def test_no_role_becomes_another(dev: Deployment, role: str, target: str) -> None:
    """Only Airflow's role may assume roles: launcher, promoter, reaper and viewer."""
    with pytest.raises(AccessRefusedError):
        dev.as_role(role).assume(
            f"arn:aws:iam::{dev.account.account_id}:role/nightshift-dev-{target}"
        )


@pytest.mark.parametrize("target", ITS_ROLES)
def test_airflows_role_becomes_its_four(dev: Deployment, target: str) -> None:
    """Airflow's role may assume its four roles, so the refusals above can tell."""
    became: Clients = dev.as_role("airflow-worker").assume(
        f"arn:aws:iam::{dev.account.account_id}:role/nightshift-dev-{target}"
    )
    assert f"assumed-role/nightshift-dev-{target}/" in became.identity["Arn"]


def test_a_bystander_with_every_right_to_assume_is_not_trusted(dev: Deployment) -> None:
    """The trust policies name Airflow's role, so another role's right to assume is not enough."""
    iam = dev.as_role("administrator").iam
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    iam.create_role(
        RoleName="bystander",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    may = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [may]})
    iam.put_role_policy(RoleName="bystander", PolicyName="may", PolicyDocument=document)
    with pytest.raises(AccessRefusedError):
        dev.account.clients("bystander").assume(dev.outputs.launcher_role_arn)


# ---- asking and deploying
@pytest.mark.parametrize(
    "role", ["trainer", "evaluator", "launcher", "promoter", "reaper", "viewer", "deployer"]
)
def test_only_airflow_asks_the_evaluator(dev: Deployment, role: str) -> None:
    """Only Airflow's role may invoke the evaluator, and only through the alias."""
    lambda_ = dev.as_role(role).client("lambda")
    assert_refused(lambda_.invoke, FunctionName=dev.outputs.evaluator_alias_arn, Payload=b"{}")


def test_airflow_asks_the_alias_and_nothing_past_it(dev: Deployment) -> None:
    """Airflow's role may invoke the alias, but not the unqualified function or the reaper."""
    lambda_ = dev.as_role("airflow-worker").client("lambda")
    assert (
        lambda_.invoke(FunctionName=dev.outputs.evaluator_alias_arn, Payload=b"{}")["StatusCode"]
        == 200
    )
    assert_refused(lambda_.invoke, FunctionName=dev.outputs.evaluator_function_name, Payload=b"{}")
    assert_refused(lambda_.invoke, FunctionName="nightshift-dev-reaper", Payload=b"{}")


@pytest.mark.parametrize(
    "stack", ["nightshift-dev-identity", "nightshift-dev-storage", "somebody-elses"]
)
def test_airflow_deletes_neither_identity_nor_storage(dev: Deployment, stack: str) -> None:
    """Airflow's role may not delete the stacks of identity and storage."""
    cloudformation = dev.as_role("airflow-worker").cloudformation
    deployer = f"arn:aws:iam::{dev.account.account_id}:role/nightshift-dev-deployer"
    assert_refused(cloudformation.delete_stack, StackName=stack, RoleARN=deployer)


def test_airflow_deploys_as_the_deployer_or_not_at_all(dev: Deployment) -> None:
    """A change set without the deployer's role, or for identity, is refused."""
    cloudformation = dev.as_role("airflow-worker").cloudformation
    empty = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    for stack, role in (
        ("nightshift-dev-network", None),
        ("nightshift-dev-network", "administrator"),
        ("nightshift-dev-identity", "nightshift-dev-deployer"),
    ):
        as_role = {"RoleARN": f"arn:aws:iam::{dev.account.account_id}:role/{role}"} if role else {}
        assert_refused(
            cloudformation.create_change_set,
            StackName=stack,
            ChangeSetName="sly",
            TemplateBody=empty,
            **as_role,
        )


@pytest.mark.parametrize("stack", ["nightshift-dev-evaluation", "nightshift-dev-storage"])
def test_airflow_could_replace_the_evaluator_unless_it_is_denied_to_deploy(
    dev: Deployment, stack: str
) -> None:
    """Airflow's role can replace the evaluator until the recommended denial is attached.

    docs/decisions/2026-11-22-the-evaluator-decides.md describes both.
    """
    iam, cloudformation = (
        dev.as_role("administrator").iam,
        dev.as_role("airflow-worker").cloudformation,
    )
    deployer = f"arn:aws:iam::{dev.account.account_id}:role/nightshift-dev-deployer"
    other = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    request = {
        "StackName": stack,
        "ChangeSetName": "sly",
        "TemplateBody": other,
        "RoleARN": deployer,
    }
    made = cloudformation.create_change_set(**request)["Id"]
    cloudformation.delete_change_set(StackName=stack, ChangeSetName=made)
    stacks = f"arn:aws:cloudformation:*:{dev.account.account_id}:stack/nightshift-dev-*"
    actions = [
        f"cloudformation:{name}"
        for name in ("CreateChangeSet", "ExecuteChangeSet", "ContinueUpdateRollback", "DeleteStack")
    ]
    denials = [
        {"Effect": "Deny", "Action": "iam:PassRole", "Resource": deployer},
        {"Effect": "Deny", "Action": actions, "Resource": stacks},
    ]
    for denial in denials:  # each is enough
        iam.put_role_policy(
            RoleName="airflow-worker",
            PolicyName="no-deployments",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [denial]}),
        )
        try:
            assert_refused(cloudformation.create_change_set, **request)
        finally:
            iam.delete_role_policy(RoleName="airflow-worker", PolicyName="no-deployments")


@pytest.mark.parametrize("role", WORKING)
def test_no_role_changes_identities(dev: Deployment, role: str) -> None:
    """Only an administrator, and not the deployer, changes policies, boundaries and trust."""
    iam = dev.as_role(role).iam
    everything = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
        }
    )
    assert_refused(
        iam.put_role_policy,
        RoleName="nightshift-dev-trainer",
        PolicyName="more",
        PolicyDocument=everything,
    )
    assert_refused(iam.delete_role_permissions_boundary, RoleName="nightshift-dev-trainer")
    assert_refused(
        iam.update_assume_role_policy, RoleName="nightshift-dev-launcher", PolicyDocument=everything
    )


@pytest.mark.parametrize(
    "role", ["airflow-worker", "launcher", "promoter", "trainer", "evaluator", "reaper", "viewer"]
)
def test_no_role_at_work_touches_the_buckets_policy(dev: Deployment, role: str) -> None:
    """Only the deployer, through CloudFormation, may change the bucket's policy."""
    assert_refused(dev.as_role(role).s3.delete_bucket_policy, Bucket=dev.bucket)
    assert_refused(
        dev.as_role(role).s3.put_bucket_lifecycle_configuration,
        Bucket=dev.bucket,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "now",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "registry/"},
                    "Expiration": {"Days": 1},
                }
            ]
        },
    )


def test_a_boundary_holds_against_an_administrators_mistake(dev: Deployment) -> None:
    """The boundary limits the trainer even if its policy allows everything."""
    iam = dev.as_role("administrator").iam
    everything = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        }
    )
    iam.put_role_policy(
        RoleName="nightshift-dev-trainer", PolicyName="mistake", PolicyDocument=everything
    )
    try:
        trainer = dev.as_role("trainer")
        assert_refused(trainer.iam.list_users)
        assert_refused(
            trainer.client("lambda").invoke,
            FunctionName=dev.outputs.evaluator_alias_arn,
            Payload=b"{}",
        )
        assert_refused(
            trainer.s3.put_object,
            Bucket=dev.bucket,
            Key="registry/exp/champion.json",
            Body=b"",
            IfNoneMatch="*",
        )
    finally:
        iam.delete_role_policy(RoleName="nightshift-dev-trainer", PolicyName="mistake")
