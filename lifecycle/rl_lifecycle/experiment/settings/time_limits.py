"""The time limit of an environment, which Gymnasium takes only as a whole number."""

from collections.abc import Mapping
from typing import Any

KEY = "max_episode_steps"


def with_whole_limit(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write a whole time limit as a whole number, because `1e3` is a float in YAML.

    Source: https://gymnasium.farama.org/api/wrappers/misc_wrappers/#gymnasium.wrappers.TimeLimit

    >>> with_whole_limit({"max_episode_steps": 1e3, "gravity": 2.0})
    {'max_episode_steps': 1000, 'gravity': 2.0}
    """
    limit = arguments.get(KEY)
    if isinstance(limit, float) and limit.is_integer():
        return {**arguments, KEY: int(limit)}
    return dict(arguments)
