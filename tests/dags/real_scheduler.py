"""Airflow's own scheduler on one experiment's DAG, with an executor that starts no task.

The database's clock is the machine's. So a test does not move the clock: it chooses the
experiment's schedule, and the times of earlier runs, relative to now.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.executors.base_executor import BaseExecutor

from tests.dags.scheduled_runs import BUNDLE, prepare_database
from tests.system.projects import copy_project, read_shipped

#: How often the scheduler looks in one :meth:`ScheduledExperiment.schedule`. It makes a run in one
#: look, starts it in the next one, and queues its first task in the third one. SQLite's clock has
#: whole seconds, so a run may wait for a second.
LOOKS, PAUSE_S = 6, 0.4


class IdleExecutor(BaseExecutor):
    """Accepts tasks, and starts none of them."""

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        """Leave the tasks in the queue."""

    def end(self) -> None:
        """End at once, because nothing was started."""


class ScheduledExperiment:
    """The DAG of an experiment with its own name and schedule.

    :param folder: an empty folder for the DAG files.
    :param schedule: a cron expression. None means only by hand.
    """

    def __init__(self, folder: Path, name: str, schedule: str | None) -> None:
        prepare_database()
        from airflow.settings import Session

        self.dag_id = f"retrain_{name}"
        self.dags = copy_project(
            folder, {name: read_shipped("cartpole_ppo") | {"schedule": schedule}}
        )
        self.session: Any = Session()
        self.parse()

    def parse(self) -> None:
        """Read the DAG file again, as the dag-processor does every half minute."""
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        bag = BundleDagBag(
            dag_folder=str(self.dags / "retrain.py"), bundle_path=self.dags, bundle_name=BUNDLE
        )
        assert bag.import_errors == {}
        sync_bag_to_db(bag, BUNDLE, None)
        self.session.expire_all()

    def pause(self, paused: bool = True) -> None:
        """Pause or unpause the DAG, as a person does."""
        self.model().is_paused = paused
        self.session.commit()

    def model(self) -> Any:
        """Return the DAG's row."""
        from airflow.models.dag import DagModel

        return self.session.get(DagModel, self.dag_id)

    def trigger(self, run_id: str) -> None:
        """Trigger a run by hand, as the API does."""
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.utils.types import DagRunTriggeredByType

        trigger_dag(self.dag_id, triggered_by=DagRunTriggeredByType.REST_API, run_id=run_id)
        self.session.expire_all()

    def add_night(self, at: datetime) -> str:
        """Add an earlier night that ended well. :return: its run id."""
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        run = self._dag().create_dagrun(
            run_id=f"scheduled__{at.isoformat()}",
            logical_date=at,
            data_interval=(at, at),
            run_after=at,
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TIMETABLE,
            state=DagRunState.SUCCESS,
            start_date=at,
            session=self.session,
        )
        for one in run.get_task_instances(session=self.session):
            one.state = "success"
        self.session.commit()
        self.parse()
        return str(run.run_id)

    def clear(self, run_id: str) -> None:
        """Clear all tasks of a run, as a person does."""
        self._dag().clear(run_id=run_id, session=self.session)
        self.session.commit()

    def end(self, run_id: str) -> None:
        """End a run well."""
        run = next(one for one in self._runs() if one.run_id == run_id)
        for one in run.get_task_instances(session=self.session):
            one.state = "success"
        run.set_state("success")
        self.session.commit()

    def schedule(self) -> None:
        """Let Airflow's scheduler look a few times."""
        from airflow.jobs.job import Job, run_job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

        self.session.commit()
        runner = SchedulerJobRunner(
            Job(), num_runs=LOOKS, scheduler_idle_sleep_time=PAUSE_S, executors=[IdleExecutor()]
        )
        run_job(runner.job, execute_callable=runner._execute)
        self.session.expire_all()

    def runs(self) -> dict[str, str]:
        """Return the state of each run, by its id."""
        self.session.expire_all()
        return {run.run_id: str(run.state) for run in self._runs()}

    def begun(self, run_id: str) -> set[str]:
        """Return the tasks of a run that the scheduler has handed to the executor."""
        run = next(one for one in self._runs() if one.run_id == run_id)
        return {
            one.task_id
            for one in run.get_task_instances(session=self.session)
            if one.state == "queued"
        }

    def next_night(self) -> datetime:
        """Return when the next scheduled run will be made."""
        at: datetime = self.model().next_dagrun_create_after
        return at

    def _dag(self) -> Any:
        from airflow.models.serialized_dag import SerializedDagModel

        return SerializedDagModel.get(self.dag_id, session=self.session).dag  # type: ignore[union-attr]

    def _runs(self) -> list[Any]:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        query = select(DagRun).where(DagRun.dag_id == self.dag_id).order_by(DagRun.id)
        return list(self.session.scalars(query))


def night_before(now: datetime, late: timedelta) -> tuple[str, datetime]:
    """Return a nightly schedule whose time was at least `late` ago, and this time."""
    at = (now - late).replace(second=0, microsecond=0)
    return f"{at.minute} {at.hour} * * *", at


def run_id_of(at: datetime) -> str:
    """Return the id of the scheduled run of this time."""
    return f"scheduled__{at.astimezone(UTC).isoformat()}"
