"""The console's routes. Each of them needs a login, and shows only DAGs that the user may read.

Airflow gives a mounted application no login of its own
(https://github.com/apache/airflow/issues/72655), so each route names what it requires.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from rl_airflow.console.airflow_facts import (
    AirflowRun,
    DagFacts,
    default_place,
    experiment_of,
    find_run,
    read_active_runs,
    read_dag_ids,
    read_dags,
    read_newest_runs,
    read_runs,
)
from rl_airflow.console.answers import NoAnswerYetError, SharedAnswers, wait_for
from rl_airflow.console.comparisons import find_differences
from rl_airflow.console.environments import Environments, ViewedPlace
from rl_airflow.console.experiment_page import MOST_RUNS, empty_page, read_experiment_page
from rl_airflow.console.home_page import HomeReading, PermittedDags, compose_home, read_home
from rl_airflow.console.problems import describe_problem
from rl_airflow.console.run_files import TAIL, find_report_page, read_log
from rl_airflow.console.run_page import EMPTY_RUN, read_run
from rl_airflow.errors import RlAirflowError
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.records.names import is_slug, slug
from rl_lifecycle.storage.layout import TrialId

T = TypeVar("T")

WEB = Path(__file__).parent / "web"
#: How long an answer is good, seconds. Browsers ask every ten, and every five about a run that
#: trains. So they show what a machine reported at most nine seconds ago.
HOME_S, EXPERIMENT_S, RUN_S = 10.0, 15.0, 4.0
#: A report comes from the bucket, and a film in it from an experiment's own code. So it runs no
#: script, and has no part in the person's session.
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}
FEWEST_COMPARED, MOST_COMPARED = 2, 6

RunId = Annotated[str, Query(min_length=1, max_length=250)]


class Asked(NamedTuple):
    """An experiment that a user may see, and the place of its runs."""

    dag: DagFacts
    place: ViewedPlace


class AskedRun(NamedTuple):
    """A run of an experiment that a user may see."""

    dag: DagFacts
    place: ViewedPlace
    run_id: str
    known: AirflowRun | None

    @property
    def run(self) -> str:
        """The run's name in the bucket."""
        return slug(self.run_id)


class HomeFacts(NamedTuple):
    """What Airflow knows for the home page, and what the user may see."""

    dags: dict[str, DagFacts]
    newest: dict[str, AirflowRun]
    active: set[tuple[str, str]]
    permissions: PermittedDags
    place: ViewedPlace


def find_asked(dag_id: str, session: SessionDep) -> Asked:
    """Find the experiment of a DAG that the user may read."""
    if experiment_of(dag_id) is None:
        raise HTTPException(
            404, f"{dag_id} retrains no experiment: open a DAG whose name begins with retrain_."
        )
    dag = read_dags(session, dag_id).get(dag_id)
    if dag is None:
        raise HTTPException(404, f"Airflow has no DAG {dag_id}: choose one from the home page.")
    return Asked(dag, default_place(session))


AskedDep = Annotated[Asked, Depends(find_asked)]


def find_known_runs(asked: AskedDep, session: SessionDep) -> list[AirflowRun]:
    """Read the newest runs of the experiment that Airflow knows."""
    return read_runs(session, asked.dag.dag_id, MOST_RUNS)


def _asked_run(asked: Asked, run_id: str, session: Any) -> AskedRun:
    known = find_run(session, asked.dag.dag_id, run_id)
    place = known.place if known and known.place else asked.place
    return AskedRun(asked.dag, place, run_id, known)


def find_asked_run(asked: AskedDep, run_id: RunId, session: SessionDep) -> AskedRun:
    """Find a run. Airflow may have deleted it, and the bucket may still hold it."""
    return _asked_run(asked, run_id, session)


AskedRunDep = Annotated[AskedRun, Depends(find_asked_run)]


def find_asked_runs(
    asked: AskedDep, run_id: Annotated[list[str], Query()], session: SessionDep
) -> list[AskedRun]:
    """Find the runs to compare."""
    if not FEWEST_COMPARED <= len(run_id) <= MOST_COMPARED:
        raise HTTPException(
            422, f"{len(run_id)} runs cannot be compared: choose two to {MOST_COMPARED}."
        )
    return [_asked_run(asked, one, session) for one in run_id]


def find_home_facts(user: GetUserDep, session: SessionDep) -> HomeFacts:
    """Read Airflow's part of the home page."""
    manager = get_auth_manager()
    dags = read_dags(session)
    return HomeFacts(
        dags,
        read_newest_runs(session, [dag.dag_id for dag in dags.values() if not dag.is_stale]),
        read_active_runs(session),
        PermittedDags(
            manager.get_authorized_dag_ids(user=user),
            read_dag_ids(session),
            lambda gone: manager.is_authorized_dag(
                method="GET", user=user, details=DagDetails(id=gone)
            ),
        ),
        default_place(session),
    )


class Console:
    """The handlers of the routes.

    :param environments: opens the environments; tests open folders.
    :param clock: the current time, UTC.
    """

    def __init__(self, environments: Environments, clock: Callable[[], datetime]) -> None:
        self.environments, self.clock = environments, clock
        self.answers = SharedAnswers()

    async def _ask(self, key: tuple[Any, ...], read: Callable[[], T], fresh_s: float) -> T:
        return await wait_for(self.answers.ask(key, read, fresh_s))

    async def home(self, facts: Annotated[HomeFacts, Depends(find_home_facts)]) -> JSONResponse:
        """Show the home page."""
        now = self.clock()
        newest = {
            dag.experiment: facts.newest.get(dag.dag_id)
            for dag in facts.dags.values()
            if not dag.is_stale
        }
        try:
            reading = await self._ask(
                ("home", facts.place, tuple(sorted(newest))),
                lambda: read_home(lambda: self.environments.get(facts.place), newest, now),
                HOME_S,
            )
        except NoAnswerYetError as error:
            reading = HomeReading(problem=describe_problem(error))
        return JSONResponse(
            compose_home(
                reading,
                facts.dags.values(),
                facts.newest,
                facts.active,
                facts.permissions,
                now,
            )
        )

    async def experiment(
        self, asked: AskedDep, known: Annotated[list[AirflowRun], Depends(find_known_runs)]
    ) -> JSONResponse:
        """Show an experiment."""
        try:
            page = await self._ask(
                ("experiment", *asked),
                lambda: read_experiment_page(self.environments.get(asked.place), asked.dag, known),
                EXPERIMENT_S,
            )
        except (RlAirflowError, NoAnswerYetError) as error:
            page = empty_page(asked.dag) | {
                "problem": " ".join(filter(None, (asked.dag.problem, describe_problem(error))))
            }
        return JSONResponse(page | {"environment": asked.place.environment})

    async def run(self, asked: AskedRunDep) -> JSONResponse:
        """Show a run."""
        return JSONResponse(await self._read_run(asked))

    async def compare(
        self, asked: Annotated[list[AskedRun], Depends(find_asked_runs)]
    ) -> JSONResponse:
        """Show runs side by side, and the settings in which they differ."""
        runs = [await self._read_run(one) for one in asked]
        return JSONResponse(
            {"runs": runs, "differences": find_differences([run["spec"] for run in runs])}
        )

    async def _read_run(self, asked: AskedRun) -> dict[str, Any]:
        dag, now = asked.dag, self.clock()
        try:
            return await self._ask(
                ("run", dag.dag_id, asked.place, asked.run_id, asked.known),
                lambda: read_run(
                    self.environments.get(asked.place),
                    dag.experiment,
                    dag.dag_id,
                    asked.run,
                    asked.known,
                    now,
                ),
                RUN_S,
            )
        except (RlAirflowError, NoAnswerYetError) as error:
            return {
                **EMPTY_RUN,
                "run_id": asked.run_id,
                "run": asked.run,
                "dag_id": dag.dag_id,
                "experiment": dag.experiment,
                "state": asked.known.state if asked.known else None,
                "live": asked.known is not None and asked.known.is_active,
                "problem": describe_problem(error),
            }

    async def report(self, asked: AskedRunDep) -> Response:
        """Show the page of a run's decision."""
        page = await self._ask(
            ("report", asked.dag.dag_id, asked.place, asked.run),
            lambda: find_report_page(
                self.environments.get(asked.place).store, asked.dag.experiment, asked.run
            ),
            RUN_S,
        )
        if page is None:
            raise HTTPException(
                404, "This run has no report: it was not judged, or its page is not made yet."
            )
        return Response(page, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)

    async def log(
        self,
        asked: AskedRunDep,
        trial: Annotated[str, Query(max_length=100)],
        attempt: Annotated[int, Query(ge=1, le=9999)],
        seat: Annotated[int, Query(ge=0, le=9999)] = 0,
        offset: Annotated[int, Query(ge=TAIL)] = TAIL,
    ) -> JSONResponse:
        """Show lines of a machine's log."""
        if not is_slug(trial):
            raise HTTPException(404, "The run has no trial of this name: open it from the run.")
        machine = TrialId(asked.dag.experiment, asked.run, trial, seat)
        found = await self._ask(
            ("log", asked.place, machine, attempt, offset),
            lambda: read_log(self.environments.get(asked.place), machine, attempt, offset),
            1.0,
        )
        if found is None:
            raise HTTPException(
                404, "This machine has no log yet: it is written after the first segment."
            )
        return JSONResponse(found)


def serve_web(file: str, request: Request) -> Response:
    """Serve a file of the pages. A browser asks each time whether its copy is the newest."""
    path = next((one for one in sorted(WEB.glob("*.js")) if one.name == file), None)
    if path is None:
        raise HTTPException(404, "The console has no such file: reload the page.")
    data = path.read_bytes()
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="text/javascript; charset=utf-8", headers=headers)


def _refuse_question(_request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in problems)
    sentence = f"The address is wrong ({said}): open it from the console."
    return JSONResponse({"detail": sentence}, 422)


def _answer_problem(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": describe_problem(error)}, 503)


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def create_app() -> FastAPI:
    """Make the application that the plugin mounts under `/nightshift`."""
    app = FastAPI(title="Nightshift console", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RequestValidationError, _refuse_question)
    for kind in (LifecycleError, RlAirflowError, NoAnswerYetError):
        app.add_exception_handler(kind, _answer_problem)
    console = Console(Environments(), utc_now)
    login = [Depends(get_user)]
    runs = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
    logs = [Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))]
    place = "/api/experiments/{dag_id}"
    app.add_api_route("/web/{file}", serve_web, dependencies=login)
    app.add_api_route("/api/home", console.home, dependencies=runs)
    app.add_api_route(place, console.experiment, dependencies=runs)
    app.add_api_route(f"{place}/run", console.run, dependencies=runs)
    app.add_api_route(f"{place}/compare", console.compare, dependencies=runs)
    app.add_api_route(f"{place}/report", console.report, dependencies=runs)
    app.add_api_route(f"{place}/log", console.log, dependencies=logs)
    return app
