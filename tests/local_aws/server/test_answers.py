"""Answers are compared with the shapes that botocore's models publish."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from local_aws.server.answers import Answers, differences, find_operation

NOTHING: dict[str, str] = {}


def operation(service: str, name: str) -> Any:
    """Return the model of an operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(name)


def places(service: str, name: str, body: str) -> list[str]:
    """Return where an answer differs from its operation's shape."""
    return sorted(set(differences(operation(service, name), body.encode())))


def wrap(inner: str) -> str:
    """Return an answer of DescribeInstances about one instance."""
    instance = f"<instancesSet><item>{inner}</item></instancesSet>"
    return (
        "<DescribeInstancesResponse><requestId>1</requestId><reservationSet><item>"
        f"{instance}</item></reservationSet></DescribeInstancesResponse>"
    )


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ("<instanceId>i-1</instanceId><launchTime>2026-01-01T00:00:00.000Z</launchTime>", ""),
        ("<instanceID>i-1</instanceID>", "instanceID is not in the model"),
        ("<launchTime>yesterday</launchTime>", "which is not a time"),
        ("<amiLaunchIndex>first</amiLaunchIndex>", "is not a number"),
        ("<ebsOptimized>True</ebsOptimized>", "not true or false"),
        ("<architecture>amd64</architecture>", "not one of its values"),
        ("<instanceId>i-1</instanceId><instanceId>i-2</instanceId>", "occurs 2 times"),
        ("<tagSet><tag><key>a</key></tag></tagSet>", "is not an item of the list"),
    ],
)
def test_an_answer_of_ec2_is_compared_member_by_member(inner: str, said: str) -> None:
    """A wrong name, type, value or number of elements is named with its place."""
    found = places("ec2", "DescribeInstances", wrap(inner))
    assert (len(found), said in "".join(found)) == (1 if said else 0, True)
    assert all(place.startswith(".reservationSet[].instancesSet[].") for place in found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Parameter": {"Name": "a", "Type": "String", "Version": 1}}, ""),
        ({"Parameter": {"Name": 7}}, ".Parameter.Name is int, not text"),
        ({"Parameter": {"Type": "Text"}}, "not one of its values"),
        ({"Parameter": {"Version": "1"}}, ".Parameter.Version is not a number"),
        ({"Parameter": {"LastModifiedDate": "soon"}}, "which is not a time"),
        ({"Parameters": {}}, ".Parameters is not in the model"),
        ({"Parameter": []}, ".Parameter is not an object"),
    ],
)
def test_an_answer_in_json_is_compared_member_by_member(answer: Any, said: str) -> None:
    """The same for the services that speak JSON."""
    found = places("ssm", "GetParameter", json.dumps(answer))
    assert (len(found), said in "".join(found)) == (1 if said else 0, True)


def test_a_required_member_must_be_there() -> None:
    """IAM's model requires most members of a role."""
    role = "<RoleName>a</RoleName>"
    body = (
        f"<GetRoleResponse><GetRoleResult><Role>{role}</Role></GetRoleResult>"
        "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetRoleResponse>"
    )
    found = places("iam", "GetRole", body)
    assert ".Role.Arn is required and missing" in found
    assert ".Role.RoleName is required and missing" not in found


@pytest.mark.parametrize(
    ("service", "method", "path", "query", "name"),
    [
        ("s3", "GET", "/bucket", {"list-type": ["2"]}, "ListObjectsV2"),
        ("s3", "GET", "/bucket", {"versions": [""]}, "ListObjectVersions"),
        ("s3", "GET", "/bucket", {}, "ListObjects"),
        ("s3", "GET", "/bucket/a/b", {}, "GetObject"),
        ("s3", "GET", "/bucket/a/b", {"uploadId": ["1"]}, "ListParts"),
        ("s3", "PUT", "/bucket/a/b", {}, "PutObject"),
        ("lambda", "GET", "/2015-03-31/functions/f/aliases/live", {}, "GetAlias"),
        ("lambda", "GET", "/2015-03-31/functions/f", {}, "GetFunction"),
    ],
)
def test_a_rest_request_is_found_by_its_path(
    service: str, method: str, path: str, query: dict[str, Any], name: str
) -> None:
    """The most specific route counts."""
    found = find_operation(service, method, path, NOTHING, b"", query)
    assert found is not None
    assert found.name == name


def test_each_place_is_counted_and_errors_are_left_alone() -> None:
    """The same difference of the same operation is one entry."""
    answers, body = Answers(), wrap("<instanceID>i-1</instanceID>").encode()
    request = ("POST", "/", NOTHING, b"Action=DescribeInstances&Version=2016-11-15", {})
    answers.check("ec2", request, (200, {}, body))
    answers.check("ec2", request, (200, {}, body))
    answers.check("ec2", request, (400, {}, body))
    assert answers.as_dict()["checked"] == {"ec2:DescribeInstances": 2}
    assert list(answers.as_dict()["problems"].values()) == [2]
