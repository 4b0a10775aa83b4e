"""The learning curves of a run: on the selection seeds, and as the trainer recorded them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from rl_airflow.console.cached_store import Snapshot
from rl_airflow.console.problems import Problems
from rl_airflow.trials.learning_curves import SHARD
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.early_stops import CurvePoint, curve_of
from rl_lifecycle.evaluation.requests import merge_shards
from rl_lifecycle.evaluation.selection import read_selection_name
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import METRICS, class_prefix, evaluations_prefix, trial_of_key
from rl_lifecycle.storage.object_store import ObjectInfo

#: What SB3 calls the mean return of the newest training episodes.
TRAINING_RETURN = "rollout/ep_rew_mean"
#: The points of a trial that a browser gets.
MOST_POINTS = 300
#: The bytes of a run's recorded curves that one page reads, and of each chunk at least.
MOST_CURVE_BYTES, LEAST_CHUNK_BYTES = 8 * 2**20, 8 * 2**10
#: About the size of a point in memory, bytes.
POINT_BYTES = 200


class TrialCurve(NamedTuple):
    """The curve of one trial."""

    trial: str
    points: tuple[CurvePoint, ...]

    @property
    def best(self) -> float:
        """The highest mean return; minus infinity without a point."""
        return max((point.mean for point in self.points), default=-math.inf)


def list_selection_shards(
    view: Snapshot, experiment: str, run: str
) -> dict[str, dict[int, list[ObjectInfo]]]:
    """List the shards of a run's selection episodes: trial → step → shards."""
    prefix = evaluations_prefix(experiment, run)
    found: dict[str, dict[int, list[ObjectInfo]]] = {}
    for item in view.list(prefix):
        name, _, file = item.key.removeprefix(prefix).partition("/")
        if SHARD.fullmatch(file) and (place := read_selection_name(name)):
            found.setdefault(place[0], {}).setdefault(place[1], []).append(item)
    return found


def read_selection(view: Snapshot, spec: Spec, problems: Problems) -> list[TrialCurve]:
    """Read the curve of each trial on the selection seeds, in the order of the spec."""
    shards = list_selection_shards(view, spec.experiment.name, spec.run)
    wanted = [
        (plan.name, step, items)
        for plan in spec.trials
        for step, items in sorted(shards.get(plan.name, {}).items())
    ]
    points = view.together(lambda one: _find_point(view, spec, one[1], one[2]), wanted)
    found: dict[str, list[CurvePoint]] = {plan.name: [] for plan in spec.trials}
    for (trial, _, _), (point, problem) in zip(wanted, points, strict=True):
        problems.add(problem)
        found[trial].extend(point)
    return [TrialCurve(trial, tuple(those)) for trial, those in found.items()]


def _find_point(
    view: Snapshot, spec: Spec, step: int, items: Sequence[ObjectInfo]
) -> tuple[tuple[CurvePoint, ...], str]:
    """Make the point of a policy: none while its evaluation is incomplete, or if it is damaged."""

    def make() -> tuple[tuple[CurvePoint, ...], str]:
        try:
            shard = merge_shards([read_shard(view, item) for item in items])
        except InvalidRecordError as error:
            return (), f"An evaluation is left out of the curves ({error})."
        return curve_of({step: shard}, spec.experiment.evaluation), ""

    marks = " ".join(item.etag for item in items)
    return view.store.derive(f"point {items[0].key}", marks, POINT_BYTES, make)


def best_curve(curves: Iterable[TrialCurve]) -> list[list[float]]:
    """The curve with the highest mean return, as [step, mean]; empty if there is none."""
    best = max(curves, key=lambda curve: curve.best, default=None)
    return [[point.step, point.mean] for point in best.points] if best else []


def band_of(curves: Sequence[TrialCurve]) -> list[list[float]]:
    """The curves of all trials as one band: [step, median, lowest, highest]."""
    means: dict[int, list[float]] = {}
    for curve in curves:
        for point in curve.points:
            means.setdefault(point.step, []).append(point.mean)
    return [
        [step, median(values), min(values), max(values)] for step, values in sorted(means.items())
    ]


def read_training(view: Snapshot, spec: Spec) -> dict[str, list[list[float]]]:
    """Read what the trainer recorded: trial → [step, mean return of its training episodes].

    If a run recorded much, the end of each chunk is read, and not every chunk.
    """
    chunks = _chunks_by_trial(view, spec)
    n_chunks = sum(map(len, chunks.values()))
    every = max(1, math.ceil(n_chunks * LEAST_CHUNK_BYTES / MOST_CURVE_BYTES))
    chosen = {trial: those[::-1][::every][::-1] for trial, those in chunks.items()}
    n_bytes = MOST_CURVE_BYTES // max(1, sum(map(len, chosen.values())))
    wanted = [(trial, item) for trial, items in chosen.items() for item in items]
    read = view.together(lambda one: _read_chunk(view, one[1], n_bytes), wanted)
    found: dict[str, list[list[float]]] = {plan.name: [] for plan in spec.trials}
    for (trial, _), points in zip(wanted, read, strict=True):
        found[trial].extend(points)
    return {trial: thin(sorted(points)) for trial, points in found.items()}


def _chunks_by_trial(view: Snapshot, spec: Spec) -> dict[str, list[ObjectInfo]]:
    found: dict[str, list[ObjectInfo]] = {plan.name: [] for plan in spec.trials}
    for item in view.list(class_prefix(METRICS, spec.experiment.name, spec.run)):
        if item.key.endswith(".jsonl") and item.n_bytes:
            trial = trial_of_key(item.key, METRICS).trial
            if trial in found:
                found[trial].append(item)
    return found


def _read_chunk(view: Snapshot, item: ObjectInfo, n_bytes: int) -> list[list[float]]:
    def make() -> list[list[float]]:
        offset = max(0, item.n_bytes - n_bytes)
        lines = view.store.read_from(item.key, offset).decode(errors="replace").splitlines()
        points = [point for line in lines[bool(offset) :] if (point := _read_point(line))]
        return thin(points)

    size = MOST_POINTS * POINT_BYTES
    mark = f"{item.etag} {min(n_bytes, item.n_bytes)}"
    return view.store.derive(f"chunk {item.key}", mark, size, make)


def _read_point(line: str) -> list[float] | None:
    """Read a line of a chunk. :return: None if it has no mean return."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, Mapping):
        return None
    point: list[Any] = [record.get("step"), record.get(TRAINING_RETURN)]
    return point if all(map(_is_number, point)) else None


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that JSON can hold."""
    return type(value) in (int, float) and math.isfinite(value)


def thin(points: Sequence[list[float]], most: int = MOST_POINTS) -> list[list[float]]:
    """Leave out points evenly, so that at most so many stay. The last one stays.

    >>> thin([[step, 0] for step in range(7)], 3)
    [[0, 0], [3, 0], [6, 0]]
    """
    every = max(1, math.ceil(len(points) / most))
    return list(points[::-1][::every][::-1])
