"""A policy arrived in the bucket: evaluate it at once on the run's selection seeds.

The event is delivered at least once and may be late; the shard is written once, so nothing changes
the second time.
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
    """Read the key of a policy record off an EventBridge event of S3.
    :return: None if the event is of anything else.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html

    >>> key_of_event({"detail-type": "Object Created", "detail": {"object": {"key": "policies/a/b/seed-0/000000000008.json"}}})
    'policies/a/b/seed-0/000000000008.json'
    """
    if event.get("detail-type") != OBJECT_CREATED:
        return None
    detail = event.get("detail")
    key = str(detail.get("object", {}).get("key", "")) if isinstance(detail, Mapping) else ""
    return (
        key if key.startswith(POLICIES) and key.endswith(".json") and key.count("/") == 4 else None
    )


def answer_arrival(
    key: str, store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Evaluate the policy that a record speaks of.

    :raises InvalidRequestError: if the record lies at another trial's place, or is not of the run's
        frozen spec.
    """
    record = PolicyRecord.from_json(get(store, key).data, f"{store.uri}/{key}")
    trial = trial_of_key(key, POLICIES)
    if (record.experiment, record.run, record.trial) != trial or key != policy_key(
        trial, record.step, "json"
    ):
        raise InvalidRequestError(
            f"{key}: speaks of {record.experiment}/{record.run}/{record.trial} at step "
            f"{record.step}"
        )
    spec = Spec.from_json(
        get(store, spec_key(record.experiment, record.run), record.spec_sha256).data, "spec"
    )
    return answer_evaluate(selection_request(record, spec), store, remaining_s)


def selection_request(record: PolicyRecord, spec: Spec) -> EvaluateRequest:
    """What to evaluate when a policy arrives: the run's environment, on the run's selection
    seeds.
    """
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
