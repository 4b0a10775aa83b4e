"""The DAG file of `benchmarks.scheduling.fifty_nights`: real DAGs whose tasks do no work.

The tasks, their templates, pools, priorities and edges are those of `retrain_<experiment>`. Each
task stores what the same task of a real night stored. `await` and `judge` defer, as they do while
machines train and Lambda functions play. This file is copied beside the experiments, and Airflow
parses it there: it finds the words dag and airflow here.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import get_parsing_context

from benchmarks.scheduling import stored_night
from rl_airflow.dag_builders.retrain import build_dag
from rl_airflow.run.experiment_files import read_experiment_files

#: Seconds of the waits, in place of hours and minutes.
WAITS_S = {"await": float(os.environ.get("NIGHTSHIFT_BENCH_TRAINING_S", "60")), "judge": 10.0}
STORED = stored_night.read()
LINKS = {
    key.removeprefix("_link_"): url
    for values in STORED.values()
    for key, url in values.items()
    if key.startswith("_link_")
}


def execute(self: Any, context: Any) -> Any:
    """Store what the task of the real night stored. A task that waits defers first."""
    if self.task_id in WAITS_S:
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=WAITS_S[self.task_id])),
            method_name="execute_complete",
        )
    return execute_complete(self, context)


def execute_complete(self: Any, context: Any, event: Any = None) -> Any:  # noqa: ARG001
    """Store what the task of the real night stored. Airflow stores its links, too."""
    self.links = LINKS
    values = dict(STORED[self.task_id])
    answer = values.pop("return_value", None)
    for key, value in values.items():
        context["ti"].xcom_push(key=key, value=value)
    return ["seed-0", "seed-1"] if self.task_id == "freeze_spec" else json.loads(json.dumps(answer))


FOLDER = Path(__file__).parent / "experiments"
for file in read_experiment_files(FOLDER, only_dag_id=get_parsing_context().dag_id):
    dag = build_dag(file)
    for task in dag.tasks:
        kind: Any = getattr(task, "operator_class", None) or type(task)
        kind.execute, kind.execute_complete = execute, execute_complete
    globals()[file.dag_id] = dag
