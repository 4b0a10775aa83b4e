"""The launcher checks template, image, offers and quotas before it requests a machine."""

from __future__ import annotations

import logging

import pytest

from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.launch_requests import plan_pools
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.stacks.test_bucket_writers import assert_refused

LOG = logging.getLogger("launch")


def checks(dev: Deployment) -> LaunchChecks:
    """The launcher's checks."""
    launcher = dev.as_role("launcher")
    return LaunchChecks(launcher.ec2, LOG, lambda: launcher.client("service-quotas"))


def template(dev: Deployment, image_id: str) -> str:
    """Create a foreign launch template with an image."""
    made = dev.as_role("administrator").ec2.create_launch_template(
        LaunchTemplateName=f"t-{image_id}",
        LaunchTemplateData={"ImageId": image_id, "InstanceType": "c7i.large"},
    )
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def test_what_is_deployed_passes_every_check(
    dev: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """A good deployment passes all checks, also quotas, without a skipped one."""
    with caplog.at_level(logging.INFO):
        checks(dev).check(
            dev.outputs.launch_template_id, dev.outputs.launch_template_version, AUTO_TYPES, "spot"
        )
    assert [record.getMessage() for record in caplog.records if record.name == LOG.name] == []


def test_a_deleted_template_is_refused(dev: Deployment) -> None:
    """A deleted template, or a deleted version, is refused."""
    with pytest.raises(
        LaunchRefusedError, match="has no version 99 any more: trigger bootstrap_infrastructure"
    ):
        checks(dev).check(dev.outputs.launch_template_id, "99", AUTO_TYPES, "spot")
    gone = template(dev, dev.outputs.image_id)
    dev.as_role("administrator").ec2.delete_launch_template(LaunchTemplateId=gone)
    with pytest.raises(LaunchRefusedError, match=f"{gone} has no version 1 any more"):
        checks(dev).check(gone, "1", AUTO_TYPES, "spot")


def test_a_missing_image_is_refused(dev: Deployment) -> None:
    """A template whose image EC2 does not know is refused."""
    with pytest.raises(
        LaunchRefusedError, match="is gone or not available: trigger bootstrap_infrastructure"
    ):
        checks(dev).check(template(dev, "ami-0dead0dead0dead00"), "1", AUTO_TYPES, "spot")


def test_a_quota_that_can_never_hold_the_machine_is_refused(dev: Deployment) -> None:
    """A machine with more vCPUs than the quota is refused: 192 of P, where the quota is 16."""
    with pytest.raises(
        LaunchRefusedError, match=r"quota L-417A185B allows 16 vCPUs .* has 192: ask for more"
    ):
        checks(dev).check(
            dev.outputs.launch_template_id,
            dev.outputs.launch_template_version,
            ["p5.48xlarge"],
            "on-demand",
        )


def test_a_type_that_no_subnet_of_ours_offers_is_refused(dev: Deployment) -> None:
    """A type is refused if no zone of our subnets offers it."""
    offered = MarketPrices(dev.as_role("launcher").ec2, LOG).offered_zones(["p5.48xlarge"])
    assert offered is not None
    subnets = {
        zone: subnet
        for zone, subnet in dev.outputs.subnet_ids.items()
        if zone not in offered.get("p5.48xlarge", ())
    }
    with pytest.raises(
        LaunchRefusedError,
        match=r"none of p5\.48xlarge is offered .* choose other compute\.instance_types",
    ):
        plan_pools(["p5.48xlarge"], subnets, offered)


@pytest.mark.parametrize("role", ["trainer", "promoter", "reaper", "evaluator"])
def test_only_the_launcher_reads_quotas(dev: Deployment, role: str) -> None:
    """Only the launcher needs quotas, so the other roles may not read them."""
    assert_refused(
        dev.as_role(role).client("service-quotas").get_service_quota,
        ServiceCode="ec2",
        QuotaCode="L-34B43A08",
    )
