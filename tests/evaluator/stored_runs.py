"""Store artifacts, specs, policies and shards as the other parts of the pipeline would."""

from datetime import UTC, datetime
from typing import Any

from rl_evaluator.playing.policies import load_policy
from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Champion, Spec, freeze_spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import (
    TrialId,
    artifact_key,
    checkpoint_key,
    policy_key,
    shard_key,
    spec_key,
)
from rl_lifecycle.storage.object_store import ObjectStore


def store_artifact(store: ObjectStore, name: str, data: bytes) -> Artifact:
    """Store bytes under their digest."""
    key = artifact_key(sha256_hex(data), name)
    store.put(key, data)
    return Artifact(key=key, sha256=sha256_hex(data))


def store_spec(
    store: ObjectStore, champion: Champion | None = None, **changes: Any
) -> tuple[Spec, Artifact]:
    """Freeze and store a run of CartPole."""
    evaluation = {
        "return_range": [0, 500],
        "crash_below": 100,
        "max_pairs": 80,
        "selection_episodes": 6,
        **changes.pop("evaluation", {}),
    }
    gate = {
        "crash_margin": 0.1,
        **changes.pop("gate", {}),
    }  # wide, so that few pairs are enough to promote
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 1000,
        "evaluation": evaluation,
        "gate": gate,
        **changes,
    }
    spec = freeze_spec(
        read_experiment(document, "cartpole"),
        run_id="night-1",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        champion=champion,
    )
    key = spec_key("cartpole", spec.run)
    store.put(key, spec.to_json())
    return spec, Artifact(key=key, sha256=spec.sha256)


def store_policy(
    store: ObjectStore, spec: Spec, data: bytes, step: int = 512, trial: str = "seed-0"
) -> str:
    """Store a policy with its record, as a trainer does. :return: the record's key."""
    place = TrialId(spec.experiment.name, spec.run, trial)
    key = policy_key(place, step, "onnx")
    store.put(key, data)
    policy, none = Artifact(key=key, sha256=sha256_hex(data)), "0" * 64
    metadata = load_policy(data).metadata
    record = PolicyRecord(
        experiment=place.experiment,
        run=place.run,
        trial=trial,
        attempt=1,
        step=step,
        final=True,
        spec_sha256=spec.sha256,
        digest=metadata.digest,
        policy=policy,
        parameters=Artifact(key=policy_key(place, step, "safetensors"), sha256=none),
        manifest=Artifact(key=checkpoint_key(place, step, 1, "manifest.json"), sha256=none),
        metadata=metadata,
    )
    store.put(policy_key(place, step, "json"), record.to_json())
    return policy_key(place, step, "json")


def store_shard(
    store: ObjectStore,
    spec: Spec,
    name: str,
    returns: list[float | None],
    *,
    shard: int = 0,
    first: int = 0,
    sha256: str = "a" * 64,
    digest: str = "d" * 64,
    **changes: Any,
) -> Shard:
    """Store a shard of made-up returns on the gate's seeds."""
    made = Shard(
        env_id=spec.experiment.env_id,
        policy_sha256=sha256,
        policy_digest=digest,
        first_seed=spec.gate_first_seed + first,
        returns=tuple(returns),
        lengths=tuple(1 for _ in returns),
        ends=tuple(
            EpisodeEnd.LOST if value is None else EpisodeEnd.TERMINATED for value in returns
        ),
        steps=len(returns),
        seconds=1.0,
    ).model_copy(update=changes)
    store.put(shard_key(spec.experiment.name, spec.run, name, shard), made.to_json())
    return made
