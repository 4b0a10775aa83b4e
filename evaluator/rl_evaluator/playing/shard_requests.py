"""Answer an EvaluateRequest: run its episodes, write the shard once, name the missing seeds.

If the Lambda's time ends first, the shard is written with the episodes that have ended. Their seeds
are consecutive and begin with the first seed. The answer names the missing seeds as one range. The
caller requests these seeds under **another shard number**. So each key is written once and never
changes. The answer is made from the stored shard, so a repeated request gets the same answer. In
any order of arrival, :func:`rl_lifecycle.evaluation.requests.merge_shards` refuses gaps and
contradictions.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rl_evaluator.errors import EpisodeTooLongError, InvalidRequestError
from rl_evaluator.playing.evaluation import Task, evaluate
from rl_evaluator.playing.policies import load_policy
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.evaluation.requests import EvaluateRequest, Shard
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once

#: Seconds that are kept to write the shard before the Lambda is stopped.
RESERVE_S = 10.0


def answer_evaluate(
    request: EvaluateRequest, store: ObjectStore, remaining_s: Callable[[], float]
) -> dict[str, Any]:
    """Evaluate one shard unless it is stored already.

    :param remaining_s: returns the seconds until this process is stopped.
    :return: `key`, `n_episodes`, `done`, `steps_per_s` and `complete`. `n_episodes` and `done` are
        the number of stored episodes. It can be more than requested, if a longer shard was stored
        before. If the shard is not complete, `rest` has the missing seeds as `first_seed` and
        `n_episodes`.
    :raises EpisodeTooLongError: if time ran out before the first seed's episode ended. Nothing is
        written then.
    :raises InvalidRequestError: if the key holds a shard of another request.
    """
    key = shard_key(request.experiment, request.run, request.name, request.shard)
    stored = _find_shard(store, key)
    if stored is None:
        shard = _run(request, store, remaining_s)
        stored = shard if put_once(store, key, shard.to_json()) else _find_shard(store, key)
    if stored is None:
        raise InvalidRequestError(f"{key} was deleted while it was written; request it again")
    _check_same(stored, request, key)
    return _answer(stored, request, key)


def _run(request: EvaluateRequest, store: ObjectStore, remaining_s: Callable[[], float]) -> Shard:
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


def _find_shard(store: ObjectStore, key: str) -> Shard | None:
    found = store.find(key)
    return None if found is None else Shard.from_json(found.data, f"{store.uri}/{key}")


def _check_same(shard: Shard, request: EvaluateRequest, key: str) -> None:
    stored = (
        shard.policy_sha256,
        shard.env_id,
        shard.env_kwargs,
        shard.perturbation,
        shard.deterministic,
        shard.first_seed,
    )
    asked = (
        request.policy.sha256,
        request.env_id,
        request.env_kwargs,
        request.perturbation,
        request.deterministic,
        request.first_seed,
    )
    if stored != asked:
        raise InvalidRequestError(
            f"{key} holds episodes of another policy, environment or seed range; "
            "use another name or shard number"
        )


def _answer(shard: Shard, request: EvaluateRequest, key: str) -> dict[str, Any]:
    done = len(shard.returns)
    answer: dict[str, Any] = {
        "key": key,
        "n_episodes": done,
        "complete": done >= request.n_episodes,
        "done": done,
        "steps_per_s": round(shard.steps / shard.seconds, 1) if shard.seconds else None,
    }
    if done < request.n_episodes:
        rest: Mapping[str, int] = {
            "first_seed": request.first_seed + done,
            "n_episodes": request.n_episodes - done,
        }
        answer["rest"] = rest
    return answer
