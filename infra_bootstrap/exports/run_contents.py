"""Read what is exported of a run: its spec, the curves of its trials, and its decision."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from infra_bootstrap.errors import BadInputError
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.decision_reports import Report, summarise_report
from rl_lifecycle.evaluation.early_stops import curve_of
from rl_lifecycle.evaluation.requests import Shard, merge_shards
from rl_lifecycle.evaluation.selection import read_selection_name
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.records.names import is_slug, slug
from rl_lifecycle.storage.layout import (
    METRICS,
    SPECS,
    class_prefix,
    evaluations_prefix,
    experiment_of_spec_key,
    is_report_key,
    is_spec_key,
    page_of_report,
    run_of_spec_key,
    spec_key,
    trial_of_key,
    verdicts_prefix,
)
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, get

Item = TypeVar("Item")
Read = TypeVar("Read")

SHARD = re.compile(r"shards/\d+\.json")
#: The values on the selection seeds. The other values have the names that SB3 gave them.
SELECTION_MEAN, SELECTION_ERROR = "selection/return_mean", "selection/return_standard_error"
THREADS = 8


class LoggedValues(NamedTuple):
    """Values at one step of a trial.

    :param at: when the bucket got them.
    """

    step: int
    at: datetime
    values: dict[str, float]


class JudgedReport(NamedTuple):
    """The newest decision of a run.

    :param page: the page with the films; None if there is none.
    """

    report: Report
    at: datetime
    data: bytes
    page: bytes | None

    @property
    def text(self) -> str:
        """The decision in words, as lines."""
        return summarise_report(self.report)

    def values(self) -> list[LoggedValues]:
        """The evidence at each look, and at the end. The step is the number of pairs."""
        verdict = self.report.verdict
        looks = [
            LoggedValues(
                look.n,
                self.at,
                {
                    "gate/mean_difference": look.mean_difference,
                    "gate/p_better": look.p_better,
                    "gate/p_limit": look.alpha,
                    "gate/crashes_candidate": float(look.crashes_candidate),
                },
            )
            for look in verdict.looks
        ]
        last = {"gate/mean_candidate": verdict.mean_candidate}
        if self.report.champion_sha256 is not None:
            last["gate/mean_champion"] = verdict.mean_champion
        return [*looks, LoggedValues(verdict.n_pairs, self.at, _finite(last))]


class RunContents:
    """A run in a bucket.

    `source` names the run in other tools. `problems` says what was left out, and why.
    """

    def __init__(self, store: ObjectStore, spec: Spec) -> None:
        self.store, self.spec = store, spec
        self.experiment, self.run = spec.experiment.name, spec.run
        self.source = f"{store.uri}/{self.experiment}/{self.run}"
        self.problems: list[str] = []
        self._evaluations = list(store.list(evaluations_prefix(self.experiment, self.run)))
        self._metrics = list(store.list(class_prefix(METRICS, self.experiment, self.run)))

    def metric_files(self, trial: str, has_name: Callable[[str], bool]) -> list[ObjectInfo]:
        """List the files that a trial's trainer wrote, in the order of their steps."""
        place = self.spec.trial_id(trial)
        return [
            item
            for item in self._metrics
            if trial_of_key(item.key, METRICS) == place and has_name(item.key.rpartition("/")[2])
        ]

    def read_training(self, trial: str) -> list[LoggedValues]:
        """Read what the trainer of a trial recorded."""
        items = self.metric_files(trial, lambda name: name.endswith(".jsonl"))
        data = _together(lambda item: get(self.store, item.key).data, items)
        return [
            point
            for item, lines in zip(items, data, strict=True)
            for line in lines.decode(errors="replace").splitlines()
            if (point := read_line(line, item.modified_at)) is not None
        ]

    def read_selection(self, trial: str) -> list[LoggedValues]:
        """Read the curve of a trial on the selection seeds. Incomplete evaluations are left out."""
        shards: dict[int, list[ObjectInfo]] = {}
        prefix = evaluations_prefix(self.experiment, self.run)
        for item in self._evaluations:
            name, _, file = item.key.removeprefix(prefix).partition("/")
            place = read_selection_name(name)
            if place is not None and place[0] == trial and SHARD.fullmatch(file):
                shards.setdefault(place[1], []).append(item)
        read = dict(
            zip(shards, _together(self._find_evaluation, list(shards.values())), strict=True)
        )
        whole = {step: shard for step, shard in read.items() if shard is not None}
        curve = curve_of(whole, self.spec.experiment.evaluation)
        return [
            LoggedValues(
                point.step,
                max(item.modified_at for item in shards[point.step]),
                {SELECTION_MEAN: point.mean, SELECTION_ERROR: point.error},
            )
            for point in curve
        ]

    def _find_evaluation(self, items: list[ObjectInfo]) -> Shard | None:
        try:
            return merge_shards([read_shard(self.store, item) for item in items])
        except InvalidRecordError as error:
            self.problems.append(f"an evaluation was left out: {error}")
            return None

    def find_judged(self) -> JudgedReport | None:
        """Find the newest decision; None if the run is not judged."""
        verdicts = list(self.store.list(verdicts_prefix(self.experiment, self.run)))
        reports = [item for item in (*verdicts, *self._evaluations) if is_report_key(item.key)]
        item = max(reports, key=lambda one: (one.modified_at, one.key), default=None)
        if item is None:
            return None
        data, page = get(self.store, item.key).data, self.store.find(page_of_report(item.key))
        report = Report.from_json(data, f"{self.store.uri}/{item.key}")
        return JudgedReport(report, item.modified_at, data, page.data if page else None)


def find_spec(store: ObjectStore, given: str, experiment: str | None) -> Spec:
    """Find a run.

    :param given: Airflow's run id, or the run's name in the bucket.
    :param experiment: the name of its experiment. It is needed if several have such a run.
    :raises BadInputError: if there is no such run, or several.
    """
    run = slug(given)
    if experiment is not None and not is_slug(experiment):
        raise BadInputError(f"--experiment {experiment}: this is no experiment's name")
    if experiment is None or (found := store.find(spec_key(experiment, run))) is None:
        experiment = _find_experiment(store, given, run, experiment)
        found = get(store, spec_key(experiment, run))
    return Spec.from_json(found.data, f"{store.uri}/{spec_key(experiment, run)}")


def _find_experiment(store: ObjectStore, given: str, run: str, experiment: str | None) -> str:
    keys = [item.key for item in store.list(SPECS) if is_spec_key(item.key)]
    homes = [experiment_of_spec_key(key) for key in keys if run_of_spec_key(key) == run]
    if not homes:
        near = get_close_matches(run, sorted({run_of_spec_key(key) for key in keys}), n=3)
        advice = f"did you mean {' or '.join(near)}?" if near else "copy its name from the console"
        raise BadInputError(f"{store.uri} has no run {given}: {advice}")
    if experiment is not None:
        raise BadInputError(
            f"the run {given} is not of {experiment}: use --experiment {' or '.join(homes)}"
        )
    if len(homes) > 1:
        raise BadInputError(
            f"{len(homes)} experiments have a run {given}: add --experiment {' or '.join(homes)}"
        )
    return homes[0]


def read_line(line: str, at: datetime) -> LoggedValues | None:
    """Read a line that a trainer recorded; None if it is not one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, Mapping) or type(record.get("step")) is not int:
        return None
    return LoggedValues(record["step"], at, _finite(record))


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers that every tool can store."""
    return {
        name: float(value)
        for name, value in values.items()
        if name != "step" and type(value) in (int, float) and math.isfinite(value)
    }


def _together(read: Callable[[Item], Read], items: Sequence[Item]) -> list[Read]:
    """Read several objects at the same time, and keep their order."""
    with ThreadPoolExecutor(THREADS, "export") as pool:
        return list(pool.map(read, items))


def names_of(points: Iterable[LoggedValues]) -> list[str]:
    """The names of all values of a curve, sorted."""
    return sorted({name for point in points for name in point.values})
