"""Faults of launches: a token after the end of its instances, and a key that EC2 may not use."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog
from tests.local_aws.conftest import LocalAwsUnderTest, code_of, unique

SLEEPS = "#!/bin/sh\nsleep 300\n"
USED = "IdempotentInstanceTerminated"


def make_template(aws: LocalAwsUnderTest) -> str:
    """Make a launch template with an encrypted disk that names no key; return its name."""
    name = unique("template")
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True, "VolumeSize": 90}}
    data = {
        "ImageId": aws.image(),
        "InstanceType": "c7i.large",
        "BlockDeviceMappings": [disk],
    }
    aws.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return name


def fleet(template: str, token: str) -> dict[str, Any]:
    """Return the request for an instant fleet of one instance."""
    version = {"LaunchTemplateName": template, "Version": "$Latest"}
    capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    return {
        "Type": "instant",
        "ClientToken": token,
        "TargetCapacitySpecification": capacity,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": version}],
    }


def used_fleet(aws: LocalAwsUnderTest) -> dict[str, Any]:
    """Launch a fleet, end its instance, and return the fleet's request."""
    ec2, request = aws.client("ec2"), fleet(make_template(aws), unique("token"))
    (machine,) = ec2.create_fleet(**request)["Instances"][0]["InstanceIds"]
    ec2.terminate_instances(InstanceIds=[machine])
    aws.await_state(machine, "terminated")
    return request


def test_run_instances_refuses_a_token_whose_instance_has_ended(aws: LocalAwsUnderTest) -> None:
    """The token gives the same instance while that lives, and an error after its end."""
    token = unique("token")
    machine = aws.launch(SLEEPS, ClientToken=token)
    assert aws.launch(SLEEPS, ClientToken=token) == machine
    aws.client("ec2").terminate_instances(InstanceIds=[machine])
    aws.await_state(machine, "terminated")
    assert code_of(aws.launch, user_data=SLEEPS, ClientToken=token) == USED


def test_a_fleets_used_token_gets_its_earlier_answer(aws: LocalAwsUnderTest) -> None:
    """AWS does not document it for fleets; without the fault, nothing new is launched."""
    request = used_fleet(aws)
    answer = aws.client("ec2").create_fleet(**request)
    assert (len(answer["Instances"]), answer["Errors"]) == (1, [])


def test_a_fleets_used_token_can_be_refused_as_an_error(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The whole call fails. A token whose instance lives is not refused."""
    request = used_fleet(aws)
    living = fleet(make_template(aws), unique("token"))
    aws.client("ec2").create_fleet(**living)
    fault("used_token")
    assert code_of(aws.client("ec2").create_fleet, **request) == USED
    assert aws.client("ec2").create_fleet(**living)["Errors"] == []


def test_a_fleets_used_token_can_be_refused_in_the_list_of_errors(
    aws: LocalAwsUnderTest, fault: Any
) -> None:
    """The call succeeds, and its answer lists no instance and an error."""
    request = used_fleet(aws)
    fault("used_token", "answer=list")
    answer = aws.client("ec2").create_fleet(**request)
    assert answer["Instances"] == []
    assert [one["ErrorCode"] for one in answer["Errors"]] == [USED]


@pytest.mark.parametrize("reason", catalog.KEY_REASONS)
def test_an_instance_ends_at_once_if_its_disks_key_denies(
    aws: LocalAwsUnderTest, fault: Any, reason: str
) -> None:
    """The launch itself succeeds, then the instance ends and says why; it never runs."""
    fault("default_key", f"reason={reason}")
    request = fleet(make_template(aws), unique("token"))
    (machine,) = aws.client("ec2").create_fleet(**request)["Instances"][0]["InstanceIds"]
    ended = aws.await_state(machine, "terminated")
    assert ended["StateReason"]["Code"] == reason
    assert ended["StateReason"]["Message"].startswith(f"{reason}: ")
    assert aws.console(machine) == ""


def test_a_disk_with_a_key_of_its_own_does_not_depend_on_the_default_key(
    aws: LocalAwsUnderTest, fault: Any
) -> None:
    """`alias/aws/ebs` is AWS's own key, which every launch may use."""
    fault("default_key")
    disk = {"Encrypted": True, "VolumeSize": 90, "KmsKeyId": "alias/aws/ebs"}
    machine = aws.launch(SLEEPS, BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": disk}])
    aws.await_state(machine, "running")


def test_the_account_tells_its_default_key(aws: LocalAwsUnderTest, fault: Any) -> None:
    """A check before a launch can see the foreign key."""
    ec2 = aws.client("ec2")
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    fault("default_key")
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"].startswith("arn:aws:kms:")
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True


@pytest.mark.parametrize(
    ("kind", "values"), [("used_token", {"answer": "maybe"}), ("default_key", {"reason": "x"})]
)
def test_unknown_answers_and_reasons_are_refused(kind: str, values: dict[str, str]) -> None:
    """The message names what there is."""
    with pytest.raises(FaultScriptError, match=" or "):
        catalog.read(kind, values)
