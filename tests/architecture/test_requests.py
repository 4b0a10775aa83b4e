"""Every request of ours is compared with botocore's model of the service before it is sent."""

import ast

import boto3
import pytest
from botocore.exceptions import ParamValidationError

from infra_bootstrap.clients import Clients
from tests.lifecycle.test_aws_errors import ROOMS, ROOT


def test_no_client_switches_the_comparison_off() -> None:
    """It is on unless a Config or a configuration file says otherwise; no code of ours does."""
    named = [
        f"{path}:{node.lineno}"
        for room in (*ROOMS, "laptop", "dags")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.keyword) and node.arg == "parameter_validation")
        or (isinstance(node, ast.Constant) and node.value == "parameter_validation")
    ]
    assert named == []


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("ec2", "create_fleet", {"Type": "instant"}),
        ("ec2", "describe_instances", {"Filter": []}),
        ("s3", "put_object", {"Bucket": "b", "Key": "k", "IfNonMatch": "*"}),
        ("lambda", "invoke", {"FunctionName": "f", "Payload": {"an": "object"}}),
        ("cloudformation", "create_change_set", {"StackName": 7, "ChangeSetName": "c"}),
    ],
)
def test_a_request_that_does_not_fit_the_model_is_not_sent(
    service: str, call: str, arguments: dict[str, object]
) -> None:
    """A missing, an unknown or a wrongly typed parameter is an error of its own kind."""
    session = boto3.Session("none", "none", region_name="eu-west-1")
    with pytest.raises(ParamValidationError):
        getattr(Clients(session).client(service), call)(**arguments)
