"""A denied call of EC2 is decoded and replayed, so that the message names what did not match."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from infra_bootstrap.commands.denials import ENCODED, explain, read, shorten
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.policy_replay import NEGATED, OPERATORS, holds, replay
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import template
from rl_lifecycle.machines.launch_requests import build_fleet_request, plan_pools
from tests.infra_bootstrap.accounts import Account, Deployment, refusal
from tests.infra_bootstrap.preflight.test_preflight import FakeClients

#: What STS decodes, in the form that AWS documents:
#: https://repost.aws/knowledge-center/ec2-not-auth-launch
DECODED = {
    "allowed": False,
    "explicitDeny": False,
    "matchedStatements": {"items": []},
    "failures": {"items": []},
    "context": {
        "principal": {
            "id": "AROAEXAMPLE:nightshift-smoke",
            "arn": "arn:aws:sts::123456789012:assumed-role/nightshift-dev-launcher/x",
        },
        "action": "ec2:TerminateInstances",
        "resource": "arn:aws:ec2:eu-west-1:123456789012:instance/i-1",
        "conditions": {
            "items": [
                {"key": "aws:Region", "values": {"items": [{"value": "eu-west-1"}]}},
                {
                    "key": "aws:ResourceTag/nightshift:environment",
                    "values": {"items": [{"value": "prod"}]},
                },
            ]
        },
    },
}


def decoding(answer: dict[str, Any]) -> FakeClients:
    """Return clients whose STS decodes every message in this way."""
    sts = boto3.client(
        "sts", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
    stub = Stubber(sts)
    decoded = {"DecodedMessage": json.dumps(answer)}
    stub.add_response("decode_authorization_message", decoded, {"EncodedMessage": "abc-1_x"})
    stub.activate()
    cloudformation = boto3.client(
        "cloudformation", region_name="eu-west-1", aws_access_key_id="n", aws_secret_access_key="n"
    )
    unknown = Stubber(cloudformation)
    unknown.add_client_error("describe_stacks", "ValidationError", "Stack x does not exist")
    unknown.activate()
    return FakeClients({"sts": sts, "cloudformation": cloudformation})


MESSAGE = "You are not authorized. Encoded authorization failure message: abc-1_x"


def test_the_condition_that_failed_is_named() -> None:
    """The launcher may end machines of its own environment alone, and the message says so."""
    (found,) = explain([decoding(DECODED)], DeploymentSettings("dev"), MESSAGE)
    assert found == (
        "ec2:TerminateInstances on arn:aws:ec2:eu-west-1:123456789012:instance/i-1: the policy of "
        "nightshift-dev-launcher does not allow it (EndOnlyOurs: StringEquals "
        "aws:ResourceTag/nightshift:environment must be dev, and the call has prod)"
    )
    assert shorten(MESSAGE) == "You are not authorized."


def test_an_explicit_denial_and_a_foreign_principal_are_told_apart() -> None:
    """What our policies cannot explain is not blamed on them."""
    (found,) = explain(
        [decoding({**DECODED, "explicitDeny": True})], DeploymentSettings("dev"), MESSAGE
    )
    assert "a policy denies it" in found
    (found,) = explain([decoding(DECODED)], DeploymentSettings("other"), MESSAGE)
    assert "is no role of this environment" in found


def test_what_our_policies_allow_is_denied_elsewhere() -> None:
    """If role and boundary allow a call, the organisation or a change by hand denies it."""
    context = dict(DECODED["context"])
    context["conditions"] = json.loads(json.dumps(context["conditions"]).replace("prod", "dev"))
    answer = {**DECODED, "context": context}
    (found,) = explain([decoding(answer)], DeploymentSettings("dev"), MESSAGE)
    assert "our policies allow it" in found


def test_every_operator_of_the_identity_template_is_known() -> None:
    """The replay knows each operator that a role's policy or a boundary uses."""
    used: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            used.update(value["Condition"] if "Effect" in value and "Condition" in value else ())
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    collect(template(Concern.IDENTITY)["Resources"])
    assert "StringEquals" in used
    names = {name.removesuffix("IfExists") for name in used}
    assert names <= {*OPERATORS, *NEGATED, "Null"}


@pytest.mark.parametrize(
    ("operator", "actual", "wanted", "expected"),
    [
        ("StringEquals", ["a"], ["b", "a"], True),
        ("StringEquals", [], ["a"], False),
        ("StringEqualsIfExists", [], ["a"], True),
        ("StringEqualsIfExists", ["b"], ["a"], False),
        ("StringNotEquals", ["b"], ["a"], True),
        ("StringNotEquals", [], ["a"], True),
        ("StringLike", ["c7i.large"], ["c7i.*"], True),
        ("ArnLike", ["arn:aws:x:y"], ["arn:aws:x:*"], True),
        ("NumericEquals", ["2"], ["1"], False),
        ("NumericLessThanEquals", ["100"], ["200"], True),
        ("NumericLessThanEquals", ["many"], ["200"], False),
        ("Bool", ["True"], ["true"], True),
        ("BoolIfExists", [], ["false"], True),
        ("Null", [], ["true"], True),
        ("Null", ["x"], ["true"], False),
        ("Null", [], ["false"], False),
    ],
)
def test_conditions_are_evaluated_as_iam_documents(
    operator: str, actual: list[str], wanted: list[str], expected: bool
) -> None:
    """Each operator matches, fails and treats an absent key as IAM documents it."""
    assert holds(operator, actual, wanted) is expected


def test_a_call_without_a_statement_says_so() -> None:
    """A call that no statement is about gives no condition, but the action."""
    may = {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}
    assert replay([may], "ec2:RunInstances", "arn:x", {}) == [
        "no statement allows ec2:RunInstances on arn:x"
    ]


def launch(dev: Deployment, tags: dict[str, str], **override: Any) -> str:
    """Ask for a machine as the launcher, and return EC2's refusal."""
    pools = plan_pools(["c7i.large"], dev.outputs.subnet_ids)
    request: dict[str, Any] = build_fleet_request(
        launch_template_id=dev.outputs.launch_template_id,
        launch_template_version=dev.outputs.launch_template_version,
        pools=pools[:1],
        market="on-demand",
        tags=tags,
    )
    for config in request["LaunchTemplateConfigs"]:
        for pool in config["Overrides"]:
            pool.update(override)
    try:
        answer = dev.as_role("launcher").ec2.create_fleet(**request)
    except ClientError as error:
        return refusal(error)[1]
    return " ".join(str(item.get("ErrorMessage")) for item in answer["Errors"])


def test_a_denied_launch_names_the_condition(dev: Deployment) -> None:
    """A launch without a deadline is denied by the local AWS, decoded, and explained."""
    text = launch(dev, {"nightshift:environment": "dev", "nightshift:attempt": "1"})
    assert ENCODED.search(text), text
    explanations = explain(
        [dev.as_role("trainer"), dev.as_role("administrator")], dev.settings, text
    )
    assert any(
        "OnlyOurKindOfMachine: Null aws:RequestTag/nightshift:deadline must be false" in found
        for found in explanations
    ), explanations


def test_the_local_aws_decodes_in_the_documented_form(dev: Deployment) -> None:
    """A denied call has an encoded message, which only a caller with the right can decode."""
    with pytest.raises(ClientError) as caught:
        dev.as_role("trainer").ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"])
    code, text = refusal(caught.value)
    if code == "InvalidInstanceID.NotFound":
        pytest.fail("EC2 must not say whether the instance exists")
    encoded = ENCODED.findall(text)
    assert (code, len(encoded)) == ("UnauthorizedOperation", 1)
    answer = dev.as_role("administrator").sts.decode_authorization_message(
        EncodedMessage=encoded[0]
    )["DecodedMessage"]
    assert set(json.loads(answer)) == set(DECODED)
    denial = read(answer)
    assert denial.action == "ec2:TerminateInstances"
    assert denial.principal.startswith(
        f"arn:aws:sts::{dev.account.account_id}:assumed-role/nightshift-dev-trainer/"
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        dev.as_role("trainer").sts.decode_authorization_message(EncodedMessage=encoded[0])


def test_a_message_that_nobody_may_decode_gives_the_command(dev: Deployment) -> None:
    """Without the right to decode, the explanation is the command for an administrator."""
    with pytest.raises(ClientError) as caught:
        dev.as_role("trainer").ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"])
    text = refusal(caught.value)[1]
    (found,) = explain([dev.as_role("trainer")], dev.settings, text)
    assert f"decode-authorization-message --encoded-message {ENCODED.findall(text)[0]}`" in found
    assert shorten(found).endswith("--encoded-message MESSAGE`")


def test_a_wrong_message_is_refused(account: Account) -> None:
    """A message that is not encoded gives the documented error."""
    sts = account.clients().sts
    with pytest.raises(sts.exceptions.InvalidAuthorizationMessageException):
        sts.decode_authorization_message(EncodedMessage="nonsense")
