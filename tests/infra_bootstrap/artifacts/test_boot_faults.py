"""A machine that cannot start is explained, end to end: user data, console, supervisor.

Each fault comes from a version of the launch template in a local AWS. The machine runs the real
user data, and a supervisor with the launcher's rights watches the trial.
"""

from __future__ import annotations

import base64
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.supervisor import TrialSupervisor
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import ledger_key, spec_key
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.actions import Action, ActionKind
from rl_lifecycle.trials.states import TrialState
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.artifacts.test_user_data import EXPERIMENT

LOG = logging.getLogger("boot faults")
NO_TORCH = (
    'mkdir -p "$HOME/first"\n'
    "printf '#!/bin/sh\\nexit 1\\n' > \"$HOME/first/python3\"\n"
    'chmod +x "$HOME/first/python3"\n'
    'export PATH="$HOME/first:$PATH"\n'
)
NO_ROUTE = "export AWS_ENDPOINT_URL=http://127.0.0.1:9\n"


def break_template(dev: Deployment, before: str, metadata_tags: str) -> str:
    """Make a version of the launch template whose machines cannot start, and try only once.

    :param before: shell lines that run before the user data.
    :return: the version's number.
    """
    ec2, template_id = dev.as_role("administrator").ec2, dev.outputs.launch_template_id
    found = ec2.describe_launch_template_versions(
        LaunchTemplateId=template_id, Versions=[dev.outputs.launch_template_version]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    script = base64.b64decode(found["UserData"]).decode()
    assert "tries=8" in script
    first, _, rest = script.replace("tries=8", "tries=1").partition("\n")
    data: Any = {
        **found,
        "UserData": base64.b64encode(f"{first}\n{before}{rest}".encode()).decode(),
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": metadata_tags,
        },
    }
    made = ec2.create_launch_template_version(LaunchTemplateId=template_id, LaunchTemplateData=data)
    return str(made["LaunchTemplateVersion"]["VersionNumber"])


def plan_run(dev: Deployment, run: str, version: str) -> tuple[RunPlan, Spec]:
    """Freeze and store a spec, and plan its run with a version of the launch template."""
    spec = freeze_spec(
        read_experiment(EXPERIMENT, "silent"), run_id=run, created_at=datetime.now(UTC)
    )
    key, data = spec_key("silent", spec.run), spec.to_json()
    dev.as_role("launcher").s3.put_object(Bucket=dev.bucket, Key=key, Body=data, IfNoneMatch="*")
    plan = RunPlan(
        environment=dev.settings.environment,
        region_name=dev.outputs.region,
        bucket=dev.bucket,
        experiment="silent",
        run=spec.run,
        spec=Artifact(key=key, sha256=sha256_hex(data)),
        trials=("seed-0",),
        ledger_key=ledger_key(f"{datetime.now(UTC):%Y-%m}", "silent", spec.run),
        launch_template_id=dev.outputs.launch_template_id,
        launch_template_version=version,
        subnet_ids=dev.outputs.subnet_ids,
        evaluator="evaluator:live",
    )
    return plan, spec


def watch(dev: Deployment, plan: RunPlan, spec: Spec) -> tuple[Action, TrialSupervisor]:
    """Advance the trial until it is over, as the awaiting task does."""
    ec2 = dev.as_role("launcher").ec2
    supervisor = TrialSupervisor(
        plan,
        spec,
        "seed-0",
        S3Store(dev.as_role("launcher").s3, dev.bucket),
        Machines(ec2, plan.environment, {subnet: zone for zone, subnet in plan.subnet_ids.items()}),
        MarketPrices(ec2, LOG),
        checks=LaunchChecks(ec2, LOG),
        now=lambda: datetime.now(UTC),
        log=LOG,
    )
    for _ in range(200):
        action, _ = supervisor.advance()
        if action.kind in (ActionKind.FAIL, ActionKind.FINISH):
            return action, supervisor
        time.sleep(0.2)
    supervisor.cancel("the test waited long enough")
    pytest.fail(f"the trial is not over: {action.finding}")


FAULTS = {
    "no_python": (NO_TORCH, "enabled", "this image has no Python with torch and boto3"),
    "no_tags": ("", "disabled", "has no meta-data/tags/instance/nightshift:environment: 404"),
    "no_route": (NO_ROUTE, "enabled", "spec.json: EndpointConnectionError"),
}


def test_a_machine_that_cannot_report_is_explained_and_not_replaced(fresh: Deployment) -> None:
    """The trial fails after one machine, and says the cause that only the console knows."""
    fresh.deploy()
    for kind, (before, metadata_tags, message) in FAULTS.items():
        version = break_template(fresh, before, metadata_tags)
        plan, spec = plan_run(fresh, f"silent-{kind.replace('_', '-')}", version)
        action, supervisor = watch(fresh, plan, spec)
        assert (action.kind, action.finding.state) == (ActionKind.FAIL, TrialState.FAILED)
        assert f"could not start ({kind}): " in action.finding.reason
        assert message in action.finding.reason
        (stored,) = supervisor.attempts.read()
        assert f"could not start ({kind}): " in stored.attempt.outcome.reason
        assert list(supervisor.machines.list_of_trial(supervisor.trial)) == []
