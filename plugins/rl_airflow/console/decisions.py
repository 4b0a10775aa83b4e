"""The decisions of an experiment's runs, in words for a person."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from rl_airflow.console.cached_store import Snapshot
from rl_lifecycle.errors import MissingObjectError
from rl_lifecycle.evaluation.decision_reports import MEANINGS, Report
from rl_lifecycle.evaluation.verdicts import Decision, Look
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import (
    is_report_key,
    page_of_report,
    report_page_key,
    run_and_name_of_report,
)
from rl_lifecycle.storage.object_store import ObjectInfo

#: What a decision means if the candidate was judged by a bar, so without a champion.
MEANINGS_FOR_BAR = {
    **MEANINGS,
    Decision.KEEP: "the candidate does not go into service",
    Decision.INCONCLUSIVE: "nothing was shown, so the candidate does not go into service",
}


class DecidedRun(NamedTuple):
    """A decision of a run.

    :param name: the name of the candidate's evaluation.
    """

    run: str
    name: str
    key: str
    at: datetime
    report: Report


def newest_report(items: Iterable[ObjectInfo]) -> ObjectInfo | None:
    """Find the newest report of a listing. A run that was cleared may have several."""
    reports = [item for item in items if is_report_key(item.key)]
    return max(reports, key=lambda item: (item.modified_at, item.key), default=None)


def newest_reports(items: Iterable[ObjectInfo]) -> dict[str, ObjectInfo]:
    """Find the newest report of each run in a listing."""
    by_run: dict[str, list[ObjectInfo]] = {}
    for item in items:
        by_run.setdefault(run_and_name_of_report(item.key)[0], []).append(item)
    found = {run: newest_report(those) for run, those in by_run.items()}
    return {run: item for run, item in found.items() if item is not None}


def read_judged(view: Snapshot, item: ObjectInfo) -> DecidedRun:
    """Read a report that a listing shows."""
    run, name = run_and_name_of_report(item.key)
    report = view.store.derive(
        f"report {item.key}", item.etag, 4 * item.n_bytes, lambda: _read_report(view, item)
    )
    return DecidedRun(run, name, item.key, item.modified_at, report)


def _read_report(view: Snapshot, item: ObjectInfo) -> Report:
    found = view.store.find_listed(item)
    if found is None:
        raise MissingObjectError(f"{view.uri}/{item.key}")
    return Report.from_json(found.data, f"{view.uri}/{item.key}")


def find_page(view: Snapshot, judged: DecidedRun) -> str | None:
    """Find the key of the HTML page of a report; None if it has none."""
    keys = (
        report_page_key(judged.report.experiment, judged.run, judged.name),
        page_of_report(judged.key),
    )
    return next((key for key in keys for item in view.list(key) if item.key == key), None)


def describe_decision(judged: DecidedRun, spec: Spec | None, *, has_page: bool) -> dict[str, Any]:
    """Describe a decision as the pages show it.

    :param spec: the run's spec, which has Airflow's id of the run; None if it cannot be read.
    """
    report, verdict = judged.report, judged.report.verdict
    against_bar = report.champion_sha256 is None
    return {
        "run_id": spec.run_id if spec else judged.run,
        "at": judged.at.isoformat(),
        "decision": verdict.decision.value,
        "words": explain(report, asks=spec is not None and spec.experiment.approval),
        "n_pairs": verdict.n_pairs,
        "mean_candidate": verdict.mean_candidate,
        "mean_champion": None if against_bar else verdict.mean_champion,
        "against_bar": against_bar,
        "bar": _bar_of(report) if against_bar else None,
        "looks": [
            {
                "n": look.n,
                "p": look.p_better,
                "threshold": look.alpha,
                "words": explain_look(look, against_bar=against_bar),
            }
            for look in verdict.looks
        ],
        "has_page": has_page,
    }


def explain(report: Report, *, asks: bool) -> str:
    """Explain a decision in one sentence: what it means for service, and the evidence.

    :param asks: a person must approve before a candidate goes into service.
    """
    verdict = report.verdict
    meanings = MEANINGS_FOR_BAR if report.champion_sha256 is None else MEANINGS
    meaning = meanings[verdict.decision]
    if asks and verdict.decision is Decision.PROMOTE:
        meaning = "the candidate goes into service if a person approves"
    return f"{meaning[0].upper()}{meaning[1:]}: {verdict.reason}."


def explain_look(look: Look, *, against_bar: bool) -> str:
    """Explain one look: the difference, how likely chance would show it, and the crashes."""
    other, unit = ("the bar", "episodes") if against_bar else ("the champion", "pairs")
    size = abs(look.mean_difference)
    side = (
        f"{size:.4g} {'above' if look.mean_difference > 0 else 'below'}" if size else "as high as"
    )
    enough = "enough" if look.p_better <= look.alpha else "not enough"
    crashes = f"it crashed {look.crashes_candidate} times"
    if not against_bar:
        crashes += f", the champion {look.crashes_champion} times"
    return (
        f"After {look.n:,} {unit} the candidate's mean return is "
        f"{side} {other}; a candidate that is no better would look "
        f"this good with a probability of at most {look.p_better:.2g}, which is {enough} "
        f"for this look (at most {look.alpha:.2g}); {crashes}."
    )


def _bar_of(report: Report) -> float:
    return report.gate.return_range[0] if report.bar is None else report.bar
