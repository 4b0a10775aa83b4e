"""The page of an experiment: its champions, its runs, the curves of its nights, and the costs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from rl_airflow.console.airflow_facts import AirflowRun, DagFacts
from rl_airflow.console.cached_store import Snapshot
from rl_airflow.console.curves import band_of, list_selection_shards, read_selection
from rl_airflow.console.decisions import DecidedRun, newest_reports, read_judged
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.console.problems import Problems
from rl_airflow.console.registry_view import (
    describe_champion,
    describe_version,
    read_champion,
    read_moves,
    read_reports,
    read_versions,
)
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.registry.contents import HistoryEntry, VersionManifest
from rl_lifecycle.storage.layout import (
    EVALUATIONS,
    VERDICTS,
    class_prefix,
    is_report_key,
    is_spec_key,
    ledger_prefix,
    registry_prefix,
    run_of_spec_key,
    spec_key,
    spec_prefix,
)
from rl_lifecycle.storage.object_store import ObjectInfo

#: The runs of the list, and the nights whose curves are shown.
MOST_RUNS, MOST_NIGHTS = 1000, 20
#: How long after its beginning a run freezes its spec, at most.
FROZEN_WITHIN = timedelta(days=1)
#: The shards of all nights together that one page reads.
MOST_SHARDS = 2000


class ListedRun(NamedTuple):
    """A run of the experiment that has a spec, or that Airflow knows.

    :param at: when it began.
    """

    run: str
    at: datetime
    known: AirflowRun | None


def read_experiment_page(
    viewed: ViewedEnvironment, dag: DagFacts, known: Sequence[AirflowRun]
) -> dict[str, Any]:
    """Read an experiment. What cannot be read is named in `problem`.

    :param known: its runs that Airflow knows.
    """
    problems = Problems()
    problems.add(dag.problem)
    page = empty_page(dag)
    with problems.noted():
        page |= _read_parts(viewed, dag.experiment, known, problems)
    return page | {"problem": str(problems)}


def empty_page(dag: DagFacts) -> dict[str, Any]:
    """The page of an experiment of which only Airflow's part can be read."""
    return {
        "experiment": dag.experiment,
        "dag_id": dag.dag_id,
        "environment_id": None,
        "algo": None,
        "problem": dag.problem,
        "paused": dag.is_paused,
        "next_night": dag.next_night.isoformat() if dag.next_night else None,
        "champion": None,
        "history": [],
        "versions": [],
        "runs": [],
        "nights": [],
        "costs": {"months": []},
    }


def _read_parts(
    viewed: ViewedEnvironment, experiment: str, known: Sequence[AirflowRun], problems: Problems
) -> dict[str, Any]:
    view = Snapshot(
        viewed.store,
        [
            registry_prefix(experiment),
            spec_prefix(experiment),
            class_prefix(VERDICTS, experiment),
        ],
    )
    champion = problems.read(lambda: read_champion(view, experiment), None)
    versions = problems.read(lambda: read_versions(view, experiment), ())
    runs = _list_runs(view, experiment, known)
    ids = problems.read(lambda: _read_ids(view, experiment, runs), {})
    evaluations = Snapshot(
        viewed.store, [class_prefix(EVALUATIONS, experiment, one.run) for one in runs[:MOST_NIGHTS]]
    )
    judged = problems.read(lambda: _read_decisions(view, evaluations, experiment, problems), {})
    ledgers = problems.read(lambda: _read_ledgers(view, experiment, runs, problems), {})
    moves = read_moves(view, experiment, problems)
    reports = problems.read(lambda: read_reports(view, experiment, versions), {})
    newest = problems.read(lambda: _newest_spec(view, experiment, runs), None)
    return {
        "environment_id": newest.experiment.env_id if newest else None,
        "algo": newest.experiment.algo if newest else None,
        "champion": describe_champion(champion),
        "history": [
            _describe_move(entry, versions, reports, ids, ledgers) for entry in reversed(moves)
        ],
        "versions": [
            describe_version(
                one, ids, champion.version if champion else None, _cost_of(one, ledgers)
            )
            for one in reversed(versions)
        ],
        "runs": [
            _describe_run(one, ids, judged.get(one.run), ledgers.get(one.run)) for one in runs
        ],
        "nights": problems.read(
            lambda: _read_nights(view, evaluations, experiment, runs, ids, problems), []
        ),
        "costs": {"months": _sum_months(ledgers)},
    }


def _list_runs(view: Snapshot, experiment: str, known: Sequence[AirflowRun]) -> list[ListedRun]:
    """List the newest runs that have a spec or that Airflow knows, newest first."""
    by_name = {run.run: run for run in known}
    runs = {run.run: ListedRun(run.run, run.began_at, run) for run in known}
    for item in view.list(spec_prefix(experiment)):
        if is_spec_key(item.key):
            run = run_of_spec_key(item.key)
            runs.setdefault(run, ListedRun(run, item.modified_at, by_name.get(run)))
    return sorted(runs.values(), key=lambda one: one.at, reverse=True)[:MOST_RUNS]


def _read_ids(view: Snapshot, experiment: str, runs: Sequence[ListedRun]) -> dict[str, str]:
    """Find Airflow's ids of the runs. Those that Airflow has deleted have it in their spec."""
    gone = [one.run for one in runs if one.known is None]
    specs = view.together(lambda run: _find_run_id(view, experiment, run), gone)
    return {one.run: one.known.run_id for one in runs if one.known} | dict(
        zip(gone, specs, strict=True)
    )


def _find_run_id(view: Snapshot, experiment: str, run: str) -> str:
    key = spec_key(experiment, run)

    def make() -> str:
        spec = _find_spec(view, experiment, run)
        return spec.run_id if spec else run

    etag = next((item.etag for item in view.list(key)), "")
    return view.store.derive(f"run id {key}", etag, 2 * len(key), make)


def _find_spec(view: Snapshot, experiment: str, run: str) -> Spec | None:
    key = spec_key(experiment, run)
    found = view.find(key)
    return Spec.from_json(found.data, f"{view.uri}/{key}") if found else None


def _newest_spec(view: Snapshot, experiment: str, runs: Sequence[ListedRun]) -> Spec | None:
    specs = (_find_spec(view, experiment, one.run) for one in runs[:MOST_NIGHTS])
    return next((spec for spec in specs if spec is not None), None)


def _read_decisions(
    view: Snapshot, evaluations: Snapshot, experiment: str, problems: Problems
) -> dict[str, DecidedRun]:
    """Read the newest decision of each run. One that cannot be read is named.

    :param evaluations: of the newest runs. Earlier releases wrote the reports there.
    """
    older = [item for prefix in evaluations.prefixes for item in evaluations.list(prefix)]
    reports = newest_reports(
        [
            *view.list(class_prefix(VERDICTS, experiment)),
            *(item for item in older if is_report_key(item.key)),
        ]
    )

    def read(item: ObjectInfo) -> DecidedRun | None:
        return problems.read(lambda: read_judged(view, item), None)

    found = view.together(read, reports.values())
    return {run: one for run, one in zip(reports, found, strict=True) if one is not None}


def _read_ledgers(
    view: Snapshot, experiment: str, runs: Sequence[ListedRun], problems: Problems
) -> dict[str, Ledger]:
    """Read the ledgers of the months in which the runs' specs were frozen.

    A spec is frozen after its run began, so maybe in the next month.
    """
    times = [at for one in runs for at in (one.at, one.at + FROZEN_WITHIN)]
    months = sorted({f"{at:%Y-%m}" for at in times})
    own = Snapshot(view.store, [class_prefix(ledger_prefix(month), experiment) for month in months])
    items = [item for prefix in own.prefixes for item in own.list(prefix)]

    def read(item: ObjectInfo) -> Ledger | None:
        def make() -> Ledger | None:
            found = own.find(item.key)
            return Ledger.from_json(found.data, f"{own.uri}/{item.key}") if found else None

        return problems.read(
            lambda: own.store.derive(f"ledger {item.key}", item.etag, 4 * item.n_bytes, make),
            None,
        )

    return {one.run: one for one in own.together(read, items) if one is not None}


def _sum_months(ledgers: Mapping[str, Ledger]) -> list[dict[str, Any]]:
    totals: dict[str, float] = {}
    for ledger in ledgers.values():
        totals[ledger.month] = totals.get(ledger.month, 0.0) + ledger.spent_usd
    return [{"month": month, "usd": usd} for month, usd in sorted(totals.items(), reverse=True)]


def _read_nights(
    view: Snapshot,
    evaluations: Snapshot,
    experiment: str,
    runs: Sequence[ListedRun],
    ids: Mapping[str, str],
    problems: Problems,
) -> list[dict[str, Any]]:
    """Read the curves of the newest nights, each as a band over its trials."""
    newest = runs[:MOST_NIGHTS]
    nights: list[dict[str, Any]] = []
    n_shards = 0
    for one in newest:
        shards = list_selection_shards(evaluations, experiment, one.run)
        n_shards += sum(len(items) for steps in shards.values() for items in steps.values())
        if n_shards > MOST_SHARDS and nights:
            break
        spec = problems.read(lambda run=one.run: _find_spec(view, experiment, run), None)  # type: ignore[misc]
        points = band_of(read_selection(evaluations, spec, problems)) if spec and shards else []
        if points:
            nights.append(
                {"run_id": ids.get(one.run, one.run), "at": one.at.isoformat(), "points": points}
            )
    return nights


def _describe_move(
    entry: HistoryEntry,
    versions: Sequence[VersionManifest],
    reports: Mapping[int, Report],
    ids: Mapping[str, str],
    ledgers: Mapping[str, Ledger],
) -> dict[str, Any]:
    """Describe a move of the pointer, with the returns that decided."""
    version = next((one for one in versions if one.version == entry.to_version), None)
    report = reports.get(entry.to_version)
    verdict = report.verdict if report else None
    against_bar = report is None or report.champion_sha256 is None
    return {
        "sequence": entry.sequence,
        "at": entry.at.isoformat(),
        "move": entry.move.value,
        "from_version": entry.from_version,
        "to_version": entry.to_version,
        "who": entry.who,
        "why": entry.why,
        "mean_candidate": verdict.mean_candidate if verdict else None,
        "mean_champion": verdict.mean_champion if verdict and not against_bar else None,
        "usd": _cost_of(version, ledgers) if version else None,
        "run_id": ids.get(version.run, version.run) if version else None,
    }


def _cost_of(version: VersionManifest, ledgers: Mapping[str, Ledger]) -> float | None:
    """What the run of a version cost; its manifest was written before the run had paid for all."""
    ledger = ledgers.get(version.run)
    return ledger.spent_usd if ledger else version.cost_usd


def _describe_run(
    one: ListedRun, ids: Mapping[str, str], judged: DecidedRun | None, ledger: Ledger | None
) -> dict[str, Any]:
    return {
        "run_id": ids.get(one.run, one.run),
        "run": one.run,
        "at": one.at.isoformat(),
        "state": one.known.state if one.known else None,
        "decision": judged.report.verdict.decision.value if judged else None,
        "usd": ledger.spent_usd if ledger else None,
        "budget_usd": ledger.budget_usd if ledger else None,
        "promoted_version": ledger.promoted_version if ledger else None,
    }
