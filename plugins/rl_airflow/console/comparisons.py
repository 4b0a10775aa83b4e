"""The settings of runs in one flat form, and how runs differ in them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rl_lifecycle.experiment.spec import Spec

#: Settings that say when and how often an experiment runs, and not what is trained.
LEFT_OUT = ("name", "schedule", "replay_schedule")

Scalar = str | int | float | bool | None


def flatten_settings(spec: Spec) -> dict[str, Scalar]:
    """Return the settings of a run as `a.b.c` → value, without its name, its times and its seeds.

    The hyper-parameters are those that were frozen. A list is shown as JSON.
    """
    experiment = spec.experiment.model_dump(mode="json", exclude=set(LEFT_OUT))
    frozen = {
        "hyperparameters": dict(spec.hyperparameters),
        "segment_timesteps": spec.segment_timesteps,
        "shards": spec.shards,
        "commit": spec.commit,
        "image_id": spec.image_id,
        "champion_version": spec.champion.version if spec.champion else None,
    }
    return dict(_flatten(experiment | frozen, ""))


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flatten(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        yield key, json.dumps(value)
    else:
        yield key, value


def find_differences(settings: Sequence[Mapping[str, Scalar]]) -> list[dict[str, Any]]:
    """Find the settings in which runs differ. A run without a setting has null there.

    >>> find_differences([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    [{'key': 'b', 'values': [2, 3]}]
    """
    keys = sorted({key for one in settings for key in one})
    rows = [{"key": key, "values": [one.get(key) for one in settings]} for key in keys]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]
