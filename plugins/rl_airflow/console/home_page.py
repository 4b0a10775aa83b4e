"""The home page: each experiment in a row, the machines now, and the money of the month."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rl_airflow.console.airflow_facts import AirflowRun, DagFacts, earliest
from rl_airflow.console.cached_store import CachedStore, Snapshot
from rl_airflow.console.curves import best_curve, read_selection
from rl_airflow.console.decisions import (
    DecidedRun,
    describe_decision,
    find_page,
    newest_report,
    read_judged,
)
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.console.machine_list import machines_dag_id, mark_orphans, read_machines
from rl_airflow.console.problems import Problems, describe_problem
from rl_airflow.console.registry_view import describe_champion, read_champion
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.storage.layout import (
    EVALUATIONS,
    VERDICTS,
    class_prefix,
    is_spec_key,
    ledger_prefix,
    run_of_spec_key,
    spec_key,
    spec_prefix,
)
from rl_lifecycle.storage.object_store import ObjectInfo

#: How long the last decision of an experiment is kept, seconds: while its newest run is active, and
#: when that has ended. Then only a person who clears a task changes it, which makes it active.
ACTIVE_DECISION_S, DECISION_S = 15.0, 600.0
#: About the size of a row in memory, bytes.
ROW_BYTES = 20_000
#: The runs in which a report of an older release is looked for, if there is no newer one.
FORMER_RUNS = 3


class MonthOfExperiment(NamedTuple):
    """The money of the runs of an experiment that began in a month."""

    usd: float = 0.0
    n_runs: int = 0
    champions: int = 0


class HomeReading(NamedTuple):
    """What the bucket and EC2 hold for the home page, for all experiments.

    :param rows: experiment → its part of the row.
    """

    rows: Mapping[str, Mapping[str, Any]] = {}
    months: Mapping[str, MonthOfExperiment] = {}
    machines: tuple[dict[str, Any], ...] = ()
    problem: str = ""


EMPTY_ROW: Mapping[str, Any] = {
    "environment_id": None,
    "algo": None,
    "problem": "",
    "champion": None,
    "decision": None,
    "curve": [],
}


def read_home(
    open_: Callable[[], ViewedEnvironment],
    newest: Mapping[str, AirflowRun | None],
    now: datetime,
) -> HomeReading:
    """Read the home page. What cannot be read is named in its place.

    :param open_: opens the environment.
    :param newest: experiment → its newest run; None: it has none.
    """
    problems = Problems()
    viewed = problems.read(open_, None)
    if viewed is None:
        return HomeReading(problem=str(problems))
    month = f"{now:%Y-%m}"
    try:  # the first request also shows whether the bucket answers
        months = read_month(viewed.store, month, problems)
    except Exception as error:  # said once for the whole page, and not in each row
        problems.add(describe_problem(error))
        return HomeReading(
            machines=tuple(problems.read(lambda: read_machines(viewed, now), [])),
            problem=str(problems),
        )
    machines = problems.read(lambda: read_machines(viewed, now), [])
    rows = viewed.store.together(lambda one: read_row(viewed.store, *one, now), newest.items())
    return HomeReading(dict(zip(newest, rows, strict=True)), months, tuple(machines), str(problems))


def read_month(store: CachedStore, month: str, problems: Problems) -> dict[str, MonthOfExperiment]:
    """Add up the ledgers of a month: one LIST, and a GET for each that changed since."""
    items = list(store.list(ledger_prefix(month)))
    totals: dict[str, MonthOfExperiment] = {}
    for item, found in zip(items, store.together(store.find_listed, items), strict=True):
        if found is None:
            continue
        with problems.noted():
            ledger = Ledger.from_json(found.data, f"{store.uri}/{item.key}")
            before = totals.get(ledger.experiment, MonthOfExperiment())
            totals[ledger.experiment] = MonthOfExperiment(
                before.usd + ledger.spent_usd,
                before.n_runs + 1,
                before.champions + (ledger.promoted_version is not None),
            )
    return totals


def read_row(
    store: CachedStore, experiment: str, newest: AirflowRun | None, now: datetime
) -> dict[str, Any]:
    """Read one experiment's part of its row."""
    problems = Problems()
    champion = problems.read(lambda: read_champion(store, experiment), None)
    decided, problem = problems.read(
        lambda: _keep_decision(store, experiment, newest, now), ({}, "")
    )
    problems.add(problem)
    return {
        **EMPTY_ROW,
        "champion": describe_champion(champion),
        **decided,
        "problem": str(problems),
    }


def _keep_decision(
    store: CachedStore, experiment: str, newest: AirflowRun | None, now: datetime
) -> tuple[dict[str, Any], str]:
    """Read the last decision, and its problem. It is kept while it cannot change."""
    good_s = ACTIVE_DECISION_S if newest and newest.is_active else DECISION_S
    mark = f"{newest and newest[:2]} {now.timestamp() // good_s:.0f}"

    def make() -> tuple[dict[str, Any], str]:
        problems = Problems()
        return _last_decision(store, experiment, newest, problems), str(problems)

    return store.derive(f"decision {experiment}", mark, ROW_BYTES, make, lambda one: not one[1])


def _last_decision(
    store: CachedStore, experiment: str, newest: AirflowRun | None, problems: Problems
) -> dict[str, Any]:
    """The last judged run: its decision and its best curve. A later run may still be running."""
    view = Snapshot(store, [class_prefix(VERDICTS, experiment)])
    judged = _find_judged(view, experiment)
    run = judged.run if judged else newest.run if newest else None
    spec = problems.read(lambda: _find_spec(store, experiment, run), None)
    curve = []
    if spec is not None:
        own = Snapshot(store, [class_prefix(EVALUATIONS, experiment, spec.run)])
        curve = problems.read(lambda: best_curve(read_selection(own, spec, problems)), [])
    decision = None
    if judged is not None:
        has_page = find_page(view, judged) is not None
        decision = describe_decision(judged, spec, has_page=has_page)
    return {
        "environment_id": spec.experiment.env_id if spec else None,
        "algo": spec.experiment.algo if spec else None,
        "decision": decision,
        "curve": curve,
    }


def _find_judged(view: Snapshot, experiment: str) -> DecidedRun | None:
    item = newest_report(view.list(class_prefix(VERDICTS, experiment)))
    if item is None:
        item = _find_former_report(view, experiment)
    return read_judged(view, item) if item is not None else None


def _find_former_report(view: Snapshot, experiment: str) -> ObjectInfo | None:
    """Find a report where older releases wrote it, beside the shards of one of the newest runs."""
    specs = [item for item in view.list(spec_prefix(experiment)) if is_spec_key(item.key)]
    for spec in sorted(specs, key=lambda item: item.modified_at, reverse=True)[:FORMER_RUNS]:
        prefix = class_prefix(EVALUATIONS, experiment, run_of_spec_key(spec.key))
        if (item := newest_report(view.list(prefix))) is not None:
            return item
    return None


def _find_spec(store: CachedStore, experiment: str, run: str | None) -> Spec | None:
    key = spec_key(experiment, run) if run else None
    found = store.find(key) if key else None
    return Spec.from_json(found.data, f"{store.uri}/{key}") if found else None


class PermittedDags(NamedTuple):
    """What a user may see.

    :param dag_ids: the DAGs of Airflow that the user may read.
    :param known: all DAGs of Airflow.
    :param may_read_gone: whether the user may read a DAG that Airflow does not have any more.
        A right to list DAGs does not tell: FAB gives it to each user who may read one of them.
    """

    dag_ids: Collection[str]
    known: Collection[str]
    may_read_gone: Callable[[str], bool]

    def may_see(self, dag_id: str) -> bool:
        """Whether the user may see what belongs to a DAG."""
        return dag_id in self.dag_ids or (dag_id not in self.known and self.may_read_gone(dag_id))


def compose_home(
    reading: HomeReading,
    dags: Collection[DagFacts],
    newest: Mapping[str, AirflowRun],
    active: Collection[tuple[str, str]],
    permissions: PermittedDags,
    now: datetime,
) -> dict[str, Any]:
    """Compose the page for a user, who sees only permitted DAGs and their money and machines.

    :param newest: DAG id → its newest run.
    :param active: the runs that have not ended.
    """
    shown = [dag for dag in dags if not dag.is_stale and permissions.may_see(dag.dag_id)]
    months = [
        month
        for experiment, month in reading.months.items()
        if permissions.may_see(machines_dag_id(experiment))
    ]
    next_night = earliest(dag.next_night for dag in shown)
    machines = mark_orphans(reading.machines, active)
    return {
        "at": now.astimezone(UTC).isoformat(),
        "month": f"{now:%Y-%m}",
        "usd_month": sum(month.usd for month in months),
        "n_runs": sum(month.n_runs for month in months),
        "champions": sum(month.champions for month in months),
        "next_night": next_night.isoformat() if next_night else None,
        "problem": reading.problem,
        "machines": [one for one in machines if permissions.may_see(one["dag_id"])],
        "experiments": [
            _compose_row(dag, reading, newest.get(dag.dag_id))
            for dag in sorted(shown, key=lambda dag: dag.experiment)
        ],
    }


def _compose_row(dag: DagFacts, reading: HomeReading, last: AirflowRun | None) -> dict[str, Any]:
    part = reading.rows.get(dag.experiment, EMPTY_ROW)
    month = reading.months.get(dag.experiment, MonthOfExperiment())
    problem = " ".join(filter(None, (dag.problem, part["problem"])))
    return {
        "experiment": dag.experiment,
        "dag_id": dag.dag_id,
        **part,
        "problem": problem,
        "paused": dag.is_paused,
        "next_night": dag.next_night.isoformat() if dag.next_night else None,
        "last_run": describe_run(last),
        "usd_month": month.usd,
    }


def describe_run(run: AirflowRun | None) -> dict[str, Any] | None:
    """Describe a run as Airflow knows it."""
    if run is None:
        return None
    return {"run_id": run.run_id, "state": run.state, "began_at": run.began_at.isoformat()}
