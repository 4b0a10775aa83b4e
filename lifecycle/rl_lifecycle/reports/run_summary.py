"""The summary of a run: what was trained, where, for how much, and what was decided.

It only reads the bucket. So the task log, the demo and a person with read access see the same.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from rl_lifecycle.errors import InvalidRecordError, LifecycleError, MissingObjectError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.verdicts import Decision, Verdict
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.machines.machine_attempts import (
    ENDED_BY_HAND,
    Attempt,
    AttemptEnd,
    AttemptOutcome,
)
from rl_lifecycle.records.record import Record
from rl_lifecycle.registry.contents import VersionManifest, find_champion, get_manifest
from rl_lifecycle.storage.layout import (
    TrialId,
    attempt_prefix,
    evaluations_prefix,
    heartbeat_key,
    is_report_key,
    is_spec_key,
    ledger_key,
    spec_key,
    spec_prefix,
    verdicts_prefix,
    version_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState


class TrialSummary(Record):
    """The summary of a trial: how far it came, on which machines, and its cost."""

    trial: str
    state: str
    step: int
    total_timesteps: int
    steps_per_s: float | None
    n_attempts: int
    interruptions: int
    machine: str = Field(description="instance type and market of the last attempt")
    seconds: float = Field(description="machine time, all attempts together")
    usd: float
    stopped: str = Field("", description="why the trial was stopped early; empty: it was not")
    saved_usd: float = Field(
        0.0, description="estimated cost of the steps that the early stop saved"
    )
    cancelled_at: datetime | None = Field(
        None,
        description="when a person ended the trial while it was awaited; null: not ended by hand",
    )


class RunSummary(Record):
    """The summary of a run."""

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    run_id: str
    env_id: str
    algo: str
    trials: tuple[TrialSummary, ...]
    usd: float
    budget_usd: float
    candidate: str | None = Field(
        None, description="<trial> at step <step>, when the run promoted it"
    )
    verdict: Verdict | None = None
    against_bar: bool = Field(
        False, description="the candidate was judged by the absolute bar, not against a champion"
    )
    report_uri: str | None = None
    champion_version: int | None = None
    champion_uri: str | None = None
    champion_of_this_run: bool = False
    evaluation_usd: float | None = Field(
        None, description="the part of `usd` that the evaluations cost; None: it is not settled"
    )
    warnings: tuple[str, ...] = Field((), description="what a person must know, a line each")

    def with_warnings(self, warnings: Iterable[str]) -> Self:
        """Add warnings, each of them once."""
        known = dict.fromkeys((*self.warnings, *warnings))
        return self.model_copy(update={"warnings": tuple(known)})


def latest_spec(store: ObjectStore, experiment: str) -> Spec:
    """The spec of the experiment's newest run.

    :raises MissingObjectError: if the experiment has no run.
    """
    specs = [
        Spec.from_json(get(store, item.key).data, item.key)
        for item in store.list(spec_prefix(experiment))
        if is_spec_key(item.key)
    ]  # an import may lie beside a spec
    if not specs:
        raise MissingObjectError(f"{store.uri}/{spec_prefix(experiment)}")
    return max(specs, key=lambda spec: spec.created_at)


def summarise_run(store: ObjectStore, experiment: str, run: str) -> RunSummary:
    """Summarise a run, finished or not."""
    key = spec_key(experiment, run)
    spec = Spec.from_json(get(store, key).data, f"{store.uri}/{key}")
    found = store.find(ledger_key(f"{spec.created_at:%Y-%m}", experiment, run))
    ledger = Ledger.from_json(found.data, "ledger") if found else None
    reported = _find_report(store, experiment, run)
    manifest, problem = _find_champion(store, experiment)
    lost = reported[0].verdict.lost_episodes if reported else ()
    ours = manifest is not None and manifest.run == run
    return RunSummary(
        experiment=experiment,
        run=run,
        run_id=spec.run_id,
        env_id=spec.experiment.env_id,
        algo=spec.experiment.algo,
        trials=tuple(_summarise_trial(store, spec, plan.name) for plan in spec.trials),
        usd=ledger.spent_usd if ledger else 0.0,
        budget_usd=spec.experiment.compute.budget_usd,
        candidate=f"{manifest.trial} at step {manifest.step:,}" if manifest and ours else None,
        verdict=reported[0].verdict if reported else None,
        against_bar=reported is not None and reported[0].champion_sha256 is None,
        report_uri=reported[1] if reported else None,
        champion_version=manifest.version if manifest else None,
        champion_of_this_run=ours,
        evaluation_usd=ledger.evaluation.usd if ledger and ledger.evaluation else None,
        champion_uri=f"{store.uri}/{version_prefix(experiment, manifest.version)}".rstrip("/")
        if manifest
        else None,
        warnings=(*(one.describe() for one in lost), *problem),
    )


def render_summary(summary: RunSummary) -> str:
    """Format a summary for a terminal or a task log, at most 100 characters wide.

    It always has the lines on trials, the comparison and the champion, because README shows them.
    """
    decision = _render_decision(summary.verdict, against_bar=summary.against_bar)
    warnings = [f"warning    {text}" for text in summary.warnings]
    champion = _render_champion(summary)
    return "\n".join([*_render_trials(summary), "", *decision, *warnings, *champion])


def _find_champion(
    store: ObjectStore, experiment: str
) -> tuple[VersionManifest | None, tuple[str, ...]]:
    """Find the version in service, or the reason why it cannot be read.

    A damaged registry must not cost the report of a run.
    """
    try:
        champion = find_champion(store, experiment)
        if champion is None:
            return None, ()
        return get_manifest(store, experiment, champion[0].version), ()
    except LifecycleError as error:
        return None, (f"the champion could not be read: {error}",)


def _summarise_trial(store: ObjectStore, spec: Spec, name: str) -> TrialSummary:
    learner, *collectors = spec.seats_of(name)
    beat, beat_problem = _find_heartbeat(store, learner)
    attempts = read_attempts(store, learner)
    every = [*attempts, *(one for seat in collectors for one in read_attempts(store, seat))]
    last = attempts[-1].outcome if attempts else None
    stopped = last.reason if last and last.end is AttemptEnd.STOPPED_EARLY else ""
    cancelled = last is not None and last.reason == ENDED_BY_HAND
    return TrialSummary(
        trial=name,
        cancelled_at=last.ended_at if last and cancelled else None,
        state=_state_of(beat, last, stopped) or beat_problem or "not started",
        step=beat.step if beat else 0,
        total_timesteps=spec.experiment.total_timesteps,
        steps_per_s=beat.steps_per_s if beat else None,
        n_attempts=len(every),
        interruptions=sum(one.outcome.end is AttemptEnd.INTERRUPTED for one in every),
        machine=f"{last.instance_type} {last.market}" if last and last.instance_type else "none",
        seconds=sum(one.outcome.seconds or 0.0 for one in every),
        usd=sum(one.outcome.usd or 0.0 for one in every),
        stopped=stopped,
        saved_usd=sum(one.outcome.saved_usd or 0.0 for one in attempts),
    )


def read_attempts(store: ObjectStore, trial: TrialId) -> list[Attempt]:
    """Read the attempts of a trial's seat, oldest first."""
    return [
        Attempt.from_json(get(store, item.key).data, item.key)
        for item in store.list(attempt_prefix(trial))
    ]


def _state_of(beat: Heartbeat | None, last: AttemptOutcome | None, stopped: str) -> str:
    """Name the state of a trial: what its trainer reported last, or how its last machine ended."""
    if stopped:
        return "stopped early"
    if last is not None and last.reason == ENDED_BY_HAND:
        return "cancelled"
    if beat is not None and beat.state in (TrainerState.FINISHED, TrainerState.FAILED):
        return beat.state.value
    if last is not None and last.end is not None:
        return last.end.value.replace("_", " ")
    return beat.state.value if beat is not None else ""


def _find_heartbeat(store: ObjectStore, trial: TrialId) -> tuple[Heartbeat | None, str]:
    """Find a trial's heartbeat. One that cannot be read must not cost the report of a run."""
    try:
        found = store.find(heartbeat_key(trial))
        return (Heartbeat.from_json(found.data, heartbeat_key(trial)) if found else None), ""
    except InvalidRecordError:
        return None, "unreadable heartbeat"


def _find_report(store: ObjectStore, experiment: str, run: str) -> tuple[Report, str] | None:
    """Find the newest report of a run. A run that was cleared may have several."""
    found = [
        item
        for prefix in (verdicts_prefix(experiment, run), evaluations_prefix(experiment, run))
        for item in store.list(prefix)
        if is_report_key(item.key)
    ]
    if not found:
        return None
    newest = max(found, key=lambda item: (item.modified_at, item.key))
    return Report.from_json(get(store, newest.key).data, newest.key), f"{store.uri}/{newest.key}"


def _render_trials(summary: RunSummary) -> list[str]:
    rows = [("trial", "state", "steps", "steps/s", "machine", "attempts", "seconds", "USD")]
    rows += [
        (
            one.trial,
            one.state,
            f"{one.step:,}",
            f"{one.steps_per_s:,.0f}" if one.steps_per_s else "–",
            one.machine,
            str(one.n_attempts),
            f"{one.seconds:.0f}",
            f"{one.usd:.4f}",
        )
        for one in summary.trials
    ]
    head = f"{summary.experiment}: {summary.algo} on {summary.env_id}, run {summary.run_id}"
    early = [
        f"{one.trial}: {one.stopped}; saved about {one.saved_usd:.4f} USD"
        for one in summary.trials
        if one.stopped
    ]
    cancelled = [
        f"{one.trial}: a person cancelled it at {one.cancelled_at:%Y-%m-%d %H:%M} UTC"
        for one in summary.trials
        if one.cancelled_at
    ]
    return [
        head,
        *table(rows),
        *early,
        *cancelled,
        f"cost {summary.usd:.4f} USD of {summary.budget_usd:g} USD allowed"
        + _render_evaluation_cost(summary.evaluation_usd),
    ]


def _render_evaluation_cost(usd: float | None) -> str:
    return "" if usd is None else f", {usd:.4f} of it for evaluations"


def _render_decision(verdict: Verdict | None, *, against_bar: bool) -> list[str]:
    if verdict is None:
        return ["decision   none was made"]
    last = verdict.looks[-1] if verdict.looks else None
    rows = [
        ("", "candidate", "the bar" if against_bar else "champion"),
        ("mean return", _number(verdict.mean_candidate), _number(verdict.mean_champion)),
    ]
    if last:
        crashes = "–" if against_bar else f"{last.crashes_champion} of {last.n}"
        rows += [
            ("crashes", f"{last.crashes_candidate} of {last.n}", crashes),
            (
                "difference",
                f"{last.mean_difference:+.2f}",
                f"p = {last.p_better:.2g}, alpha {last.alpha:.3g}",
            ),
        ]
    return [*table(rows), f"decision   {verdict.decision.value}: {verdict.reason}"]


def _render_champion(summary: RunSummary) -> list[str]:
    if summary.champion_version is None:
        return ["champion   none yet"]
    origin = f"new: {summary.candidate}" if summary.champion_of_this_run else "from an earlier run"
    lines = [
        f"champion   version {summary.champion_version} ({origin})",
        f"           {summary.champion_uri}",
    ]
    if (
        summary.verdict is not None
        and summary.verdict.decision is Decision.PROMOTE
        and not summary.champion_of_this_run
    ):
        lines.append(
            "           the candidate was judged better, and was not put into service: see the "
            "task `promote`"
        )
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Align columns: the first to the left, the others to the right.

    >>> table([("a", "steps"), ("seed-0", "10")])
    ['a       steps', 'seed-0     10']
    """
    lines = list(rows)
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    ]
