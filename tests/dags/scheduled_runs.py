"""Runs of our DAGs, scheduled by Airflow's own code, whose tasks only get the states of a test.

Each round asks Airflow which tasks may run (`DagRun.update_state`, which the scheduler also calls).
No task is executed: the test says how each ends.
"""

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.plugins.airflow_home import ROOT

#: (task id, map index) → how the task ends. The map index is -1 for a task that is not mapped.
Ends = Mapping[tuple[str, int], str]
BUNDLE = "dags-folder"
MOST_ROUNDS = 60
_numbers = itertools.count()


@cache
def prepare_database() -> None:
    """Make the database of this test process, with all our DAGs."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()
    folder = ROOT / "dags"
    bag = BundleDagBag(dag_folder=str(folder), bundle_path=Path(folder), bundle_name=BUNDLE)
    assert bag.import_errors == {}
    sync_bag_to_db(bag, BUNDLE, None)


class ScheduledRun:
    """A run of a retraining in Airflow's database.

    :param trials: the names of the trials that `freeze_spec` returns.
    """

    def __init__(self, dag_id: str, trials: tuple[str, ...] = ("seed-0", "seed-1")) -> None:
        prepare_database()
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.settings import Session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self.trials, self.order = trials, list[tuple[str, int]]()
        self.session: Any = Session()
        self.dag: Any = SerializedDagModel.get(dag_id, session=self.session).dag  # type: ignore[union-attr]
        now = datetime.now(UTC)
        self.run: Any = self.dag.create_dagrun(
            run_id=f"test-{next(_numbers)}",
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            start_date=now,
            session=self.session,
        )
        self.run.dag = self.dag
        self.session.commit()

    def states(self) -> dict[tuple[str, int], str | None]:
        """Return the state of each task instance."""
        found = self.run.get_task_instances(session=self.session)
        return {(one.task_id, one.map_index): one.state for one in found}

    def round(self, ends: Ends, holds: frozenset[str] = frozenset()) -> bool:
        """Let each task that may run begin and end.

        :param holds: the tasks that do not end. They stay `running`.
        :return: False if no task may run.
        """
        ready, _ = self.run.update_state(session=self.session, execute_callbacks=False)
        for one in ready:
            place = (one.task_id, one.map_index)
            one.try_number += 1
            one.start_date = datetime.now(UTC)
            one.state = "running" if one.task_id in holds else ends.get(place, "success")
            if one.state != "running":
                one.end_date = datetime.now(UTC)
                self.order.append(place)
            if place == ("freeze_spec", -1) and one.state == "success":
                self._return_trials(one)
        self.session.commit()
        self.session.expire_all()
        return bool(ready)

    def play(self, ends: Ends, holds: frozenset[str] = frozenset()) -> str:
        """Play rounds until no task may run. :return: the state of the run."""
        for _ in range(MOST_ROUNDS):
            self.round(ends, holds)
            if self.run.state != "running":
                break
            if holds and "running" in self.states().values() and not self.round(ends, holds):
                break
        return str(self.run.state)

    def mark(self, state: str) -> None:
        """Mark the run as a person does in the UI."""
        from airflow.api.common.mark_tasks import set_dag_run_state_to_failed

        assert state == "failed"
        set_dag_run_state_to_failed(
            dag=self.dag, run_id=self.run.run_id, commit=True, session=self.session
        )
        self.session.commit()
        self.session.expire_all()

    def clear(self, *, only_failed: bool = False, **which: Any) -> set[tuple[str, int]]:
        """Clear tasks as a person does. :return: the cleared task instances."""
        before = self.states()
        self.dag.clear(
            run_id=self.run.run_id,
            only_failed=only_failed,
            session=self.session,
            **which,
        )
        self.session.commit()
        self.session.expire_all()
        self.run.state = "running"
        self.session.commit()
        return {place for place, state in self.states().items() if state is None and before[place]}

    def _return_trials(self, one: Any) -> None:
        """Store the names of the trials as the XCom that the mapped tasks are expanded from."""
        from airflow.models.taskmap import TaskMap
        from airflow.models.xcom import XComModel

        place = {"dag_id": one.dag_id, "task_id": one.task_id, "run_id": one.run_id}
        XComModel.set("return_value", list(self.trials), **place, session=self.session)
        self.session.merge(TaskMap(**place, map_index=-1, length=len(self.trials), keys=None))
