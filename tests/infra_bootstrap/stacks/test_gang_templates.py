"""The machines of a trial with several machines reach each other, and no other machine does."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from infra_bootstrap.deployment import drift
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.deployed import DeployedStack
from infra_bootstrap.stacks.outputs import Outputs
from infra_bootstrap.stacks.resolving import Stage
from infra_bootstrap.stacks.template_files import template
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients
from tests.infra_bootstrap.stacks.test_least_privilege import (
    dry_run,
    fleet,
    foreign,
    instance,
    of_gang,
    tagged,
)

#: What the launch template of gangs adds to the machines' security groups.
GANG_GROUP = {
    "Fn::ImportValue": {"Fn::Sub": "nightshift-${Environment}-network:GangSecurityGroupId"}
}


def properties(concern: Concern, logical_id: str) -> dict[str, Any]:
    """Return the properties of a template's resource."""
    found: dict[str, Any] = template(concern)["Resources"][logical_id]["Properties"]
    return found


def script_of(data: dict[str, Any]) -> list[Any]:
    """Return the parts of a launch template's user data."""
    parts: list[Any] = data["UserData"]["Fn::Base64"]["Fn::Join"][1]
    return parts


def test_the_templates_differ_in_the_group_and_in_one_line_of_the_user_data() -> None:
    """The launch templates say the same of all else, so a change of one is a change of both."""
    single, gang = (
        properties(Concern.TRAINING, name) for name in ("LaunchTemplate", "GangLaunchTemplate")
    )
    for one in (single, gang):
        one_name = one["LaunchTemplateName"]["Fn::Sub"]
        assert one_name.rpartition("-")[0] == "nightshift-${Environment}"
    assert {key for key in single if single[key] != gang.get(key)} == {
        "LaunchTemplateName",
        "LaunchTemplateData",
    }
    alone, together = single["LaunchTemplateData"], gang["LaunchTemplateData"]
    assert set(alone) == set(together)
    assert {key for key in alone if alone[key] != together[key]} == {"SecurityGroupIds", "UserData"}
    assert together["SecurityGroupIds"] == [*alone["SecurityGroupIds"], GANG_GROUP]
    before, after = script_of(alone), script_of(together)
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [
        ("\n", "\ngang=yes\n")
    ]


def test_no_single_machine_is_in_the_group() -> None:
    """Of all resources, the launch template of gangs alone names the group."""
    named = {
        logical_id
        for concern in (*Concern, "experiment")
        for logical_id, resource in template(concern)["Resources"].items()
        if "GangSecurityGroup" in str(resource)
    }
    assert named == {"GangIngress", "GangEgress", "GangLaunchTemplate"}


def rules(dev: Deployment, group_id: str) -> tuple[list[Any], list[Any]]:
    """Return the inbound and outbound rules of a group: protocol, ports, addresses, groups."""
    found = dev.as_role("administrator").ec2.describe_security_groups(GroupIds=[group_id])
    (group,) = found["SecurityGroups"]
    return tuple(  # type: ignore[return-value]
        [
            (
                rule["IpProtocol"],
                rule["FromPort"],
                rule["ToPort"],
                [one["CidrIp"] for one in rule.get("IpRanges", ())],
                [one["GroupId"] for one in rule.get("UserIdGroupPairs", ())],
                [one["PrefixListId"] for one in rule.get("PrefixListIds", ())],
            )
            for rule in group[direction]  # type: ignore[literal-required]
        ]
        for direction in ("IpPermissions", "IpPermissionsEgress")
    )


def gang_group(dev: Deployment) -> str:
    """Return the id of the group of gangs, which the second launch template names."""
    found = dev.as_role("administrator").ec2.describe_launch_template_versions(
        LaunchTemplateId=str(dev.outputs.gang_launch_template_id),
        Versions=[str(dev.outputs.gang_launch_template_version)],
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    first, second = found["SecurityGroupIds"]
    assert first == dev.outputs.security_group_id
    return str(second)


def test_the_deployed_group_lets_in_and_out_its_members_alone(dev: Deployment) -> None:
    """All TCP ports are open to the group itself. The other rule leads to no other machine."""
    group = gang_group(dev)
    own = ("tcp", 0, 65535, [], [group], [])
    inbound, outbound = rules(dev, group)
    assert inbound == [own]
    assert sorted(outbound, key=str) == sorted(
        [own, ("tcp", 443, 443, ["127.0.0.1/32"], [], [])], key=str
    )
    assert rules(dev, dev.outputs.security_group_id)[0] == []


@pytest.mark.parametrize("market", ["spot", "on-demand"])
def test_the_launcher_may_launch_a_seat(dev: Deployment, market: str) -> None:
    """A machine of a gang, with the tag of its seat, is allowed in both markets."""
    ec2 = dev.as_role("launcher").ec2
    for request in (of_gang(dev, fleet(dev)), tagged(of_gang(dev, fleet(dev)), seat="2")):
        request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] = market
        assert dry_run(ec2.create_fleet, request) == "DryRunOperation"
    direct = tagged(of_gang(dev, instance(dev)), seat="2")
    assert dry_run(ec2.run_instances, direct) == "DryRunOperation"


@pytest.mark.parametrize(
    ("change", "refused_on"),
    [
        (lambda dev: tagged(of_gang(dev, fleet(dev)), deadline=None), "instance/*"),
        (lambda dev: tagged(of_gang(dev, fleet(dev)), environment="prod"), "instance/*"),
        (lambda dev: of_gang(dev, fleet(dev, InstanceType="p3.2xlarge")), "instance/*"),
        (lambda dev: of_gang(dev, fleet(dev, ImageId=dev.outputs.image_id)), "image/"),
        (lambda dev: of_gang(dev, fleet(dev, SubnetId=foreign(dev, "subnet"))), "subnet/"),
    ],
    ids=["no deadline", "another environment", "another type", "another image", "another subnet"],
)
def test_a_seat_that_is_not_ours_is_refused(dev: Deployment, change: Any, refused_on: str) -> None:
    """What is refused for a single machine is refused for a seat."""
    answer = dry_run(dev.as_role("launcher").ec2.create_fleet, change(dev), refused_on)
    assert answer == "UnauthorizedOperation"


@pytest.mark.parametrize("role", ["trainer", "reaper", "deployer", "airflow-worker"])
def test_only_the_launcher_launches_seats(dev: Deployment, role: str) -> None:
    """Every other role is refused a machine of a gang."""
    answer = dry_run(dev.as_role(role).ec2.create_fleet, of_gang(dev, fleet(dev)))
    assert answer == "UnauthorizedOperation"


def test_the_user_data_of_the_template_begins_with_the_gang(dev: Deployment) -> None:
    """The deployed script of gangs is that of single machines after one more line."""
    ec2 = dev.as_role("administrator").ec2
    scripts = [
        base64.b64decode(
            ec2.describe_launch_template_versions(LaunchTemplateId=name, Versions=[version])[
                "LaunchTemplateVersions"
            ][0]["LaunchTemplateData"]["UserData"]
        ).decode()
        for name, version in (
            (dev.outputs.launch_template_id, dev.outputs.launch_template_version),
            (
                str(dev.outputs.gang_launch_template_id),
                str(dev.outputs.gang_launch_template_version),
            ),
        )
    ]
    single, gang = scripts
    assert "\ngang=" not in single
    assert gang.replace("\ngang=yes\n", "\n") == single


def test_an_environment_of_an_older_version_has_no_template_of_gangs(dev: Deployment) -> None:
    """Outputs without the second template can still be made."""
    older = {
        key: value
        for key, value in vars(dev.outputs).items()
        if not key.startswith("gang_launch_template")
    }
    assert Outputs(**older).gang_launch_template_id is None
    assert Outputs(**older).gang_launch_template_version is None


def test_drift_names_what_an_older_version_has_not_deployed() -> None:
    """A resource that the deployed stack lacks is reported with the command to run."""
    stack = DeployedStack(
        "nightshift-dev-network", "", "CREATE_COMPLETE", "", {"Environment": "dev"}, {}, "", False
    )
    found = {
        one.resource: one.what
        for one in drift._compared(Stage(FakeClients({}), Concern.NETWORK, stack, {}, {}))
    }
    assert found["GangSecurityGroup"] == drift.NOT_IN_STACK
    assert "deploy" in drift.NOT_IN_STACK


def test_a_rule_that_is_added_to_the_group_shows_up(dev: Deployment) -> None:
    """A way into gangs from elsewhere is drift."""
    ec2, group = dev.as_role("administrator").ec2, gang_group(dev)
    rule: Any = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    try:
        found = drift.find_drift(dev.as_role("administrator"), "dev", Concern.NETWORK)
    finally:
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rule)
    assert [(one.resource, one.what) for one in found] == [
        ("GangSecurityGroup", "an inbound rule was added: tcp 22 22 10.0.0.0/8")
    ]
