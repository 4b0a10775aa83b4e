"""The machines that run now, with what each reported last."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from infra_bootstrap.reaper.reaper import DEADLINE_TAG, overdue_reason, read_deadline
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.machines.instances import TaggedMachine
from rl_airflow.run.experiment_files import REPLAY_PREFIX, dag_id_of
from rl_airflow.trials.drill_experiment import DRILL
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.records.names import is_slug
from rl_lifecycle.registry.replays import EXPERIMENT as REPLAYS
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.trials.heartbeats import Heartbeat

#: What a machine does before its trainer reports.
STARTING = "starting"
#: The experiments that have no file, with the DAG whose runs they are.
WITHOUT_FILE = {REPLAYS: "replay_champion", DRILL: "drill_interruption"}


def machines_dag_id(experiment: str) -> str:
    """Return the DAG whose runs have the machines of an experiment."""
    return WITHOUT_FILE.get(experiment) or dag_id_of(experiment)


def read_machines(viewed: ViewedEnvironment, now: datetime) -> list[dict[str, Any]]:
    """List the environment's living machines, newest first: one call, and a GET for each."""
    found = list(viewed.machines.list({}))
    told = viewed.store.together(lambda one: _describe(viewed, one, now), found)
    return sorted(told, key=lambda one: one["launched_at"], reverse=True)


def _describe(viewed: ViewedEnvironment, one: TaggedMachine, now: datetime) -> dict[str, Any]:
    experiment, run, trial = one.trial.split("/", 2)
    deadline = read_deadline(one.tags.get(DEADLINE_TAG, ""))
    beat = _find_beat(viewed, one)
    seen_at = beat.at if beat else one.machine.launched_at
    return {
        "instance_id": one.machine.instance_id,
        "instance_type": one.machine.instance_type,
        "zone": one.machine.zone,
        "market": one.machine.market,
        "experiment": experiment,
        "dag_id": machines_dag_id(experiment),
        "run": run,
        "trial": trial,
        "seat": one.seat,
        "attempt": one.machine.attempt,
        "launched_at": one.machine.launched_at.astimezone(UTC).isoformat(),
        "deadline_at": deadline.isoformat() if deadline else None,
        "state": beat.state.value if beat else STARTING,
        "step": beat.step if beat else None,
        "total_timesteps": beat.total_timesteps if beat else None,
        "steps_per_s": beat.steps_per_s if beat else None,
        "silent_s": max(0.0, (now - seen_at).total_seconds()),
        "orphan": overdue_reason(one.tags, one.machine.launched_at, now) is not None,
    }


def _find_beat(viewed: ViewedEnvironment, one: TaggedMachine) -> Heartbeat | None:
    """Find the heartbeat of this machine, and not one of the trial's machine before it."""
    experiment, run, trial = one.trial.split("/", 2)
    if not all(map(is_slug, (experiment, run, trial))):
        return None  # a person tagged it
    key = heartbeat_key(TrialId(experiment, run, trial, one.seat))
    found = viewed.store.find(key)
    if found is None:
        return None
    try:
        beat = Heartbeat.from_json(found.data, key)
    except InvalidRecordError:
        return None
    return beat if beat.attempt == one.machine.attempt else None


def mark_orphans(
    machines: Iterable[dict[str, Any]], active: Collection[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Mark the machines whose run has ended, too, and name the DAGs of scheduled replays.

    :param active: the runs that have not ended: the DAG's id, and the name in the bucket.
    """
    replays = {run: dag_id for dag_id, run in active if dag_id.startswith(REPLAY_PREFIX)}
    marked = []
    for one in machines:
        dag_id = replays.get(one["run"], one["dag_id"])
        has_ended = (dag_id, one["run"]) not in active
        marked.append(one | {"dag_id": dag_id, "orphan": one["orphan"] or has_ended})
    return marked
