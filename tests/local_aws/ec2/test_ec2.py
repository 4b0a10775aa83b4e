"""Instances and fleets behave as EC2 documents them."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config

from local_aws.machines.processes import find_marked
from tests.local_aws.conftest import ACCOUNT, LocalAwsUnderTest, allow, code_of, unique, until

E = f"arn:aws:ec2:*:{ACCOUNT}:"
ANY = [
    "subnet",
    "security-group",
    "network-interface",
    "volume",
    "launch-template",
    "spot-instances-request",
]
PARTS = [*(f"{E}{kind}/*" for kind in ANY), "arn:aws:ec2:*::image/*"]


@pytest.fixture(scope="module")
def template(aws: LocalAwsUnderTest) -> str:
    """A launch template that sets all members that the project's template sets."""
    name, ec2, profile = unique("template"), aws.client("ec2"), aws.instance_profile()
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": aws.image(),
            "InstanceType": "c7i.large",
            "IamInstanceProfile": {"Name": profile},
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {
                "HttpTokens": "required",
                "InstanceMetadataTags": "enabled",
                "HttpPutResponseHopLimit": 1,
            },
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/sda1",
                    "Ebs": {"Encrypted": True, "VolumeSize": 90, "VolumeType": "gp3"},
                }
            ],
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": [{"Key": "project", "Value": "test"}]}
                for kind in ("instance", "volume")
            ],
            "UserData": base64.b64encode(
                b"#!/bin/sh\necho from the template\nsleep 300\n"
            ).decode(),
        },
    )
    return name


def fleet(
    template: str, token: str, types: list[str], target: int = 1, **request: Any
) -> dict[str, Any]:
    """Return the arguments of an instant fleet."""
    return {
        "Type": "instant",
        "ClientToken": token,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": target,
            "DefaultTargetCapacityType": "spot",
        },
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": template,
                    "Version": "$Latest",
                },
                "Overrides": [{"InstanceType": t} for t in types],
            }
        ],
        **request,
    }


def test_a_launch_inherits_all_that_its_template_sets(
    aws: LocalAwsUnderTest, template: str
) -> None:
    """Image, type, profile, metadata options, disks, tags and user data come from the template."""
    ec2 = aws.client("ec2")
    machine = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": template}, MinCount=1, MaxCount=1
    )["Instances"][0]["InstanceId"]
    aws.await_console(machine, "from the template")
    found = aws.instance(machine)
    volume = ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [machine]}]
    )["Volumes"][0]
    assert found["InstanceType"] == "c7i.large"
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert {"Key": "project", "Value": "test"} in found["Tags"]
    assert found["IamInstanceProfile"]["Arn"].startswith(
        f"arn:aws:iam::{ACCOUNT}:instance-profile/"
    )
    assert (volume["Size"], volume["Encrypted"], volume["VolumeType"]) == (90, True, "gp3")
    assert volume["Tags"] == [{"Key": "project", "Value": "test"}]
    behaviour = ec2.describe_instance_attribute(
        InstanceId=machine, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_a_console_is_posted_after_the_end_and_read_before_on_nitro(
    aws: LocalAwsUnderTest,
) -> None:
    """A living instance's console is shown to `Latest` alone, and a terminated one's to everyone.

    Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
    """
    ec2 = aws.client("ec2")
    machine = aws.launch("#!/bin/sh\necho hello\nsleep 300\n")
    aws.await_console(machine, "hello")
    assert "Output" not in ec2.get_console_output(InstanceId=machine)
    ec2.terminate_instances(InstanceIds=[machine])
    aws.await_state(machine, "terminated")
    assert "hello\n" in ec2.get_console_output(InstanceId=machine)["Output"]
    old = aws.launch(InstanceType="p3.2xlarge", Placement={"AvailabilityZone": f"{aws.region}a"})
    assert code_of(ec2.get_console_output, InstanceId=old, Latest=True) == "UnsupportedOperation"


def test_an_instance_goes_through_its_states_and_leaves_nothing(aws: LocalAwsUnderTest) -> None:
    """An instance is pending, running, shutting-down and terminated; its disk and interface go."""
    ec2, seen = aws.client("ec2"), []
    made = ec2.run_instances(
        ImageId=aws.image(),
        InstanceType="c7i.large",
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/sh\nsleep 99\n",
    )["Instances"][0]
    seen.append(made["State"]["Name"])
    machine = made["InstanceId"]
    seen.append(aws.await_state(machine, "running")["State"]["Name"])
    seen.append(
        ec2.terminate_instances(InstanceIds=[machine])["TerminatingInstances"][0]["CurrentState"][
            "Name"
        ]
    )
    ended = aws.await_state(machine, "terminated")
    assert seen == ["pending", "running", "shutting-down"]
    assert ended["StateReason"] == {
        "Code": "Client.UserInitiatedShutdown",
        "Message": "Client.UserInitiatedShutdown: User initiated shutdown",
    }
    assert ended["StateTransitionReason"].startswith("User initiated (")
    by_instance = [{"Name": "attachment.instance-id", "Values": [machine]}]
    assert ec2.describe_volumes(Filters=by_instance)["Volumes"] == []
    assert ec2.describe_network_interfaces(Filters=by_instance)["NetworkInterfaces"] == []


def test_a_client_token_launches_once_however_often_it_is_sent(aws: LocalAwsUnderTest) -> None:
    """Sixteen launches at once with one token give one instance; another request is refused."""
    ec2, token, image = aws.client("ec2"), unique("token"), aws.image()

    def launch(count: int = 1) -> str:
        answer = ec2.run_instances(
            ClientToken=token,
            ImageId=image,
            InstanceType="c7i.large",
            MinCount=count,
            MaxCount=count,
            UserData="#!/bin/sh\nsleep 99\n",
        )
        return str(answer["Instances"][0]["InstanceId"])

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: launch(), range(16)))) == 1
    assert code_of(launch, count=2) == "IdempotentParameterMismatch"


def test_a_replayed_token_is_authorized_first(aws: LocalAwsUnderTest, template: str) -> None:
    """A caller that may not launch learns nothing from another caller's token."""
    token = unique("token")
    answer = aws.client("ec2").create_fleet(**fleet(template, token, ["c7i.large"]))
    assert (
        aws.client("ec2").create_fleet(**fleet(template, token, ["c7i.large"]))["Instances"]
        == answer["Instances"]
    )
    nobody = aws.client("ec2", aws.role_with(allow("ec2:Describe*")))
    assert (
        code_of(nobody.create_fleet, **fleet(template, token, ["c7i.large"]))
        == "UnauthorizedOperation"
    )


def test_a_dry_run_launches_nothing(aws: LocalAwsUnderTest) -> None:
    """DryRun answers with an error that says the result, and makes no instance."""
    ec2, mark = aws.client("ec2"), unique("mark")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "mark", "Value": mark}]}]
    assert (
        code_of(
            ec2.run_instances,
            ImageId=aws.image(),
            InstanceType="c7i.large",
            MinCount=1,
            MaxCount=1,
            DryRun=True,
            TagSpecifications=tags,
        )
        == "DryRunOperation"
    )
    assert (
        ec2.describe_instances(Filters=[{"Name": "tag:mark", "Values": [mark]}])["Reservations"]
        == []
    )


def test_filters_filter_and_unknown_ones_are_refused(aws: LocalAwsUnderTest, template: str) -> None:
    """Tags with wildcards, state and token are filters; an unknown filter is an error."""
    ec2, mark = aws.client("ec2"), unique("mark")
    request = fleet(
        template,
        mark,
        ["c7i.large"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "run", "Value": mark}]}],
    )
    machine = ec2.create_fleet(**request)["Instances"][0]["InstanceIds"][0]
    wanted = [
        {"Name": "tag:run", "Values": [mark[:-2] + "*"]},
        {"Name": "client-token", "Values": [mark]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    assert (
        ec2.describe_instances(Filters=wanted)["Reservations"][0]["Instances"][0]["InstanceId"]
        == machine
    )
    assert (
        code_of(ec2.describe_instances, Filters=[{"Name": "colour", "Values": ["red"]}])
        == "InvalidParameterValue"
    )


@pytest.mark.parametrize(
    ("action", "member", "name"),
    [
        ("describe_vpcs", "Vpcs", "vpc-id"),
        ("describe_subnets", "Subnets", "subnet-id"),
        ("describe_security_groups", "SecurityGroups", "group-id"),
        ("describe_route_tables", "RouteTables", "route-table-id"),
        ("describe_internet_gateways", "InternetGateways", "internet-gateway-id"),
        ("describe_launch_templates", "LaunchTemplates", "launch-template-name"),
        ("describe_managed_prefix_lists", "PrefixLists", "prefix-list-id"),
        ("describe_availability_zones", "AvailabilityZones", "zone-name"),
        ("describe_volumes", "Volumes", "volume-id"),
        ("describe_network_interfaces", "NetworkInterfaces", "network-interface-id"),
    ],
)
def test_filters_of_networks_filter_too(
    aws: LocalAwsUnderTest, template: str, action: str, member: str, name: str
) -> None:
    """A filter finds only matching networks, finds none without a match, and unknown ones fail."""
    call = getattr(aws.client("ec2"), action)
    aws.launch()
    key = "".join(word.capitalize() for word in name.split("-"))
    wanted = call()[member][-1][key]
    assert [one[key] for one in call(Filters=[{"Name": name, "Values": [wanted]}])[member]] == [
        wanted
    ]
    assert call(Filters=[{"Name": name, "Values": ["nobodys"]}])[member] == []
    assert code_of(call, Filters=[{"Name": "colour", "Values": ["red"]}]) == "InvalidParameterValue"


def test_a_dry_run_makes_no_network(aws: LocalAwsUnderTest) -> None:
    """A dry run of the emulator's calls is authorized first and creates nothing."""
    ec2 = aws.client("ec2")
    before = {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]}
    assert code_of(ec2.create_vpc, CidrBlock="10.12.0.0/16", DryRun=True) == "DryRunOperation"
    nobody = aws.client("ec2", aws.role_with(allow("s3:*")))
    assert (
        code_of(nobody.create_vpc, CidrBlock="10.12.0.0/16", DryRun=True) == "UnauthorizedOperation"
    )
    assert {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]} == before


def test_pages_cover_everything_once(aws: LocalAwsUnderTest) -> None:
    """Pages of five show each instance once; pages of four are refused, as on AWS."""
    ec2, mark = aws.client("ec2"), unique("mark")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "mark", "Value": mark}]}]
    made = ec2.run_instances(
        ImageId=aws.image(),
        InstanceType="t3.micro",
        MinCount=7,
        MaxCount=7,
        TagSpecifications=tags,
    )["Instances"]
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": "tag:mark", "Values": [mark]}], PaginationConfig={"PageSize": 5}
    )
    shown = [
        [i["InstanceId"] for r in page["Reservations"] for i in r["Instances"]] for page in pages
    ]
    assert [len(page) for page in shown] == [5, 2]
    assert {i for page in shown for i in page} == {i["InstanceId"] for i in made}
    assert code_of(ec2.describe_instances, MaxResults=4) == "InvalidParameterValue"
    ec2.terminate_instances(InstanceIds=[i["InstanceId"] for i in made])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"InstanceType": "zz9.large"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0badbadbadbadbad0"}, "InvalidSubnetID.NotFound"),
        ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
        ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "c7g.large"}, "InvalidParameterValue"),
        ({"UserData": "x" * 16385}, "InvalidParameterValue"),
        ({"SecurityGroupIds": ["sg-0badbadbadbadbad0"]}, "InvalidGroup.NotFound"),
        (
            {"LaunchTemplate": {"LaunchTemplateName": "no-such-template"}},
            "InvalidLaunchTemplateName.NotFoundException",
        ),
    ],
)
def test_a_launch_that_does_not_fit_is_refused(
    aws: LocalAwsUnderTest, change: dict[str, Any], code: str
) -> None:
    """Each wrong reference has AWS's own error code."""
    request = {
        "ImageId": aws.image(),
        "InstanceType": "c7i.large",
        "MinCount": 1,
        "MaxCount": 1,
        **change,
    }
    assert code_of(aws.client("ec2").run_instances, **request) == code


def test_an_instance_that_does_not_exist_is_not_found(aws: LocalAwsUnderTest) -> None:
    """A malformed id and an unknown one differ."""
    ec2 = aws.client("ec2")
    assert (
        code_of(ec2.describe_instances, InstanceIds=["i-0badbadbadbadbad0"])
        == "InvalidInstanceID.NotFound"
    )
    assert (
        code_of(ec2.terminate_instances, InstanceIds=["nonsense"]) == "InvalidInstanceID.Malformed"
    )


def test_a_fleet_takes_the_cheapest_that_it_can_get_and_reports_the_rest(
    aws: LocalAwsUnderTest, template: str
) -> None:
    """A type that the image does not support is an error of its override; the next is launched."""
    ec2 = aws.client("ec2")
    answer = ec2.create_fleet(
        **fleet(template, unique("token"), ["c7i.xlarge", "c7g.large", "c7i.large"])
    )
    assert answer["Instances"][0]["InstanceType"] == "c7i.large"
    assert answer["Instances"][0]["Lifecycle"] == "spot"
    assert [
        (e["ErrorCode"], e["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"])
        for e in answer["Errors"]
    ] == [("InvalidParameterValue", "c7g.large")]


def test_a_fleets_refusals_name_their_overrides_and_its_token_stands_for_it(
    aws: LocalAwsUnderTest, template: str
) -> None:
    """Missing capacity is an error of its override; the token gives the same fleet again."""
    ec2, token = aws.client("ec2"), unique("token")
    made = aws.cli("fault", "add", "capacity", "type=c7i.large", "market=spot")["faults"][-1]
    answer = ec2.create_fleet(**fleet(template, token, ["c7i.large", "m7i.large"]))
    aws.cli("fault", "clear", made["id"])
    assert [
        (
            e["ErrorCode"],
            e["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"],
            e["Lifecycle"],
        )
        for e in answer["Errors"]
    ] == [("InsufficientInstanceCapacity", "c7i.large", "spot")]
    assert [i["InstanceType"] for i in answer["Instances"]] == ["m7i.large"]
    again = ec2.create_fleet(**fleet(template, token, ["c7i.large", "m7i.large"]))
    assert (again["FleetId"], again["Instances"]) == (answer["FleetId"], answer["Instances"])
    assert (
        code_of(ec2.create_fleet, **fleet(template, token, ["c7i.large"]))
        == "IdempotentParameterMismatch"
    )


def test_types_offerings_and_prices_are_those_of_aws(aws: LocalAwsUnderTest) -> None:
    """Sizes and GPUs are real, zones offer different types, and spot is cheaper than on-demand."""
    ec2 = aws.client("ec2")
    kind = ec2.describe_instance_types(InstanceTypes=["g5.xlarge"])["InstanceTypes"][0]
    assert (
        kind["VCpuInfo"]["DefaultVCpus"],
        kind["MemoryInfo"]["SizeInMiB"],
        kind["GpuInfo"]["Gpus"][0]["Name"],
    ) == (
        4,
        16384,
        "A10G",
    )
    assert kind["NetworkInfo"]["EncryptionInTransitSupported"]
    open_types = ec2.describe_instance_types(
        Filters=[{"Name": "network-info.encryption-in-transit-supported", "Values": ["false"]}]
    )["InstanceTypes"]
    names = {one["InstanceType"] for one in open_types}
    assert "t3.micro" in names
    assert "g5.xlarge" not in names
    offers = ec2.describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["g6.xlarge", "c7i.large"]}],
    )
    zones = {(o["InstanceType"], o["Location"][-1]) for o in offers["InstanceTypeOfferings"]}
    assert ("c7i.large", "c") in zones
    assert ("g6.xlarge", "c") not in zones
    prices = ec2.describe_spot_price_history(
        InstanceTypes=["c7i.large"], ProductDescriptions=["Linux/UNIX"]
    )["SpotPriceHistory"]
    assert {p["AvailabilityZone"][-1] for p in prices} == {"a", "b", "c"}
    assert all(0.01 < float(p["SpotPrice"]) < 0.0956 for p in prices)
    assert (
        code_of(ec2.describe_instance_types, InstanceTypes=["zz9.large"]) == "InvalidInstanceType"
    )


def test_prices_and_quotas_can_be_asked_for(aws: LocalAwsUnderTest) -> None:
    """Prices and quotas have AWS's form, need permissions and refuse invalid requests."""
    pricing, quotas = aws.client("pricing"), aws.client("service-quotas")
    wanted = {"instanceType": "g5.xlarge", "regionCode": aws.region, "operatingSystem": "Linux"}
    found = pricing.get_products(
        ServiceCode="AmazonEC2",
        Filters=[
            {"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()
        ],
    )["PriceList"]
    product = json.loads(found[0])
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert (len(found), product["product"]["attributes"]["vcpu"], dimension["unit"]) == (
        1,
        "4",
        "Hrs",
    )
    assert 0.5 < float(dimension["pricePerUnit"]["USD"]) < 3
    assert (
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-34B43A08")["Quota"]["Value"] == 64
    )
    assert (
        code_of(quotas.get_service_quota, ServiceCode="ec2", QuotaCode="L-00000000")
        == "NoSuchResourceException"
    )
    assert code_of(pricing.get_products, ServiceCode="AmazonNothing") == "NotFoundException"
    nobody = aws.role_with(allow("s3:*"))
    assert (
        code_of(aws.client("pricing", nobody).get_products, ServiceCode="AmazonEC2")
        == "AccessDeniedException"
    )


def test_the_quota_is_enforced(aws: LocalAwsUnderTest) -> None:
    """More spot GPU machines than the quota allows are refused with EC2's code."""
    ec2 = aws.client("ec2")
    spot = {"MarketType": "spot"}
    assert (
        code_of(
            ec2.run_instances,
            ImageId=aws.image(),
            InstanceType="g5.12xlarge",
            MinCount=1,
            MaxCount=1,
            InstanceMarketOptions=spot,
        )
        == "MaxSpotInstanceCountExceeded"
    )
    assert code_of(
        ec2.run_instances, ImageId=aws.image(), InstanceType="p3.2xlarge", MinCount=3, MaxCount=3
    ) in (
        "VcpuLimitExceeded",
        "Unsupported",
    )


def test_thirty_two_machines_and_sixty_four_functions_at_once(aws: LocalAwsUnderTest) -> None:
    """As many machines as the quota allows and 64 functions run together without an error."""
    ec2, image = aws.client("ec2"), aws.image()
    function = aws.function(
        "import time\ndef handler(event, context):\n    time.sleep(0.5)\n", Timeout=60
    )
    patient = aws.session().client(
        "lambda",
        endpoint_url=aws.endpoint_url,
        config=Config(read_timeout=300, max_pool_connections=64),
    )

    def launch(_: int) -> str:
        return aws.launch(
            "#!/bin/sh\nsleep 4712 & sleep 4712\n", ImageId=image, InstanceType="t3.micro"
        )

    def states() -> set[str]:
        return {
            i["State"]["Name"]
            for r in ec2.describe_instances(InstanceIds=machines)["Reservations"]
            for i in r["Instances"]
        }

    with ThreadPoolExecutor(72) as pool:
        answers = [pool.submit(patient.invoke, FunctionName=function) for _ in range(64)]
        machines = list(pool.map(launch, range(32)))
        until(lambda: states() == {"running"}, "all run", 120)
        assert [answer.result().get("FunctionError") for answer in answers] == [None] * 64
    ec2.terminate_instances(InstanceIds=machines)
    until(lambda: states() == {"terminated"}, "all ended", 120)
    assert [machine for machine in machines if find_marked("LOCAL_AWS_MACHINE", machine)] == []


def test_what_is_tagged_is_found_by_its_tag(aws: LocalAwsUnderTest) -> None:
    """DescribeTags and the tagging service find an instance, its disk and its network by tag."""
    ec2, mark = aws.client("ec2"), unique("mark")
    tags = [
        {"ResourceType": kind, "Tags": [{"Key": "mark", "Value": mark}]}
        for kind in ("instance", "volume")
    ]
    machine = aws.launch(TagSpecifications=tags)
    vpc = ec2.create_vpc(
        CidrBlock="10.11.0.0/16",
        TagSpecifications=[{"ResourceType": "vpc", "Tags": tags[0]["Tags"]}],
    )["Vpc"]["VpcId"]
    found = ec2.describe_tags(
        Filters=[{"Name": "key", "Values": ["mark"]}, {"Name": "value", "Values": [mark]}]
    )["Tags"]
    assert {t["ResourceType"] for t in found} == {"instance", "volume", "vpc"}
    arns = aws.client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "mark", "Values": [mark]}]
    )["ResourceTagMappingList"]
    assert {
        f"arn:aws:ec2:{aws.region}:{ACCOUNT}:instance/{machine}",
        f"arn:aws:ec2:{aws.region}:{ACCOUNT}:vpc/{vpc}",
    } <= {a["ResourceARN"] for a in arns}
