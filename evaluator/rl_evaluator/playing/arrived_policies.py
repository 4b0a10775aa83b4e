"""Evaluate a policy on the run's selection seeds as soon as it arrives in the bucket.

S3 delivers each event at least once, and sometimes late. The shard is written only once, so a
second delivery changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.playing.shard_requests import answer_evaluate
from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.evaluation.requests import EvaluateRequest
from rl_lifecycle.evaluation.selection import selection_name
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import POLICIES, policy_key, spec_key, trial_of_key
from rl_lifecycle.storage.object_store import ObjectStore, get

OBJECT_CREATED = "Object Created"


def key_of_event(event: Mapping[str, Any]) -> str | None:
    """Read the key of a policy record from an EventBridge event of S3.

    :return: None if the event does not announce a policy record.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html

    >>> created = {"object": {"key": "policies/a/b/seed-0/000000000008.json"}}
    >>> key_of_event({"detail-type": "Object Created", "detail": created})
    'policies/a/b/seed-0/000000000008.json'
    """
    if event.get("detail-type") != OBJECT_CREATED:
        return None
    detail = event.get("detail")
    key = str(detail.get("object", {}).get("key", "")) if isinstance(detail, Mapping) else ""
    names_a_record = key.startswith(POLICIES) and key.endswith(".json") and key.count("/") == 4
    return key if names_a_record else None


def answer_arrival(
    key: str, store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Evaluate the policy that a record names.

    :param key: the key of the record.
    :param remaining_s: returns the seconds until this process is stopped.
    :raises InvalidRequestError: if the record's key belongs to another trial or step.
    :raises CorruptArtifactError: if the run's spec is not the spec that the record names.
    """
    record = PolicyRecord.from_json(get(store, key).data, f"{store.uri}/{key}")
    trial = trial_of_key(key, POLICIES)
    if (record.experiment, record.run, record.trial) != trial or key != policy_key(
        trial, record.step, "json"
    ):
        raise InvalidRequestError(
            f"{key}: the record belongs to {record.experiment}/{record.run}/{record.trial} at step "
            f"{record.step}; store it under the key of that trial and step"
        )

    spec = Spec.from_json(
        get(store, spec_key(record.experiment, record.run), record.spec_sha256).data, "spec"
    )
    return answer_evaluate(selection_request(record, spec), store, remaining_s)


def selection_request(record: PolicyRecord, spec: Spec) -> EvaluateRequest:
    """Build the request that plays a policy on the run's selection seeds."""
    experiment = spec.experiment
    return EvaluateRequest(
        experiment=record.experiment,
        run=record.run,
        name=selection_name(record.trial, record.step),
        shard=0,
        policy=record.policy,
        env_id=experiment.env_id,
        env_kwargs=experiment.env_kwargs,
        requirements=spec.requirements,
        first_seed=spec.selection_first_seed,
        n_episodes=experiment.evaluation.selection_episodes,
        deterministic=experiment.evaluation.deterministic,
    )
