"""Faults of the account: a service control policy, a quota, and a region that is not enabled."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog
from tests.local_aws.conftest import QUICK, LocalAwsUnderTest, code_of


def message_of(call: Any, **arguments: Any) -> str:
    """Return the message of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Message"])


def test_a_denial_names_the_kind_of_policy(aws: LocalAwsUnderTest, fault: Any) -> None:
    """With `by=scp` each service says "with an explicit deny in a service control policy"."""
    fault("deny", "action=ec2:CreateVpc", "by=scp")
    fault("deny", "action=ec2:DescribeInstances", "by=scp")
    fault("deny", "action=iam:ListRoles", "by=scp")
    fault("deny", "action=lambda:ListFunctions", "by=boundary")
    organisation = "with an explicit deny in a service control policy"
    ec2 = aws.client("ec2")
    assert organisation in message_of(ec2.create_vpc, CidrBlock="10.9.0.0/16", DryRun=True)
    assert organisation in message_of(ec2.describe_instances)
    assert organisation in message_of(aws.client("iam").list_roles)
    assert "in a permissions boundary" in message_of(aws.client("lambda").list_functions)


def test_without_a_kind_it_is_the_identity_policy(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The usual denial still names an identity-based policy."""
    fault("deny", "action=iam:ListRoles")
    assert "in an identity-based policy" in message_of(aws.client("iam").list_roles)


def test_a_quota_has_another_value(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The quota that matches has the value, in both calls, and the others keep theirs."""
    quotas = aws.client("service-quotas")
    before = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"]
    fault("quota", "code=L-34B43A08", "value=0")
    fault("quota", "code=L-F678F1CE", "value=5")
    for call in (quotas.get_service_quota, quotas.get_aws_default_service_quota):
        assert call(ServiceCode="ec2", QuotaCode="L-34B43A08")["Quota"]["Value"] == 0
    assert (
        quotas.get_service_quota(ServiceCode="vpc", QuotaCode="L-F678F1CE")["Quota"]["Value"] == 5
    )
    again = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"]
    assert again == before > 0


def test_a_closed_region_refuses_all_credentials(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The region refuses each call. Other regions work, and say that it is not enabled."""
    fault("closed_region", "region=af-south-1")
    session = aws.session()

    def there(service: str) -> Any:
        return session.client(
            service, region_name="af-south-1", endpoint_url=aws.endpoint_url, config=QUICK
        )

    assert code_of(there("sts").get_caller_identity) == "InvalidClientTokenId"
    assert code_of(there("ec2").describe_vpcs) == "AuthFailure"
    ec2: Any = aws.client("ec2")
    shown = ec2.describe_regions(RegionNames=["af-south-1", "eu-west-1"], AllRegions=True)
    assert {item["RegionName"]: item["OptInStatus"] for item in shown["Regions"]} == {
        "af-south-1": "not-opted-in",
        "eu-west-1": "opt-in-not-required",
    }
    assert boto3.Session().get_partition_for_region("af-south-1") == "aws"


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        ("deny", {"action": "ec2:*", "by": "nobody"}, "by is identity or scp or boundary"),
        ("closed_region", {}, "needs a region"),
    ],
)
def test_wrong_values_are_refused(kind: str, values: dict[str, Any], text: str) -> None:
    """A wrong value is refused with what is allowed."""
    with pytest.raises(FaultScriptError, match=text):
        catalog.read(kind, values)
