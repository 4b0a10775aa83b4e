"""The machines that run now, with what each reported last."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from infra_bootstrap.reaper.reaper import DEADLINE_TAG, overdue_reason, read_deadline
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.machines.instances import TaggedMachine
from rl_airflow.run.experiment_files import dag_id_of
from rl_airflow.trials.drill_experiment import DRILL
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.records.names import is_slug
from rl_lifecycle.registry.replays import EXPERIMENT as REPLAYS
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.trials.heartbeats import Heartbeat

#: What a machine does before its trainer reports.
STARTING = "starting"
#: The experiments that have no file, and so no DAG of their own.
WITHOUT_FILE = (REPLAYS, DRILL)


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
        "dag_id": None if experiment in WITHOUT_FILE else dag_id_of(experiment),
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
    machines: list[dict[str, Any]], active: Collection[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Mark the machines whose run has ended, too.

    :param active: the runs that have not ended: the DAG's id, and the name in the bucket. Runs
        without an experiment file have another name there, so only their deadline counts.
    """
    return [
        one | {"orphan": one["orphan"] or _has_ended(one["dag_id"], one["run"], active)}
        for one in machines
    ]


def _has_ended(dag_id: str | None, run: str, active: Collection[tuple[str, str]]) -> bool:
    return dag_id is not None and (dag_id, run) not in active
