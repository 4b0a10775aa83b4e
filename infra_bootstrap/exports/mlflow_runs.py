"""Write a run to MLflow: one run of MLflow for the run, and one below it for each trial.

An export adds only what the server lacks. So it can be repeated while the run trains, and after it
was cut off.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple, TypeVar

from infra_bootstrap.exports.run_contents import (
    JudgedReport,
    LoggedValues,
    RunContents,
    names_of,
)
from infra_bootstrap.exports.tracking_server import (
    LONGEST_PARAM,
    LONGEST_TAG,
    MOST_METRICS,
    MOST_PARAMS,
    Json,
    TrackingServer,
    as_pairs,
)
from rl_lifecycle.reports.run_settings import flatten_settings
from rl_lifecycle.storage.layout import REPORT_FILE, SPEC_FILE, page_of_report

Item = TypeVar("Item")

#: The tags by which a second export finds the runs of the first one.
RUN_TAG, TRIAL_TAG, DECISION_TAG = "nightshift.run", "nightshift.trial", "nightshift.decision"
NOTE_TAG, PARENT_TAG = "mlflow.note.content", "mlflow.parentRunId"  # MLflow's own
#: Characters that MLflow refuses in names.
FORBIDDEN = re.compile(r"[^\w. /-]", re.ASCII)


class WrittenRun(NamedTuple):
    """What an export wrote.

    :param run_id: MLflow's id of the run.
    :param n_metrics: the values that the server lacked.
    :param problems: what was left out, and why.
    """

    experiment: str
    run_id: str
    n_metrics: int
    problems: list[str]


def export_to_server(contents: RunContents, server: TrackingServer, environment: str) -> WrittenRun:
    """Write a run and its trials to a tracking server."""
    experiment = f"nightshift/{environment}/{contents.experiment}"
    experiment_id = server.ensure_experiment(experiment)
    writer = _Writer(contents, server, experiment_id)
    judged = contents.find_judged()
    parent = writer.write_parent(judged)
    for plan in contents.spec.trials:
        writer.write_trial(plan.name, plan.seed, parent, judged)
    return WrittenRun(experiment, parent, writer.n_metrics, writer.problems)


class _Writer:
    """Writes the runs of one export."""

    def __init__(self, contents: RunContents, server: TrackingServer, experiment_id: str) -> None:
        self._contents, self._server = contents, server
        self._experiment_id = experiment_id
        self._settings = {
            allowed_name(name): str(value)[:LONGEST_PARAM]
            for name, value in flatten_settings(contents.spec).items()
            if value is not None and value != ""
        }
        found = server.search_runs(experiment_id, f"tags.`{RUN_TAG}` = '{contents.source}'")
        self._known = {tags_of(run).get(TRIAL_TAG, ""): run for run in reversed(found)}
        self.n_metrics, self.problems = 0, contents.problems

    def write_parent(self, judged: JudgedReport | None) -> str:
        """Write the run itself, with the decision. :return: MLflow's id of it."""
        run = self._ensure_run("", self._contents.run, {})
        run_id = str(run["info"]["run_id"])
        self._log(run, judged.values() if judged else [], self._settings)
        if judged is not None:
            decision = judged.report.verdict.decision.value
            tags = {DECISION_TAG: decision, NOTE_TAG: judged.text[:LONGEST_TAG]}
            self._server.log_batch(run_id, tags=as_pairs(tags))
        self._store_files(run, judged)
        self._end(run_id, judged)
        return run_id

    def write_trial(self, trial: str, seed: int, parent: str, judged: JudgedReport | None) -> None:
        """Write a trial with its curves."""
        contents = self._contents
        run = self._ensure_run(trial, f"{contents.run} {trial}", {PARENT_TAG: parent})
        points = [*contents.read_training(trial), *contents.read_selection(trial)]
        self._log(run, points, self._settings | {"seed": str(seed)})
        self._end(str(run["info"]["run_id"]), judged)

    def _ensure_run(self, trial: str, name: str, tags: Mapping[str, str]) -> Json:
        if (found := self._known.get(trial)) is not None:
            return found
        own = {RUN_TAG: self._contents.source, **({TRIAL_TAG: trial} if trial else {}), **tags}
        began = _milliseconds(self._contents.spec.created_at)
        return self._server.create_run(self._experiment_id, name, began, own)

    def _log(self, run: Json, points: Sequence[LoggedValues], settings: Mapping[str, str]) -> None:
        """Add the values and settings that a run lacks."""
        run_id, data = str(run["info"]["run_id"]), run.get("data", {})
        there = {str(one["key"]) for one in data.get("params", [])}
        params = as_pairs({key: text for key, text in settings.items() if key not in there})
        for part in batches(params, MOST_PARAMS):
            self._server.log_batch(run_id, params=part)
        logged = {str(one["key"]) for one in data.get("metrics", [])}
        steps = {
            name: self._server.read_steps(run_id, name) if name in logged else set()
            for name in map(allowed_name, names_of(points))
        }
        for part in batches(_metrics_of(points, steps), MOST_METRICS):
            self._server.log_batch(run_id, metrics=part)
            self.n_metrics += len(part)

    def _store_files(self, run: Json, judged: JudgedReport | None) -> None:
        files = {SPEC_FILE: self._contents.spec.to_json()}
        if judged is not None:
            files |= {"decision.txt": judged.text.encode(), REPORT_FILE: judged.data}
            if judged.page is not None:
                files[page_of_report(REPORT_FILE)] = judged.page
        uri = str(run["info"].get("artifact_uri", ""))
        if not all(self._server.put_artifact(uri, name, data) for name, data in files.items()):
            self.problems.append(
                f"{', '.join(files)} were left out, because the server does not store artifacts "
                f"itself (they are at {uri}): start it with --artifacts-destination"
            )

    def _end(self, run_id: str, judged: JudgedReport | None) -> None:
        """End a judged run. Others may still train, so they stay as they began."""
        if judged is not None:
            self._server.end_run(run_id, "FINISHED", _milliseconds(judged.at))


def tags_of(run: Json) -> dict[str, str]:
    """The tags of a run."""
    return {str(one["key"]): str(one["value"]) for one in run.get("data", {}).get("tags", [])}


def _metrics_of(points: Iterable[LoggedValues], steps: Mapping[str, set[int]]) -> Iterator[Json]:
    for point in points:
        for name, value in point.values.items():
            key = allowed_name(name)
            if point.step not in steps[key]:
                yield {
                    "key": key,
                    "value": value,
                    "timestamp": _milliseconds(point.at),
                    "step": point.step,
                }


def allowed_name(name: str) -> str:
    """Replace what MLflow refuses in a name.

    >>> allowed_name("rollout/ep_rew_mean"), allowed_name("loss@head#1")
    ('rollout/ep_rew_mean', 'loss_head_1')
    """
    return FORBIDDEN.sub("_", name)[:250]


def batches(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Cut items into lists of at most so many.

    >>> list(batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while part := list(islice(iterator, most)):
        yield part


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
