"""Preflight says what would go wrong and how to mend it, and makes nothing."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight import VCPU_QUOTAS, Check, Situation, Verdict, _caller, _quotas, check_runtime, run_checks
from infra_bootstrap.settings import Settings
from tests.infra_bootstrap.accounts import Deployment


class FakeClients(Clients):
    """Clients of which some are stubs that check what they are asked."""

    def __init__(self, stubs: dict[str, Any], arn: str = "arn:aws:iam::123456789012:role/x") -> None:
        super().__init__(boto3.Session("none", "none", region_name="eu-west-1"))
        self.stubs = stubs
        self.__dict__["identity"] = {"Account": "123456789012", "Arn": arn, "UserId": "x"}

    def client(self, service: str) -> Any:
        """A stub if there is one."""
        return self.stubs.get(service) or super().client(service)


def failed(checks: list[Check]) -> dict[str, Check]:
    """Failures by name."""
    return {check.name: check for check in checks if check.verdict is Verdict.FAILED}


def test_a_good_account_is_ready(dev: Deployment) -> None:
    """Nothing fails for an administrator, nor for Airflow's role once identity is there."""
    for role in ("administrator", "airflow-worker"):
        assert failed(run_checks(dev.as_role(role), dev.settings)) == {}


def test_what_a_caller_may_not_look_at_is_a_warning_that_names_it(dev: Deployment) -> None:
    """Airflow's role cannot read quotas: that is said, with the permission, and fails nothing."""
    found = {check.name: check for check in run_checks(dev.as_role("airflow-worker"), dev.settings)}
    assert found["vCPUs"].verdict is Verdict.WARNING
    assert "what GetServiceQuota needs" in found["vCPUs"].fix


def test_a_role_that_does_not_exist_is_named(dev: Deployment) -> None:
    """Identity would fail to attach its policy: found before."""
    found = failed(run_checks(dev.as_role("administrator"), Settings("dev", airflow_role="nobody")))
    assert found["Airflow's role"].fix == "name the role that Airflow's workers run as: --airflow-role NAME"


def test_a_bucket_that_is_not_ours_is_refused(dev: Deployment) -> None:
    """A bucket of the name that no stack of ours made would fail the storage stack half-way."""
    s3 = dev.as_role("administrator").s3
    name = f"nightshift-taken-{dev.account.account_id}-{dev.account.region}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": dev.account.region})
    found = failed(run_checks(dev.as_role("administrator"), Settings("taken")))
    s3.delete_bucket(Bucket=name)
    assert "delete it, or choose another environment's name" in found["bucket"].fix


def test_an_environment_that_lives_in_another_region_is_refused(dev: Deployment) -> None:
    """Role names are global; a second region would fail half-way through identity."""
    elsewhere = Clients(boto3.Session(*_credentials(dev), region_name="eu-central-1"))
    assert "choose the region where the environment lives" in failed(run_checks(elsewhere, dev.settings))["environment"].fix


def _credentials(dev: Deployment) -> tuple[str, str, str]:
    found = dev.as_role("administrator").session.get_credentials()
    assert found is not None
    return str(found.access_key), str(found.secret_key), str(found.token)


def test_an_image_that_does_not_exist_or_does_not_fit_is_refused(dev: Deployment) -> None:
    """A wrong SSM parameter, and a volume smaller than the image, are both found."""
    wrong = Settings("new", parameters={"ImageId": "/aws/service/deeplearning/ami/x86_64/none/latest/ami-id"})
    assert "does not exist in eu-west-1" in failed(run_checks(dev.as_role("administrator"), wrong))["machine image"].found
    small = Settings("new", parameters={"VolumeGib": "20"})
    assert failed(run_checks(dev.as_role("administrator"), small))["machine image"].fix == "--parameter VolumeGib=75"


def test_a_quota_of_zero_is_refused_with_the_command_that_asks_for_more() -> None:
    """New accounts have no GPU quota, which is a warning, and may have no spot quota, which is a failure."""
    client = boto3.client("service-quotas", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")
    with Stubber(client) as stub:
        for _, code, _, _ in VCPU_QUOTAS:
            stub.add_response("get_service_quota", {"Quota": {"Value": 0.0}}, {"ServiceCode": "ec2", "QuotaCode": code})
        checks = list(_quotas(Situation(FakeClients({"service-quotas": client}), Settings("dev"))))
    assert [check.verdict for check in checks] == [Verdict.FAILED, Verdict.FAILED, Verdict.WARNING, Verdict.WARNING]
    assert "--quota-code L-34B43A08" in checks[0].fix


def test_the_root_user_is_refused() -> None:
    """Root cannot assume roles, so it could not upload anything."""
    check, = _caller(Situation(FakeClients({}, "arn:aws:iam::123456789012:root"), Settings("dev")))
    assert check.verdict is Verdict.FAILED


def test_a_laptops_python_is_refused_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Onnxruntime does not load in Lambda's python3.11; on this machine's loopback Lambda's Python is this machine's."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(BadInputError, match=r"python3.11 has 2.26; choose python3.12 or later"):
        check_runtime(FakeClients({}), "python3.11")
    check_runtime(FakeClients({}), "python3.12")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    check_runtime(FakeClients({}), "python3.11")
