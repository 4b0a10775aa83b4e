"""Preflight reports what would fail and how to fix it, and creates nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight import account as account_checks
from infra_bootstrap.preflight import environment
from infra_bootstrap.preflight.account import VCPU_QUOTAS, check_runtime
from infra_bootstrap.preflight.checklist import CHECKS, failures, make_check, run_checks
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.preflight.traces import find_traces
from infra_bootstrap.stacks.settings import DeploymentSettings
from tests.infra_bootstrap.accounts import PYTHON, Account, Deployment


class FakeClients(Clients):
    """Clients that are stubs for some services; a stub checks its requests."""

    def __init__(
        self,
        stubs: dict[str, Any],
        arn: str = "arn:aws:iam::123456789012:role/x",
        region: str = "eu-west-1",
    ) -> None:
        super().__init__(boto3.Session("none", "none", region_name=region))
        self.stubs = stubs
        self.__dict__["identity"] = {"Account": "123456789012", "Arn": arn, "UserId": "x"}

    def client(self, service: str, region: str | None = None) -> Any:
        """Return the service's stub, or a real client."""
        return self.stubs.get(service) or super().client(service, region)


def failed(checks: list[Check]) -> dict[str, Check]:
    """Return the failed checks by name."""
    return {check.name: check for check in failures(checks)}


def test_a_good_account_is_ready(dev: Deployment) -> None:
    """No check fails for an administrator or, after identity exists, for Airflow's role."""
    for role in ("administrator", "airflow-worker"):
        assert failed(run_checks(dev.as_role(role), dev.settings)) == {}
    found = run_checks(dev.as_role("administrator"), dev.settings)
    assert {check.name for check in found if check.verdict is CheckResult.WARNING} <= {
        "role of spot.amazonaws.com"
    }


def test_what_a_caller_may_not_look_at_is_a_warning_that_names_it(dev: Deployment) -> None:
    """A check without its permission is a warning that names the permission."""
    found = {check.name: check for check in run_checks(dev.as_role("airflow-worker"), dev.settings)}
    assert found["vCPUs"].verdict is CheckResult.WARNING
    assert "what GetServiceQuota needs" in found["vCPUs"].fix


def test_a_bucket_that_is_not_ours_is_refused(dev: Deployment) -> None:
    """A bucket with our name that no stack of ours created is refused."""
    s3 = dev.as_role("administrator").s3
    name = f"nightshift-taken-{dev.account.account_id}-{dev.account.region}"
    s3.create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": dev.account.region}
    )
    found = failed(run_checks(dev.as_role("administrator"), DeploymentSettings("taken")))
    s3.delete_bucket(Bucket=name)
    assert "delete it, or choose another environment's name" in found["bucket"].fix


def test_an_environment_that_lives_in_another_region_is_refused(dev: Deployment) -> None:
    """An environment in another region is refused, because role names are global."""
    elsewhere = Clients(boto3.Session(*_credentials(dev), region_name="eu-central-1"))
    assert (
        "choose the region where the environment lives"
        in failed(run_checks(elsewhere, dev.settings))["environment"].fix
    )


def _credentials(dev: Deployment) -> tuple[str, str, str]:
    found = dev.as_role("administrator").session.get_credentials()
    assert found is not None
    return str(found.access_key), str(found.secret_key), str(found.token)


def test_an_image_that_does_not_exist_or_does_not_fit_is_refused(dev: Deployment) -> None:
    """A wrong SSM parameter, or a volume smaller than the image, is refused."""
    wrong = DeploymentSettings(
        "new", parameters={"ImageId": "/aws/service/deeplearning/ami/x86_64/none/latest/ami-id"}
    )
    assert (
        "does not exist in eu-west-1"
        in failed(run_checks(dev.as_role("administrator"), wrong))["machine image"].found
    )
    small = DeploymentSettings("new", parameters={"VolumeGib": "20"})
    assert (
        failed(run_checks(dev.as_role("administrator"), small))["machine image"].fix
        == "--parameter VolumeGib=75"
    )


# ---- every row can fail
def answering(service: str, *answers: tuple[str, Any]) -> Any:
    """Return a client that answers its calls in this order, with responses or error codes."""
    client = boto3.client(
        service, region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
    stub = Stubber(client)
    for call, answer in answers:
        if isinstance(answer, str):
            stub.add_client_error(
                call, service_error_code=answer, http_status_code=403 if answer == "403" else 404
            )
        else:
            stub.add_response(call, answer)
    stub.activate()
    return client


def quota(value: float) -> tuple[str, Any]:
    """Build Service Quotas' answer."""
    return "get_service_quota", {"Quota": {"Value": value}}


def no_stack(times: int = 1) -> Any:
    """Return a CloudFormation client that knows no stack."""
    client = boto3.client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    stub = Stubber(client)
    for _ in range(times):
        stub.add_client_error(
            "describe_stacks", "ValidationError", "Stack with id x does not exist"
        )
    stub.activate()
    return client


def stack(concern: str, status: str, **more: Any) -> dict[str, Any]:
    """Describe one stack as CloudFormation does."""
    return {
        "Stacks": [
            {
                "StackName": f"nightshift-dev-{concern}",
                "StackId": "x",
                "StackStatus": status,
                "CreationTime": AT,
                **more,
            }
        ]
    }


AT = datetime(2026, 1, 1, tzinfo=UTC)
MISSING_ROLE = ("get_role", "NoSuchEntity")
#: For each check, a situation in which it fails: clients, settings, what it finds, and the fix.
FAILING: dict[str, tuple[Callable[[], FakeClients], dict[str, Any], str, str]] = {
    "who am I": (
        lambda: FakeClients({}, "arn:aws:iam::123456789012:root"),
        {},
        ":root",
        "use a role or a user",
    ),
    "region": (
        lambda: FakeClients(
            {
                "ec2": answering(
                    "ec2", ("describe_regions", {"Regions": [{"OptInStatus": "not-opted-in"}]})
                )
            }
        ),
        {},
        "eu-west-1, not-opted-in",
        "aws account enable-region --region-name eu-west-1 (it takes minutes to hours), or choose",
    ),
    "service control policies": (
        lambda: FakeClients(
            {
                "ec2": answering(
                    "ec2",
                    ("create_vpc", "DryRunOperation"),
                    ("create_launch_template", "DryRunOperation"),
                ),
                "iam": answering(
                    "iam",
                    (
                        "simulate_custom_policy",
                        {
                            "EvaluationResults": [
                                {
                                    "EvalActionName": "ec2:RunInstances",
                                    "EvalDecision": "implicitDeny",
                                    "OrganizationsDecisionDetail": {
                                        "AllowedByOrganizations": False
                                    },
                                }
                            ]
                        },
                    ),
                ),
            }
        ),
        {},
        "deny ec2:RunInstances",
        "ask the organisation's administrator",
    ),
    "Airflow's role": (
        lambda: FakeClients({"cloudformation": no_stack(), "iam": answering("iam", MISSING_ROLE)}),
        {"airflow_role": "nobody"},
        "nobody does not exist",
        "--airflow-role NAME",
    ),
    "environment": (
        lambda: FakeClients(
            {"cloudformation": no_stack(), "iam": answering("iam", ("get_role", {"Role": A_ROLE}))}
        ),
        {},
        "the role nightshift-dev-launcher exists, and its stack is not in eu-west-1",
        "or another name",
    ),
    "permissions": (
        lambda: FakeClients(
            {
                "cloudformation": no_stack(),
                "iam": answering("iam", ("get_role", {"Role": A_ROLE}), *[REFUSED] * 7),
            }
        ),
        {},
        "may not iam:CreateRole",
        "let an administrator deploy the first time",
    ),
    "zones": (
        lambda: FakeClients(
            {
                "ec2": answering(
                    "ec2", ("describe_instance_type_offerings", {"InstanceTypeOfferings": []})
                )
            }
        ),
        {},
        "no zone offers a wanted instance type",
        "choose another region",
    ),
    "vCPUs": (
        lambda: FakeClients(
            {"service-quotas": answering("service-quotas", *[quota(0.0)] * len(VCPU_QUOTAS))}
        ),
        {},
        "0",
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code "
        "L-34B43A08",
    ),
    "VPCs": (
        lambda: FakeClients(
            {
                "service-quotas": answering("service-quotas", quota(1.0)),
                "cloudformation": no_stack(),
                "ec2": answering("ec2", ("describe_vpcs", {"Vpcs": [{"VpcId": "vpc-1"}]})),
            }
        ),
        {},
        "1 of 1",
        "delete one, or ask for more (quota L-F678F1CE of service vpc)",
    ),
    "budget": (
        lambda: FakeClients({"cloudformation": no_stack()}, region="eu-north-1"),
        {"parameters": {"MonthlyBudgetUsd": "50"}},
        "eu-north-1 has no AWS::Budgets::Budget",
        "deploy with --parameter MonthlyBudgetUsd=0, and make the budget in the Billing console",
    ),
    "free addresses": (
        lambda: FakeClients(
            {
                "cloudformation": answering(
                    "cloudformation",
                    (
                        "describe_stacks",
                        stack(
                            "network",
                            "CREATE_COMPLETE",
                            Outputs=[
                                {"OutputKey": "SubnetA", "OutputValue": "eu-west-1a=subnet-1"}
                            ],
                        ),
                    ),
                ),
                "ec2": answering(
                    "ec2",
                    (
                        "describe_subnets",
                        {
                            "Subnets": [
                                {"AvailabilityZone": "eu-west-1a", "AvailableIpAddressCount": 0}
                            ]
                        },
                    ),
                ),
            }
        ),
        {},
        "eu-west-1a 0",
        "no room in eu-west-1a: end machines or network interfaces that hold addresses there",
    ),
    "machine image": (
        lambda: FakeClients(
            {
                "cloudformation": no_stack(),
                "ssm": answering("ssm", ("get_parameter", "ParameterNotFound")),
            }
        ),
        {"parameters": {"ImageId": "/no/image"}},
        "the SSM parameter /no/image does not exist in eu-west-1",
        "choose another image",
    ),
    "volume key": (
        lambda: FakeClients(
            {
                "ec2": answering(
                    "ec2",
                    ("get_ebs_default_kms_key_id", {"KmsKeyId": "arn:aws:kms:eu-west-1:1:key/x"}),
                )
            }
        ),
        {"parameters": {"VolumeKmsKeyId": "arn:aws:kms:eu-west-1:1:key/x"}},
        "arn:aws:kms:eu-west-1:1:key/x, chosen",
        "",
    ),
    "bucket": (
        lambda: FakeClients(
            {"cloudformation": no_stack(), "s3": answering("s3", ("head_bucket", "403"))}
        ),
        {},
        "nightshift-dev-123456789012-eu-west-1 belongs to another account",
        "choose another environment's name",
    ),
    "Lambda": (
        lambda: FakeClients(
            {
                "cloudformation": no_stack(),
                "lambda": answering(
                    "lambda",
                    (
                        "get_account_settings",
                        {"AccountLimit": {"UnreservedConcurrentExecutions": 100}},
                    ),
                ),
            }
        ),
        {"parameters": {"ReservedConcurrency": "5"}},
        "100, of which 5 would be reserved",
        "leave ReservedConcurrency at -1",
    ),
    "service-linked roles": (
        lambda: FakeClients({"iam": answering("iam", MISSING_ROLE)}),
        {},
        "not there yet",
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "stacks": (
        lambda: FakeClients(
            {
                "cloudformation": answering(
                    "cloudformation",
                    *[("describe_stacks", stack("network", "UPDATE_IN_PROGRESS"))] * 5,
                )
            }
        ),
        {},
        "UPDATE_IN_PROGRESS",
        "wait until it has ended",
    ),
}
A_ROLE = {
    "Path": "/",
    "RoleName": "x" * 3,
    "RoleId": "x" * 16,
    "Arn": "arn:aws:iam::123456789012:role/xxx",
    "CreateDate": AT,
}
REFUSED = (
    "simulate_principal_policy",
    {
        "EvaluationResults": [
            {"EvalActionName": "iam:CreateRole", "EvalDecision": "implicitDeny"},
            {"EvalActionName": "sts:AssumeRole", "EvalDecision": "allowed"},
        ]
    },
)
#: A missing service-linked role, which `deploy` creates, is no failure.
WARNED = {"service-linked roles"}


@pytest.mark.parametrize("row", CHECKS)
def test_every_row_can_fail_and_says_what_to_do(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check fails in its situation, reports what it found, and names the fix."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    make, given, found, fix = FAILING[row]
    situation = Situation(make(), DeploymentSettings("dev", **given))
    checks = make_check(row, situation)
    wanted = CheckResult.WARNING if row in WARNED else CheckResult.FAILED
    failed = [check for check in checks if check.verdict is wanted]
    assert failed, checks
    assert any(
        found in check.found and fix in f"{check.found} → {check.fix}" for check in failed
    ), failed


def test_a_quota_of_zero_fails_where_every_run_needs_it_and_warns_for_gpus() -> None:
    """A zero quota is a warning for GPUs, as in new accounts, and a failure for spot."""
    situation = Situation(FAILING["vCPUs"][0](), DeploymentSettings("dev"))
    verdicts = [check.verdict for check in account_checks.check_quotas(situation)]
    assert verdicts == [
        CheckResult.FAILED,
        CheckResult.FAILED,
        CheckResult.WARNING,
        CheckResult.WARNING,
    ]


def test_one_full_subnet_is_a_warning() -> None:
    """One full subnet is a warning that names it, because Fleet uses the other zones."""
    subnets = [
        {"AvailabilityZone": "a", "AvailableIpAddressCount": 3},
        {"AvailabilityZone": "b", "AvailableIpAddressCount": 2000},
    ]
    check = environment.judge_addresses(subnets)
    assert (check.verdict, check.found) == (CheckResult.WARNING, "a 3, b 2000")


def test_a_role_without_rights_may_not_deploy(dev: Deployment) -> None:
    """A role without rights is refused and referred to Airflow's role, which may deploy."""
    iam = dev.as_role("administrator").iam
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{dev.account.account_id}:root"},
        "Action": "sts:AssumeRole",
    }
    iam.create_role(
        RoleName="looker",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    may = {
        "Effect": "Allow",
        "Resource": "*",
        "Action": ["iam:GetRole", "iam:SimulatePrincipalPolicy", "cloudformation:DescribeStacks"],
    }
    iam.put_role_policy(
        RoleName="looker",
        PolicyName="look",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
    )
    found = failed(run_checks(dev.account.clients("looker"), dev.settings))["permissions"]
    assert "role/looker may not cloudformation:CreateChangeSet" in found.found
    assert found.fix == "deploy as airflow-worker, or let an administrator do it"


def test_rights_that_are_scoped_to_our_names_suffice(dev: Deployment) -> None:
    """Full rights on this environment's own resources are enough to deploy it."""
    iam = dev.as_role("administrator").iam
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{dev.account.account_id}:root"},
        "Action": "sts:AssumeRole",
    }
    iam.create_role(
        RoleName="scoped",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    may: list[dict[str, Any]] = [
        {
            "Effect": "Allow",
            "Action": ["iam:*", "sts:AssumeRole"],
            "Resource": [
                f"arn:aws:iam::*:{kind}/nightshift-{dev.settings.environment}-*"
                for kind in ("role", "policy", "instance-profile")
            ],
        },
        {
            "Effect": "Allow",
            "Action": ["iam:*"],
            "Resource": [
                "arn:aws:iam::*:role/airflow-worker",
                "arn:aws:iam::*:role/aws-service-role/*",
                "arn:aws:iam::*:role/scoped",
            ],
        },
        {
            "Effect": "Allow",
            "Action": "cloudformation:*",
            "Resource": "arn:aws:cloudformation:*:*:stack/nightshift-*",
        },
        {
            "Effect": "Allow",
            "Resource": "*",
            "Action": [
                "ec2:Describe*",
                "ssm:GetParameter",
                "iam:GetRole",
                "iam:SimulatePrincipalPolicy",
            ],
        },
    ]
    policy = {"Version": "2012-10-17", "Statement": may}
    iam.put_role_policy(RoleName="scoped", PolicyName="may", PolicyDocument=json.dumps(policy))
    rows = {check.name: check for check in run_checks(dev.account.clients("scoped"), dev.settings)}
    assert (rows["permissions"].verdict, rows["permissions"].found) == (
        CheckResult.GOOD,
        "an administrator's",
    )
    may[0]["Resource"] = may[0]["Resource"][:1]
    iam.put_role_policy(RoleName="scoped", PolicyName="may", PolicyDocument=json.dumps(policy))
    found = failed(run_checks(dev.account.clients("scoped"), dev.settings))["permissions"].found
    assert found.endswith(
        "role/scoped may not iam:CreatePolicy, iam:CreatePolicyVersion, iam:DeletePolicyVersion, "
        "iam:AddRoleToInstanceProfile, iam:CreateInstanceProfile"
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            ["--parameter", "ImageId=/no/image"],
            "machine image: the SSM parameter /no/image does not exist in eu-west-1",
        ),
        (
            [
                "--parameter",
                "ImageId=/aws/service/deeplearning/ami/arm64/"
                "oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04/latest/ami-id",
            ],
            "machine image: the image ami-",
        ),
        (["--airflow-role", "nobody"], "Airflow's role: nobody does not exist → name the role"),
        (["--parameter", "ReservedConcurrency=950"], "Lambda's concurrency: "),
    ],
)
def test_deploy_refuses_before_anything_is_made(
    account: Account, given: list[str], problem: str
) -> None:
    """`deploy` runs preflight first, so a refused deployment creates no stack."""
    done = account.cli(
        "deploy", "--environment", "unready", "--lambda-runtime", f"python{PYTHON}", *given
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"nothing was made: {problem}" in done.stderr
    assert " → " in done.stderr.splitlines()[-1]
    assert list(find_traces(account.clients(), "unready")) == []


def test_a_laptops_python_is_refused_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """On AWS python3.11 is refused, because its glibc is too old for onnxruntime.

    The local AWS runs functions in this machine's Python, so it accepts python3.11.
    """
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(BadInputError, match=r"python3.11 has 2.26; choose python3.12 or later"):
        check_runtime(FakeClients({}), "python3.11")
    check_runtime(FakeClients({}), "python3.12")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    check_runtime(FakeClients({}), "python3.11")
