"""Play the episodes of one shard, and write it once.

If the Lambda's time ends first, the shard is written with the episodes that have ended. Their seeds
are consecutive and begin with the first seed. The caller requests the missing seeds under
**another shard number**. So each key is written once and never changes. In any order of arrival,
:func:`rl_lifecycle.evaluation.requests.merge_shards` refuses gaps and contradictions.
"""

import time
from collections.abc import Callable
from typing import Any

from rl_evaluator.errors import EpisodeTooLongError
from rl_evaluator.playing.evaluation import Task, evaluate
from rl_evaluator.playing.policies import load_policy
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.evaluation.requests import EvaluateRequest, Shard
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once

#: Seconds that are kept to write the shard before the Lambda is stopped.
RESERVE_S = 10.0


def write_shard(
    request: EvaluateRequest, store: ObjectStore, remaining_s: Callable[[], float], label: str = ""
) -> dict[str, Any]:
    """Play the episodes of one shard, and write it unless it exists.

    :param remaining_s: returns the seconds until this process is stopped.
    :param label: names this version of the evaluator in the shard.
    :return: `written`: False if another shard was written meanwhile.
    :raises EpisodeTooLongError: if time ran out before the first seed's episode ended. Nothing is
        written then.
    """
    shard = _play(request, store, remaining_s)
    if label:
        shard = shard.with_versions({**shard.versions, "evaluator": label})
    key = shard_key(request.experiment, request.run, request.name, request.shard)
    return {"written": put_once(store, key, shard.to_json())}


def _play(request: EvaluateRequest, store: ObjectStore, remaining_s: Callable[[], float]) -> Shard:
    started = time.monotonic()
    use_wheels(store, request.requirements)
    policy = load_policy(
        get(store, request.policy.key, request.policy.sha256).data, request.policy.key
    )
    task = Task(
        request.env_id,
        request.env_kwargs,
        request.first_seed,
        request.n_episodes,
        request.deterministic,
        request.perturbation,
    )
    shard = evaluate(policy, task, keep_going=lambda: remaining_s() > RESERVE_S)
    if not shard.returns:
        raise EpisodeTooLongError(request.env_id, time.monotonic() - started)
    return shard
