"""A run is played and judged by the versions of the functions that its spec names."""

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


def test_a_run_of_an_older_version_uses_the_alias() -> None:
    """A spec that was frozen before names no version, and its digest is the same as before."""
    spec = World().spec
    assert spec.evaluator is None
    assert b"evaluator" not in spec.to_json()
    assert sha256_hex(spec.to_json()) == spec.sha256
    artifact = Artifact(key="specs/x/y/spec.json", sha256=spec.sha256)
    assert plan_of(deployed(4), None, spec, artifact).evaluator == f"{ARN}-evaluator:live"
