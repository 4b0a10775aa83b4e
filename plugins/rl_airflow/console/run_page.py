"""The page of a run: curves, the decision, the trials with their machines, and the cost."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rl_airflow.console.airflow_facts import AirflowRun
from rl_airflow.console.cached_store import Snapshot
from rl_airflow.console.comparisons import flatten_settings
from rl_airflow.console.curves import read_selection, read_training
from rl_airflow.console.decisions import (
    DecidedRun,
    describe_decision,
    find_page,
    newest_report,
    read_judged,
)
from rl_airflow.console.environments import ViewedEnvironment
from rl_airflow.console.problems import Problems
from rl_airflow.evaluation.judge_operator import CHAMPION
from rl_airflow.trials.learning_curves import SHARD
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.paired_returns import PairedReturns
from rl_lifecycle.evaluation.requests import Shard, merge_shards
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.reports.run_summary import (
    RunSummary,
    TrialSummary,
    read_attempts,
    summarise_run,
)
from rl_lifecycle.storage.layout import (
    ATTEMPTS,
    EVALUATIONS,
    HEARTBEATS,
    LOGS,
    METRICS,
    VERDICTS,
    TrialId,
    class_prefix,
    heartbeat_key,
    ledger_key,
    log_prefix,
    registry_prefix,
    shard_prefix,
    spec_key,
)
from rl_lifecycle.trials.gangs import GangReport
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.recoveries import find_recoveries

#: The classes that a run's page lists.
LISTED = (ATTEMPTS, EVALUATIONS, HEARTBEATS, LOGS, METRICS, VERDICTS)
#: A run that Airflow does not know is live if a machine of it reported so recently.
RECENT = timedelta(minutes=5)

NO_SPEC = (
    "The run has no frozen spec: its task freeze_spec has not ended yet, or it failed. See the "
    "log of this task."
)

EMPTY_RUN: Mapping[str, Any] = {
    "created_at": None,
    "environment_id": None,
    "algo": None,
    "total_timesteps": None,
    "commit": None,
    "champion_version": None,
    "bar": None,
    "return_range": None,
    "crash_below": None,
    "spec": {},
    "decision": None,
    "pairs": None,
    "selection": [],
    "training": [],
    "trials": [],
    "cost": None,
    "summary": [],
    "has_page": False,
}


def read_run(
    viewed: ViewedEnvironment,
    experiment: str,
    dag_id: str,
    run: str,
    known: AirflowRun | None,
    now: datetime,
) -> dict[str, Any]:
    """Read a run. What cannot be read is named in `problem`.

    :param run: the run's name in the bucket.
    :param known: the run as Airflow knows it; None if Airflow has deleted it.
    """
    problems = Problems()
    page: dict[str, Any] = {
        **EMPTY_RUN,
        "run_id": known.run_id if known else run,
        "run": run,
        "dag_id": dag_id,
        "experiment": experiment,
        "state": known.state if known else None,
        "live": known.is_active if known else False,
    }
    with problems.noted():
        page |= _read_parts(viewed, experiment, run, known, now, problems)
    return page | {"problem": str(problems)}


def _read_parts(
    viewed: ViewedEnvironment,
    experiment: str,
    run: str,
    known: AirflowRun | None,
    now: datetime,
    problems: Problems,
) -> dict[str, Any]:
    key = spec_key(experiment, run)
    found = viewed.store.find(key)
    if found is None:
        problems.add(NO_SPEC)
        return {}
    spec = Spec.from_json(found.data, f"{viewed.store.uri}/{key}")
    prefixes = [class_prefix(name, experiment, run) for name in LISTED]
    view = Snapshot(viewed.store, [*prefixes, registry_prefix(experiment)])
    view.read_ahead(
        [
            *view.list(class_prefix(ATTEMPTS, experiment, run)),
            *view.list(class_prefix(HEARTBEATS, experiment, run)),
        ]
    )
    judged = problems.read(lambda: _find_judged(view, spec), None)
    has_page = judged is not None and find_page(view, judged) is not None
    summary = problems.read(lambda: summarise_run(view, experiment, run), None)
    beats = problems.read(lambda: _read_beats(view, spec), {})
    training = problems.read(lambda: read_training(view, spec), {})
    curves = problems.read(lambda: read_selection(view, spec, problems), [])
    live = known.is_active if known else any(now - beat.at < RECENT for beat in beats.values())
    return {
        **describe_spec(spec),
        "live": live,
        "decision": describe_decision(judged, spec, has_page=has_page) if judged else None,
        "has_page": has_page,
        "pairs": problems.read(lambda: read_pairs(view, spec, judged), None),
        "selection": [
            {
                "trial": curve.trial,
                "points": [
                    {"step": point.step, "mean": point.mean, "error": point.error}
                    for point in curve.points
                ],
            }
            for curve in curves
        ],
        "training": [{"trial": trial, "points": points} for trial, points in training.items()],
        "trials": problems.read(lambda: _describe_trials(view, spec, summary, beats), []),
        "cost": problems.read(lambda: _describe_cost(view, spec), None),
        "summary": list(summary.warnings) if summary else [],
    }


def describe_spec(spec: Spec) -> dict[str, Any]:
    """Describe what a run trains, as its spec froze it."""
    evaluation = spec.experiment.evaluation
    return {
        "run_id": spec.run_id,
        "created_at": spec.created_at.isoformat(),
        "environment_id": spec.experiment.env_id,
        "algo": spec.experiment.algo,
        "total_timesteps": spec.experiment.total_timesteps,
        "commit": spec.commit,
        "champion_version": spec.champion.version if spec.champion else None,
        "bar": evaluation.first_champion_above,
        "return_range": list(evaluation.return_range),
        "crash_below": evaluation.crash_below,
        "spec": flatten_settings(spec),
    }


def _find_judged(view: Snapshot, spec: Spec) -> DecidedRun | None:
    place = spec.experiment.name, spec.run
    item = newest_report(
        [*view.list(class_prefix(VERDICTS, *place)), *view.list(class_prefix(EVALUATIONS, *place))]
    )
    return read_judged(view, item) if item is not None else None


def read_pairs(view: Snapshot, spec: Spec, judged: DecidedRun | None) -> dict[str, Any] | None:
    """Read the pairs of a decision, clipped as the gate clips them.

    :return: None if nothing was decided, or no episode was played.
    """
    if judged is None:
        return None
    candidate = _read_evaluation(view, spec, judged.name)
    if candidate is None:
        return None
    against_bar = judged.report.champion_sha256 is None
    champion = None if against_bar else _read_evaluation(view, spec, CHAMPION)
    n = judged.report.verdict.n_pairs or len(candidate.returns)
    ours = candidate.returns[:n]
    pairs = PairedReturns(
        ours, ours if champion is None else champion.returns[:n], judged.report.gate.return_range
    )
    return {
        "first_seed": candidate.first_seed,
        "n": len(pairs),
        "candidate": pairs.candidate,
        "champion": None if champion is None else pairs.champion,
        "lost": pairs.lost(len(pairs)),
    }


def _read_evaluation(view: Snapshot, spec: Spec, name: str) -> Shard | None:
    prefix = shard_prefix(spec.experiment.name, spec.run, name)
    items = [
        item
        for item in view.list(prefix)
        if SHARD.fullmatch(item.key.removeprefix(prefix.removesuffix("shards/")))
    ]
    if not items:
        return None
    marks = " ".join(item.etag for item in items)

    def make() -> Shard:
        view.read_ahead(items)
        return merge_shards([read_shard(view, item) for item in items])

    n_bytes = 2 * sum(item.n_bytes for item in items)
    return view.store.derive(f"evaluation {prefix}", marks, n_bytes, make)


def _read_beats(view: Snapshot, spec: Spec) -> dict[TrialId, Heartbeat]:
    """Read the heartbeats of all machines. One that cannot be read is left out."""
    found = {}
    for seat in spec.seats:
        key = heartbeat_key(seat)
        stored = view.find(key)
        if stored is not None and (beat := _parse_beat(stored.data, key)) is not None:
            found[seat] = beat
    return found


def _parse_beat(data: bytes, key: str) -> Heartbeat | None:
    try:
        return Heartbeat.from_json(data, key)
    except InvalidRecordError:
        return None


def _describe_trials(
    view: Snapshot,
    spec: Spec,
    summary: RunSummary | None,
    beats: Mapping[TrialId, Heartbeat],
) -> list[dict[str, Any]]:
    summaries = {one.trial: one for one in summary.trials} if summary else {}
    return [
        _describe_trial(view, spec, plan.name, plan.seed, summaries.get(plan.name), beats)
        for plan in spec.trials
    ]


def _describe_trial(
    view: Snapshot,
    spec: Spec,
    trial: str,
    seed: int,
    summary: TrialSummary | None,
    beats: Mapping[TrialId, Heartbeat],
) -> dict[str, Any]:
    seats = spec.seats_of(trial)
    attempts = {seat: read_attempts(view, seat) for seat in seats}
    beat = beats.get(seats[0])
    lost = [one.steps_lost or 0 for one in find_recoveries(attempts[seats[0]])]
    return {
        "trial": trial,
        "seed": seed,
        "state": summary.state if summary else None,
        "step": beat.step if beat else 0,
        "total_timesteps": spec.experiment.total_timesteps,
        "steps_per_s": beat.steps_per_s if beat else None,
        "usd": summary.usd if summary else None,
        "interruptions": summary.interruptions if summary else 0,
        "lost_steps": sum(lost),
        "stopped": summary.stopped if summary else "",
        "attempts": [
            _describe_attempt(view, seat, attempt)
            for seat, those in attempts.items()
            for attempt in those
        ],
        "gang": _describe_gang(beat.gang) if beat and beat.gang else None,
    }


def _describe_attempt(view: Snapshot, seat: TrialId, attempt: Attempt) -> dict[str, Any]:
    outcome = attempt.outcome
    return {
        "seat": seat.seat,
        "attempt": attempt.attempt,
        "instance_id": outcome.instance_id,
        "instance_type": outcome.instance_type,
        "market": outcome.market,
        "zone": outcome.zone,
        "launched_at": outcome.launched_at.isoformat() if outcome.launched_at else None,
        "ended_at": outcome.ended_at.isoformat() if outcome.ended_at else None,
        "seconds": outcome.seconds,
        "usd": outcome.usd,
        "end": outcome.end.value if outcome.end else None,
        "reason": outcome.reason,
        "has_log": next(view.list(log_prefix(seat, attempt.attempt)), None) is not None,
    }


def _describe_gang(gang: GangReport) -> dict[str, Any]:
    return {
        "generation": gang.generation,
        "joined": gang.joined,
        "lost": gang.lost,
        "members": [one.model_dump(mode="json") for one in gang.members],
    }


def _describe_cost(view: Snapshot, spec: Spec) -> dict[str, Any]:
    key = ledger_key(f"{spec.created_at:%Y-%m}", spec.experiment.name, spec.run)
    found = view.find(key)
    ledger = Ledger.from_json(found.data, f"{view.uri}/{key}") if found else None
    return {
        "usd": ledger.spent_usd if ledger else 0.0,
        "committed_usd": ledger.committed_usd if ledger else 0.0,
        "budget_usd": spec.experiment.compute.budget_usd,
        "evaluation_usd": ledger.evaluation.usd if ledger and ledger.evaluation else None,
    }
