"""Decide what the player may read and write for a request, and with whom it shares a process.

A record that a trainer wrote names the policy to play. Without these checks it could name a key of
another experiment, and the dispatcher would sign an address for it.
"""

from collections.abc import Sequence

from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.messages import Played
from rl_lifecycle.evaluation.requests import CheckEnvironmentRequest
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.names import slug
from rl_lifecycle.records.record import canonical_json, sha256_hex
from rl_lifecycle.storage.layout import (
    ARTIFACTS,
    POLICIES,
    REGISTRY,
    artifact_key,
    registry_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get


def keys_to_read(asked: Played, store: ObjectStore) -> list[str]:
    """List the keys that the player needs: the policy, and each wheel.

    :raises InvalidRequestError: if a key is none of a policy or of an artifact.
    """
    keys = [key for wheel in asked.requirements for key in _wheel_keys(wheel, store)]
    if not isinstance(asked, CheckEnvironmentRequest):
        keys.append(_policy_key(asked.policy, asked.experiment))
    return list(dict.fromkeys(keys))


def tenant_of(experiment: str, requirements: Sequence[Artifact]) -> str:
    """Name the tenant of the player: an experiment with its set of wheels.

    Lambda uses an execution environment for one tenant only. So a process that a wheel leaves
    behind sees no request of another experiment, and none of the same experiment with other wheels.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html

    >>> tenant_of("cartpole", ())
    'cartpole-912e42374a32c0eac90f9fe4'
    """
    wheels = sorted(wheel.sha256 for wheel in requirements)
    digest = sha256_hex(canonical_json([experiment, wheels]))
    return f"{slug(experiment)[:60] if experiment else 'none'}-{digest[:24]}"


def _wheel_keys(wheel: Artifact, store: ObjectStore) -> list[str]:
    if not wheel.key.startswith(ARTIFACTS):
        raise InvalidRequestError(f"{wheel.key} is no wheel: wheels are below {ARTIFACTS}")
    if not wheel.key.endswith(".json"):
        return [wheel.key]
    found = WheelSet.from_json(get(store, wheel.key, wheel.sha256).data, wheel.key)
    return [wheel.key, *(artifact_key(sha256, name) for name, sha256 in found.wheels.items())]


def _policy_key(policy: Artifact, experiment: str) -> str:
    """Check the key of a policy.

    A policy is below policies/, in a version of the registry, or an artifact that was uploaded.
    """
    own = (f"{POLICIES}{experiment}/", registry_prefix(experiment)) if experiment else ()
    allowed = (*own, ARTIFACTS) if own else (POLICIES, REGISTRY, ARTIFACTS)
    if not policy.key.startswith(allowed):
        raise InvalidRequestError(
            f"{policy.key} is no policy of {experiment or 'an experiment'}: "
            f"its policies are below {', '.join(allowed)}"
        )
    return policy.key
