"""An account or a region that cannot work is refused before anything is made, with the fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import PreflightFailedError
from infra_bootstrap.preflight import region
from infra_bootstrap.preflight.checklist import (
    failures,
    make_check,
    refuse_what_would_fail,
    run_checks,
)
from infra_bootstrap.preflight.policies import check_organisation, context_of
from infra_bootstrap.preflight.quotas import find_quota
from infra_bootstrap.preflight.results import CheckResult, Situation
from infra_bootstrap.preflight.traces import find_traces
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import parameters_of
from tests.infra_bootstrap.accounts import PYTHON, Account, Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients, answering

NEW = DeploymentSettings("bad-account", lambda_runtime=f"python{PYTHON}")


def elsewhere(account: Account, name: str) -> Clients:
    """Return the administrator's clients in another region."""
    found = account.clients().session.get_credentials()
    assert found is not None
    frozen = found.get_frozen_credentials()
    return Clients(boto3.Session(frozen.access_key, frozen.secret_key, frozen.token, name))


def refused(clients: Clients, settings: DeploymentSettings = NEW) -> str:
    """Return the refusal of a deployment, which must have made nothing."""
    with pytest.raises(PreflightFailedError) as caught:
        refuse_what_would_fail(clients, settings)
    assert list(find_traces(clients, settings.environment)) == []
    text = str(caught.value)
    assert text.startswith("nothing was made: ")
    assert all(" → " in problem for problem in caught.value.problems)
    return text


@pytest.mark.parametrize(
    ("name", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_another_partition_is_refused(account: Account, name: str, partition: str) -> None:
    """Regions of China and of GovCloud are refused, and no other check is made there."""
    text = refused(elsewhere(account, name))
    assert text == (
        f"nothing was made: region: {name} belongs to the partition {partition} → choose a region "
        "of the partition aws: the templates, the images and the prices are made for it alone"
    )


def test_a_region_that_is_not_enabled_is_refused(account: Account) -> None:
    """The region refuses all credentials, so another region is asked about it."""
    with account.fault("closed_region", "region=af-south-1"):
        found = run_checks(elsewhere(account, "af-south-1"), NEW)
        done = account.cli(
            "deploy", "--environment", "bad-account", "--region", "af-south-1", role="administrator"
        )
    assert [(check.name, check.verdict, check.found) for check in found] == [
        ("region", CheckResult.FAILED, "af-south-1, not-opted-in")
    ]
    assert "aws account enable-region --region-name af-south-1" in found[0].fix
    assert done.returncode == 1
    assert "region: af-south-1, not-opted-in → aws account enable-region" in done.stderr


def test_a_region_without_a_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that the region lacks is named. botocore knows that few regions have prices."""
    clients = FakeClients({})
    assert region.missing_services(clients, ("ec2", "pricing")) == ["pricing"]
    monkeypatch.setattr(region, "SERVICES", (*region.SERVICES, "pricing"))
    (check,) = make_check("region", Situation(clients, NEW))
    assert (check.verdict, check.found) == (CheckResult.FAILED, "eu-west-1 has no pricing")
    assert check.fix == "choose another region"


def test_a_region_without_tenant_isolation_is_refused_unless_experiments_trust_each_other(
    account: Account,
) -> None:
    """AWS announced tenant isolation for all commercial regions but New Zealand's."""
    clients = elsewhere(account, "ap-southeast-6")
    assert "Lambda has no tenant isolation in ap-southeast-6" in refused(clients)
    shared = replace(NEW, parameters={"PlayerIsolation": "shared"})
    (check,) = make_check("region", Situation(clients, shared))
    assert "tenant isolation" not in check.found


@pytest.mark.parametrize("name", ["dev-b", "d"])
def test_a_name_that_continues_another_is_refused_when_it_gives_rights(
    dev: Deployment, account: Account, name: str
) -> None:
    """The deployer of `dev` may change `nightshift-dev-*`, which would be all of `dev-b`."""
    settings = replace(NEW, environment=name)
    found = [check.found for check in run_checks(account.clients(), settings)]
    told = f"the names of {name} and dev begin alike, and so each could reach what belongs to the"
    assert any(text.startswith(told) for text in found) == (name == "dev-b")
    assert dev.settings.environment == "dev"


def test_every_region_of_the_partition_has_what_the_stacks_use() -> None:
    """No region with EC2 lacks a service of the list, so the check refuses none by mistake."""
    session = boto3.Session()
    for service in region.SERVICES:
        assert set(session.get_available_regions("ec2")) <= set(
            session.get_available_regions(service)
        )


@pytest.mark.parametrize(
    ("action", "found"),
    [
        ("ec2:CreateVpc", "service control policies: deny ec2:CreateVpc"),
        ("ec2:DescribeInstanceTypeOfferings", "DescribeInstanceTypeOfferings: UnauthorizedOper"),
        ("servicequotas:GetServiceQuota", "vCPUs: GetServiceQuota: AccessDeniedException"),
        ("iam:SimulatePrincipalPolicy", "permissions: SimulatePrincipalPolicy: AccessDenied"),
    ],
)
def test_a_service_control_policy_that_denies_is_refused(
    account: Account, action: str, found: str
) -> None:
    """What the organisation denies, no permission of the account can allow."""
    with account.fault("deny", f"action={action}", "by=scp", "role=administrator"):
        text = refused(account.clients())
    assert found in text
    assert "a service control policy of your organisation denies it in eu-west-1" in text


def test_the_simulation_knows_policies_of_the_organisation() -> None:
    """IAM's simulation says what the organisation does not allow, also without a call."""
    dry = ("DryRunOperation",)
    answer = {
        "EvaluationResults": [
            {
                "EvalActionName": "lambda:CreateFunction",
                "EvalDecision": "implicitDeny",
                "OrganizationsDecisionDetail": {"AllowedByOrganizations": False},
            },
            {
                "EvalActionName": "s3:CreateBucket",
                "EvalDecision": "allowed",
                "OrganizationsDecisionDetail": {"AllowedByOrganizations": True},
            },
        ]
    }
    clients = FakeClients(
        {
            "ec2": answering("ec2", ("create_vpc", *dry), ("create_launch_template", *dry)),
            "iam": answering("iam", ("simulate_custom_policy", answer)),
        }
    )
    (check,) = check_organisation(Situation(clients, NEW))
    assert (check.verdict, check.found) == (CheckResult.FAILED, "deny lambda:CreateFunction")


def test_the_simulation_is_told_the_region(account: Account) -> None:
    """A policy that denies all other regions does not seem to deny everything in this one."""
    clients = account.clients()
    guard = {
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": "*",
        "Condition": {"StringNotEquals": {"aws:RequestedRegion": clients.region}},
    }
    allow = {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [allow, guard]})
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
    trusted = {"Version": "2012-10-17", "Statement": [{**trust, "Action": "sts:AssumeRole"}]}
    name = "guarded-by-region"
    role = clients.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trusted))
    clients.iam.put_role_policy(RoleName=name, PolicyName="guard", PolicyDocument=text)

    def decision(**told: Any) -> str:
        answer = clients.iam.simulate_principal_policy(
            PolicySourceArn=role["Role"]["Arn"], ActionNames=["ec2:RunInstances"], **told
        )
        return answer["EvaluationResults"][0]["EvalDecision"]

    assert decision() == "explicitDeny"
    assert decision(ContextEntries=context_of(clients)) == "allowed"


def test_airflows_role_need_not_read_itself(dev: Deployment) -> None:
    """As the caller, Airflow's role is there, whether or not IAM lets it look at itself."""
    worker = dev.account.clients("airflow-worker")
    with dev.account.fault("deny", "action=iam:GetRole", "role=airflow-worker"):
        (check,) = make_check("Airflow's role", Situation(worker, dev.settings))
    assert (check.verdict, check.found) == (
        CheckResult.GOOD,
        "airflow-worker, and it is the caller",
    )


def test_a_quota_that_was_never_changed_has_its_default() -> None:
    """Service Quotas may know no value of the account's own."""
    client = answering(
        "service-quotas",
        ("get_service_quota", "NoSuchResourceException"),
        ("get_aws_default_service_quota", {"Quota": {"Value": 5.0}}),
    )
    assert find_quota(client, "vpc", "L-F678F1CE") == 5.0


def test_a_foreign_default_key_of_ebs_is_refused_unless_the_template_names_another(
    account: Account,
) -> None:
    """A customer-managed default key would end each machine, unless volumes name a key."""
    names_key = "VolumeKmsKeyId" in parameters_of(Concern.TRAINING)
    with account.fault("default_key"):
        (check,) = make_check("volume key", Situation(account.clients(), NEW))
        if names_key:
            assert (check.verdict, check.found) == (CheckResult.GOOD, "alias/aws/ebs, chosen")
        else:
            assert "aws ec2 reset-ebs-default-kms-key-id" in refused(account.clients())
    (check,) = make_check("volume key", Situation(account.clients(), NEW))
    assert check.verdict is CheckResult.GOOD


def test_a_key_without_rights_on_it_is_refused(account: Account) -> None:
    """A key of one's own needs rights, and the refusal names the parameter that gives them."""
    key = f"arn:aws:kms:eu-west-1:{account.account_id}:key/1"
    alone = DeploymentSettings("bad-account", parameters={"VolumeKmsKeyId": key})
    (check,) = make_check("volume key", Situation(account.clients(), alone))
    assert check.verdict is CheckResult.FAILED
    both = {"VolumeKmsKeyId": key, "VolumeKmsKeyArn": key}
    (check,) = make_check(
        "volume key",
        Situation(account.clients(), DeploymentSettings("bad-account", parameters=both)),
    )
    assert check.verdict is CheckResult.GOOD


def test_a_quota_of_zero_is_refused(account: Account) -> None:
    """An account that may run no machine is refused with the call that asks for more."""
    with account.fault("quota", "code=L-34B43A08", "value=0"):
        text = refused(account.clients())
    assert "vCPUs of standard, spot: 0 → ask for more: aws service-quotas" in text
    assert "--quota-code L-34B43A08" in text


@pytest.fixture(params=["narrow", "wide"])
def bounded(account: Account, request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """An Airflow role with a permissions boundary, and whether that lets Airflow work."""
    iam, narrow = account.clients().iam, request.param == "narrow"
    name = f"bounded-{request.param}"
    statement = {"Effect": "Allow", "Action": "s3:*" if narrow else "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    boundary = iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "ecs-tasks.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    iam.create_role(
        RoleName=name,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        PermissionsBoundary=boundary,
    )
    yield name, narrow
    iam.delete_role(RoleName=name)
    iam.delete_policy(PolicyArn=boundary)


def test_an_airflow_role_whose_boundary_is_too_narrow_is_refused(
    account: Account, bounded: tuple[str, bool]
) -> None:
    """A boundary limits what the stack's policy can give, so what it lacks is named."""
    name, narrow = bounded
    settings = DeploymentSettings(
        "bad-account", airflow_role=name, lambda_runtime=f"python{PYTHON}"
    )
    if narrow:
        text = refused(account.clients(), settings)
        assert (
            f"policy/{name} of {name} does not allow sts:AssumeRole, lambda:InvokeFunction" in text
        )
        assert "let the boundary allow what `airflow-policy` prints" in text
    else:
        assert failures(run_checks(account.clients(), settings)) == []
