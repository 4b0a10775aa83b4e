"""How the settings of runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl_lifecycle.reports.run_settings import Scalar


def find_differences(settings: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Any]]:
    """Find the settings in which runs differ. A run without a setting has null there.

    >>> find_differences([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    [{'key': 'b', 'values': [2, 3]}]
    """
    keys = sorted({key for one in settings for key in one})
    rows = [{"key": key, "values": [one.get(key) for one in settings]} for key in keys]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]
