"""Answer an evaluation request from the stored shard.

The player's own answer is not trusted. A repeated request gets the same answer, because the shard
never changes.
"""

from typing import Any

from rl_evaluator.errors import InvalidRequestError
from rl_lifecycle.evaluation.requests import EvaluateRequest, Shard


def answer_from_shard(shard: Shard, request: EvaluateRequest, key: str) -> dict[str, Any]:
    """Describe a stored shard.

    :return: `key`, `n_episodes`, `done`, `steps_per_s` and `complete`. `n_episodes` and `done` are
        the number of stored episodes. It can be more than requested, if a longer shard was stored
        before. If the shard is not complete, `rest` has the missing seeds as `first_seed` and
        `n_episodes`.
    :raises InvalidRequestError: if the key holds a shard of another request.
    """
    _check_same(shard, request, key)
    done = len(shard.returns)
    answer: dict[str, Any] = {
        "key": key,
        "n_episodes": done,
        "complete": done >= request.n_episodes,
        "done": done,
        "steps_per_s": round(shard.steps / shard.seconds, 1) if shard.seconds else None,
    }
    if done < request.n_episodes:
        answer["rest"] = {
            "first_seed": request.first_seed + done,
            "n_episodes": request.n_episodes - done,
        }
    return answer


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
    if not shard.returns:
        raise InvalidRequestError(f"{key} holds no episode; use another name or shard number")
