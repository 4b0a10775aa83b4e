"""A person can evaluate a stored version through a form."""

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.evaluation import policy_evaluation_operator
from rl_airflow.evaluation.policy_evaluation_operator import LambdaEvaluatePolicyOperator
from tests.plugins.registry.test_champions import Service


class _Place:
    environment, bucket, evaluator, topic_arn = "dev", "b", "evaluator:live", None
    launch_template_id, launch_template_version, image_id, trainer_wheels = (
        "lt-0123456789abcdef0",
        "7",
        "ami-1",
        None,
    )
    subnet_ids, evaluator_memory_mib = {"zone": "subnet"}, 1769.0


def evaluate(monkeypatch: pytest.MonkeyPatch, service: Service, **params: Any) -> dict[str, Any]:
    """Run the form's task."""
    monkeypatch.setattr(
        policy_evaluation_operator, "find_environment", lambda environment, region: _Place()
    )
    service.params |= {"first_seed": 5000, "n_episodes": 60, **params}
    task = LambdaEvaluatePolicyOperator(task_id="evaluate")
    monkeypatch.setattr(task, "_store", lambda plan: service.world.store)
    monkeypatch.setattr(task, "_evaluator", lambda plan: service.aws.evaluator())
    return task.execute(service.context("evaluate_policy") | {"run_id": "manual-1"})


@pytest.mark.parametrize(("version", "played"), [(None, 2), (1, 1), (1.0, 1)])
def test_the_forms_version_is_played_or_the_champion(
    monkeypatch: pytest.MonkeyPatch, version: Any, played: int
) -> None:
    """The form's seeds are played in shards; version 1.0 is the integer 1, as in JSON Schema."""
    service = Service(monkeypatch)
    service.promote(service.night("n1"))
    service.promote(service.night("n2"))
    done = evaluate(monkeypatch, service, version=version)
    assert (done["version"], done["n_episodes"]) == (played, 60)
    assert {event.policy.key for event in service.aws.events} == {
        f"registry/cartpole_ppo/versions/00000{played}/policy.onnx"
    }
    assert sorted((event.first_seed, event.n_episodes) for event in service.aws.events) == [
        (5000, 50),
        (5050, 10),
    ]


@pytest.mark.parametrize(
    ("version", "message"),
    [(7, "versions/000007/manifest.json does not exist"), (None, "has no champion yet")],
)
def test_a_missing_version_is_named(
    monkeypatch: pytest.MonkeyPatch, version: int | None, message: str
) -> None:
    """The error is one line, and nothing is played."""
    service = Service(monkeypatch)
    with pytest.raises(AirflowFailException, match=message):
        evaluate(monkeypatch, service, version=version)
    assert service.aws.events == []
