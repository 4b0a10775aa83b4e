"""Read the event of a policy that arrived, and request its run's selection seeds.

S3 delivers each event at least once, and sometimes late. The shard is written only once, so a
second delivery changes nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rl_evaluator.errors import InvalidRequestError
from rl_lifecycle.evaluation.policies import PolicyRecord, find_misplacement
from rl_lifecycle.evaluation.requests import EvaluateRequest
from rl_lifecycle.evaluation.selection import selection_name
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import POLICIES, spec_key
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


class Arrival(NamedTuple):
    """A policy that arrived: the request to play it, and the run's spec."""

    request: EvaluateRequest
    spec: Spec


def read_arrival(key: str, store: ObjectStore) -> Arrival:
    """Read the record of a policy, and its run's spec.

    :param key: the key of the record.
    :raises InvalidRequestError: if the record's key belongs to another trial or step.
    :raises CorruptArtifactError: if the run's spec is not the spec that the record names.
    """
    record = PolicyRecord.from_json(get(store, key).data, f"{store.uri}/{key}")
    if problem := find_misplacement(record, key):
        raise InvalidRequestError(f"{key}: {problem}")
    spec = Spec.from_json(
        get(store, spec_key(record.experiment, record.run), record.spec_sha256).data, "spec"
    )
    return Arrival(selection_request(record, spec), spec)


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
        wait=False,
    )
