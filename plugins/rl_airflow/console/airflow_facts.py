"""What Airflow's database knows of the experiments: their DAGs, and the runs of these."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.models.variable import Variable
from airflow.utils.state import DagRunState
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from rl_airflow.console.environments import ViewedPlace
from rl_airflow.infrastructure.form_values import DEFAULT_ENVIRONMENT, ENVIRONMENT_VARIABLE
from rl_airflow.run.experiment_files import REPLAY_PREFIX, dag_id_of
from rl_lifecycle.records.names import is_slug, slug

#: The beginning of the ids of the experiments' DAGs.
PREFIX = dag_id_of("")
#: The tag of a DAG whose experiment file is wrong, and the beginning of its description.
BROKEN, REFUSES = "broken", "Refuses new runs: "
ACTIVE = (DagRunState.QUEUED, DagRunState.RUNNING)


class DagFacts(NamedTuple):
    """The DAG of an experiment.

    :param problem: why it cannot run; empty if it can.
    """

    dag_id: str
    experiment: str
    is_paused: bool = False
    is_stale: bool = False
    next_night: datetime | None = None
    problem: str = ""


class AirflowRun(NamedTuple):
    """A run as Airflow knows it. `began_at` is when it was queued if it has not begun.

    :param place: where the run's form put it; None: where the experiment is by default.
    """

    run_id: str
    state: str
    began_at: datetime
    place: ViewedPlace | None = None

    @property
    def run(self) -> str:
        """The run's name in the bucket."""
        return slug(self.run_id)

    @property
    def is_active(self) -> bool:
        """Whether the run has not ended."""
        return self.state in ACTIVE


def experiment_of(dag_id: str) -> str | None:
    """Return the experiment of a DAG; None if the DAG retrains none."""
    name = dag_id.removeprefix(PREFIX)
    return name if dag_id.startswith(PREFIX) and is_slug(name) else None


def default_place(session: Session) -> ViewedPlace:
    """The place of runs whose form names none: the variable's environment, or else `dev`."""
    del session  # the variable may be in another secrets backend
    return ViewedPlace(
        str(Variable.get(ENVIRONMENT_VARIABLE, default_var=None) or DEFAULT_ENVIRONMENT)
    )


def read_dags(session: Session, dag_id: str | None = None) -> dict[str, DagFacts]:
    """Read the DAGs of all experiments, or one of them. Stale ones are included."""
    query = select(
        DagModel.dag_id,
        DagModel.is_paused,
        DagModel.is_stale,
        DagModel.next_dagrun_create_after,
        DagModel.description,
        DagModel.has_import_errors,
    ).where(DagModel.dag_id.startswith(PREFIX, autoescape=True))
    if dag_id is not None:
        query = query.where(DagModel.dag_id == dag_id)
    broken = set(session.scalars(select(DagTag.dag_id).where(DagTag.name == BROKEN)))
    found = {}
    for row in session.execute(query):
        if (experiment := experiment_of(row.dag_id)) is not None:
            night = None if row.is_paused or row.is_stale else row.next_dagrun_create_after
            problem = _problem_of(row, is_broken=row.dag_id in broken)
            found[row.dag_id] = DagFacts(
                row.dag_id, experiment, row.is_paused, row.is_stale, night, problem
            )
    return found


def _problem_of(row: Any, *, is_broken: bool) -> str:
    if row.is_stale:
        return (
            "The experiment has no file any more, so it has no new runs: put its file back to "
            "retrain it."
        )
    if is_broken:
        return str(row.description or "").removeprefix(REFUSES)
    if row.has_import_errors:
        return "Its DAG file cannot be imported: see Import Errors in the list of DAGs."
    return ""


def read_dag_ids(session: Session) -> set[str]:
    """List all DAGs of Airflow, also stale ones."""
    return set(session.scalars(select(DagModel.dag_id)))


def read_newest_runs(session: Session, dag_ids: Collection[str]) -> dict[str, AirflowRun]:
    """Read the newest run of each DAG."""
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(dag_ids)).group_by(DagRun.dag_id)
    rows = session.execute(_runs().where(DagRun.id.in_(newest)))
    return {row.dag_id: _run_of(row) for row in rows}


def read_active_runs(session: Session) -> set[tuple[str, str]]:
    """List the runs that have not ended: their DAG's id, and their name in the bucket."""
    rows = session.execute(_runs().where(DagRun.state.in_(ACTIVE)))
    return {(row.dag_id, _name_in_bucket(row)) for row in rows}


def _name_in_bucket(row: Any) -> str:
    """The run of a replay has the name of its version's experiment before it."""
    if not row.dag_id.startswith(REPLAY_PREFIX):
        return slug(row.run_id)
    asked = row.conf.get("experiment") if isinstance(row.conf, Mapping) else None
    return slug(f"{asked or row.dag_id.removeprefix(REPLAY_PREFIX)}-{row.run_id}")


def read_runs(session: Session, dag_id: str, most: int) -> list[AirflowRun]:
    """Read the newest runs of a DAG, newest first."""
    query = _runs().where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(most)
    return [_run_of(row) for row in session.execute(query)]


def find_run(session: Session, dag_id: str, run_id: str) -> AirflowRun | None:
    """Find a run. Airflow may have deleted it, and the bucket may still hold it."""
    row = session.execute(
        _runs().where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    ).one_or_none()
    return None if row is None else _run_of(row)


def _runs() -> Any:
    """Select what is needed of runs, because a whole row is large."""
    return select(
        DagRun.dag_id,
        DagRun.run_id,
        DagRun.state,
        DagRun.start_date,
        DagRun.queued_at,
        DagRun.run_after,
        DagRun.conf,
    )


def _run_of(row: Any) -> AirflowRun:
    return AirflowRun(
        row.run_id,
        str(getattr(row.state, "value", row.state)),
        row.start_date or row.queued_at or row.run_after,
        _place_of(row.conf),
    )


def _place_of(conf: Any) -> ViewedPlace | None:
    """Read where a run's form put it."""
    if not isinstance(conf, Mapping) or not conf.get("environment"):
        return None
    return ViewedPlace(str(conf["environment"]), str(conf.get("region_name") or "") or None)


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    """The earliest of the times that are known."""
    return min((time for time in times if time is not None), default=None)
