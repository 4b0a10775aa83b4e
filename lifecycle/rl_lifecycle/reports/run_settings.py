"""The settings of a run in one flat form."""

import json
from collections.abc import Iterator, Mapping
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
