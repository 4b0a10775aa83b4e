"""Find what a step took in the last run of an experiment, for the estimates of the next one."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.machines.machine_estimates import (
    MachineSet,
    MeasuredStep,
    TrialWork,
    collector_beside,
    split_step,
)
from rl_lifecycle.reports.run_summary import read_attempts
from rl_lifecycle.storage.layout import (
    TrialId,
    heartbeat_key,
    is_spec_key,
    run_of_spec_key,
    spec_prefix,
    trainer_log_key,
)
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.heartbeats import Heartbeat

#: How many earlier runs are looked at, the newest first.
MOST_RUNS = 5
#: The trainer's event that says how many processes step the environments.
WORKERS_EVENT = "workers"
TRAINED = (AttemptEnd.FINISHED, AttemptEnd.STOPPED_EARLY)


class MeasuredRun(NamedTuple):
    """What a step took in a run."""

    run_id: str
    step: MeasuredStep


def find_measured_run(store: ObjectStore, spec: Spec) -> MeasuredRun | None:
    """Find the newest earlier run with a trained trial and the same task, and what a step took.

    Runs with another environment, algorithm, hyper-parameters or shards say nothing about this one.
    A run that cannot be read is passed over.
    """
    keys = [
        (item.modified_at, item.key)
        for item in store.list(spec_prefix(spec.experiment.name))
        if is_spec_key(item.key) and run_of_spec_key(item.key) != spec.run
    ]
    for _, key in sorted(keys, reverse=True)[:MOST_RUNS]:
        try:
            earlier = Spec.from_json(get(store, key).data, key)
            if _task_of(earlier) != _task_of(spec):
                continue
            for step in _measured_trials(store, earlier):
                return MeasuredRun(earlier.run_id, step)
        except LifecycleError:
            continue
    return None


def _task_of(spec: Spec) -> tuple[object, ...]:
    """What decides the time of a step, apart from the machine."""
    experiment = spec.experiment
    return (
        experiment.env_id,
        experiment.env_kwargs,
        experiment.algo,
        spec.hyperparameters,
        spec.shards,
        spec.replay is None,
    )


def _measured_trials(store: ObjectStore, spec: Spec) -> Iterator[MeasuredStep]:
    """Read what a step took in each trained trial."""
    for plan in spec.trials:
        trial = spec.trial_id(plan.name)
        attempts = read_attempts(store, trial)
        found = store.find(heartbeat_key(trial))
        if not attempts or found is None:
            continue
        outcome, beat = attempts[-1].outcome, Heartbeat.from_json(found.data)
        if outcome.end in TRAINED and outcome.instance_type and beat.steps_per_s > 0:
            yield _measured(store, spec, trial, beat, outcome.instance_type)


def _measured(
    store: ObjectStore, spec: Spec, trial: TrialId, beat: Heartbeat, instance_type: str
) -> MeasuredStep:
    workers, environment_s = _read_processes(store, trainer_log_key(trial, beat.attempt))
    if environment_s is None:
        return MeasuredStep(None, 1 / beat.steps_per_s, instance_type)
    compute = spec.experiment.compute
    machines = MachineSet(
        instance_type, None, compute.machines, collector_beside(compute, instance_type)
    )
    return split_step(TrialWork.of(spec), machines, workers, environment_s, beat.steps_per_s)


def _read_processes(store: ObjectStore, key: str) -> tuple[int, float | None]:
    """Read the last choice of processes from a trainer's log.

    :return: their number, and the seconds of one environment step; None if it was not measured.
    """
    found = store.find(key)
    lines = found.data.splitlines() if found else []
    for line in reversed(lines):
        try:
            event = json.loads(line)
            if event["event"] != WORKERS_EVENT:
                continue
            number, step_ms = int(event["workers"]), event["step_ms"]
            return number, None if step_ms is None else float(step_ms) / 1000
        except (LookupError, TypeError, ValueError):  # a line that was cut off
            continue
    return 1, None
