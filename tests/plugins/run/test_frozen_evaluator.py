"""A run keeps the functions and the role of its machines that its spec names."""

import pytest

from rl_airflow.infrastructure.deployed_environment import DeployedEnvironment
from rl_airflow.run.spec_operator import plan_of
from rl_lifecycle.experiment.spec import Artifact, EvaluatorVersion
from rl_lifecycle.records.record import sha256_hex
from tests.plugins.worlds import World

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:nightshift-dev"


def version(number: int) -> EvaluatorVersion:
    """Make the versions of one deployment."""
    return EvaluatorVersion(
        function=f"{ARN}-evaluator:{number}",
        player=f"{ARN}-player:{number}",
        judge=f"{ARN}-judge:{number}",
        label=f"code {number}",
    )


def deployed(number: int | None) -> DeployedEnvironment:
    """Make an environment whose alias runs a version."""
    return DeployedEnvironment(
        environment="dev",
        bucket="lake",
        launch_template_id="lt-1",
        launch_template_version="1",
        subnet_ids={"a": "subnet-1"},
        evaluator=f"{ARN}-evaluator:live",
        image_id=None,
        trainer_wheels=None,
        topic_arn=None,
        evaluator_version=None if number is None else version(number),
    )


def test_a_run_keeps_its_evaluator_after_a_deployment() -> None:
    """The plan that a cleared task makes again names the frozen version, not the newest."""
    spec = World().spec.model_copy(update={"evaluator": version(3)})
    artifact = Artifact(key="specs/x/y/spec.json", sha256=spec.sha256)
    assert plan_of(deployed(4), None, spec, artifact).evaluator == f"{ARN}-evaluator:3"


PROFILE = "arn:aws:iam::123456789012:instance-profile/nightshift-dev-trainer.cartpole"


@pytest.mark.parametrize(("frozen", "today"), [(PROFILE, None), (None, PROFILE)])
def test_a_run_keeps_the_role_of_its_machines(frozen: str | None, today: str | None) -> None:
    """The experiment's stack was deleted or made after the run was frozen."""
    spec = World().spec.with_instance_profile(frozen)
    artifact = Artifact(key="specs/x/y/spec.json", sha256=spec.sha256)
    now = deployed(4)._replace(instance_profile_arn=today)
    assert plan_of(now, None, spec, artifact).instance_profile_arn == frozen
    assert (b"instance_profile_arn" in spec.to_json()) == (frozen is not None)


def test_a_run_of_an_older_version_uses_the_alias() -> None:
    """A spec that was frozen before names no version, and its digest is the same as before."""
    spec = World().spec
    assert spec.evaluator is None
    assert b"evaluator" not in spec.to_json()
    assert sha256_hex(spec.to_json()) == spec.sha256
    artifact = Artifact(key="specs/x/y/spec.json", sha256=spec.sha256)
    assert plan_of(deployed(4), None, spec, artifact).evaluator == f"{ARN}-evaluator:live"
