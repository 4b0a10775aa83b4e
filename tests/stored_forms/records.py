"""Every record that is stored or read by another process, by the name of its pin.

The name is the stored one. It stays when a class is renamed or moves to another module.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import infra_bootstrap
import rl_airflow
import rl_evaluator
import rl_lifecycle
import rl_trainer
from infra_bootstrap.artifacts import sets
from infra_bootstrap.commands import smoke
from infra_bootstrap.deployment import deploy, destroy, drift, one_stack, plan
from infra_bootstrap.preflight import results
from infra_bootstrap.stacks import changes
from rl_airflow.evaluation import evaluator as asked
from rl_airflow.evaluation import selection_operator
from rl_airflow.run import abandoned_runs, run_resources, trial_ends
from rl_airflow.trials import log_relay, task_state
from rl_evaluator import messages
from rl_lifecycle.evaluation import (
    decision_reports,
    early_stops,
    lost_episodes,
    pair_statistics,
    policies,
    requests,
    selection,
    verdicts,
)
from rl_lifecycle.experiment import (
    compute_settings,
    evaluation_settings,
    experiment,
    seeds,
    spec,
    trial_plans,
    wrappers,
)
from rl_lifecycle.machines import ledger, machine_attempts
from rl_lifecycle.records.record import Record
from rl_lifecycle.registry import contents, promotion, replays, versions
from rl_lifecycle.reports import run_outcomes, run_summary
from rl_lifecycle.trials import (
    actions,
    checkpoints,
    evidence,
    gangs,
    heartbeats,
    recoveries,
    states,
)
from tests.stored_forms.record_values import make_record, nested_forms

RECORDS: dict[str, type[Record]] = {
    # in the bucket
    "artifact": spec.Artifact,
    "attempt": machine_attempts.Attempt,
    "attempt_outcome": machine_attempts.AttemptOutcome,
    "champion_pointer": contents.ChampionPointer,
    "checkpoint_file": checkpoints.StoredFile,
    "checkpoint_manifest": checkpoints.CheckpointManifest,
    "experiment": experiment.Experiment,
    "experiment_compute": compute_settings.Compute,
    "experiment_compute_collectors": compute_settings.Collectors,
    "experiment_early_stop": evaluation_settings.EarlyStop,
    "experiment_evaluation": evaluation_settings.Evaluation,
    "experiment_gate": evaluation_settings.GateSettings,
    "experiment_perturbation": evaluation_settings.Perturbation,
    "experiment_scenario": evaluation_settings.Scenario,
    "gang_generation": gangs.Generation,
    "gang_member": gangs.Member,
    "head": checkpoints.Head,
    "heartbeat": heartbeats.Heartbeat,
    "heartbeat_announcement": gangs.Announcement,
    "heartbeat_gang": gangs.GangReport,
    "heartbeat_gang_member": gangs.MemberReport,
    "history_entry": contents.HistoryEntry,
    "import": versions.ImportRecord,
    "import_bundle": versions.ImportBundle,
    "launch_refusal": machine_attempts.Refusal,
    "ledger": ledger.Ledger,
    "ledger_entry": ledger.LedgerEntry,
    "ledger_evaluation": ledger.EvaluationEntry,
    "policy": policies.PolicyRecord,
    "policy_metadata": policies.PolicyMetadata,
    "policy_space": policies.SpaceForm,
    "policy_wrapper": wrappers.WrapperForm,
    "report": decision_reports.Report,
    "report_gate": verdicts.Gate,
    "report_pairs": pair_statistics.PairStatistics,
    "report_pairs_of_policy": pair_statistics.PolicyStatistics,
    "report_worst_pair": pair_statistics.WorstPair,
    "shard": requests.Shard,
    "spec": spec.Spec,
    "spec_champion": spec.Champion,
    "spec_evaluator": spec.EvaluatorVersion,
    "spec_replay": spec.Replay,
    "spec_trial": trial_plans.TrialPlan,
    "verdict": verdicts.Verdict,
    "verdict_guard": verdicts.Guard,
    "verdict_look": verdicts.Look,
    "verdict_lost_episodes": lost_episodes.LostEpisodes,
    "version_claim": contents.VersionClaim,
    "version_manifest": contents.VersionManifest,
    "wheel_set": spec.WheelSet,
    # requests to the evaluator's function, and its answers
    "answer_check_environment": requests.EnvironmentReport,
    "answer_check_policy": requests.PolicyReport,
    "request_check_environment": requests.CheckEnvironmentRequest,
    "request_check_policy": requests.CheckPolicyRequest,
    "request_decide": requests.DecideRequest,
    "request_evaluate": requests.EvaluateRequest,
    "request_render_report": requests.RenderReportRequest,
    # XCom, trigger arguments, trigger events, task state, a run's configuration
    "abandoned_run": abandoned_runs.AbandonedRun,
    "evaluation_job": asked.Job,
    "evaluation_scene": asked.Scene,
    "evidence": evidence.Evidence,
    "evidence_machine": evidence.Machine,
    "evidence_patience": evidence.Patience,
    "evidence_progress": evidence.StepProgress,
    "evidence_seat": evidence.SeatEvidence,
    "prepared_change": changes.Change,
    "prepared_stack": one_stack.Prepared,
    "task_memory": task_state.TaskMemory,
    "task_memory_told": log_relay.LogPosition,
    "xcom_artifact_set": sets.ArtifactSet,
    "xcom_candidate": selection_operator.Candidate,
    "xcom_plan": run_resources.RunPlan,
    "xcom_promotion": promotion.Promotion,
    "xcom_recovery": recoveries.Recovery,
    "xcom_replay_answer": replays.ReplayAnswer,
    "xcom_run_summary": run_summary.RunSummary,
    "xcom_trial_end": trial_ends.TrialEnd,
    "xcom_trial_summary": run_summary.TrialSummary,
    # answers of `python -m infra_bootstrap … --json`
    "cli_check": results.Check,
    "cli_destruction": destroy.Destruction,
    "cli_drift": drift.Drift,
    "cli_smoke_report": smoke.SmokeReport,
    "cli_stack_plan": plan.StackPlan,
    "cli_stack_result": deploy.StackResult,
}
#: Records that no process of another version reads, so their form may change.
NOT_STORED: set[type[Record]] = {
    # Dispatcher, player and judge are deployed together, and each version calls its own.
    messages.DrawRequest,
    messages.EpisodeToFilm,
    messages.FilmAnswer,
    messages.FilmRequest,
    messages.EpisodeFilm,
    messages.JudgeRequest,
    messages.PlayRequest,
    actions.Action,
    one_stack.StackProgress,
    early_stops.CurvePoint,
    ledger.MonthTotal,
    run_outcomes.RunFacts,
    run_outcomes.RunStep,
    seeds.SeedRange,
    selection.Contender,
    states.Finding,
}
ROOMS = (infra_bootstrap, rl_airflow, rl_evaluator, rl_lifecycle, rl_trainer)


def find_records() -> set[type[Record]]:
    """Find every record by importing the modules that define records."""
    for room in ROOMS:
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            path = getattr(module.module_finder, "path", "")
            name = module.name.rsplit(".", 1)[-1]
            text = _source(path, name)
            if "Record)" in text and name != "__main__":
                importlib.import_module(module.name)
    return {
        form
        for form in _below(Record)
        if form.__module__.split(".")[0] in _room_names()
        and not form.__module__.endswith(".__main__")
    }


def _source(folder: str, name: str) -> str:
    file = Path(folder, f"{name}.py")
    file = file if file.is_file() else Path(folder, name, "__init__.py")
    return file.read_text() if file.is_file() else ""


def _room_names() -> set[str]:
    return {room.__name__ for room in ROOMS}


def _below(form: type[Record]) -> Iterator[type[Record]]:
    for one in form.__subclasses__():
        yield one
        yield from _below(one)


def schema_of(form: type[Record]) -> dict[str, Any]:
    """Describe a record's keys, types, limits and defaults; contained records have pins."""
    names = {one: name for name, one in RECORDS.items()}
    by_class = {one.__name__: names[one] for one in nested_forms(form)}
    schema = form.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs", {})
    if "$ref" in schema:  # a record that contains itself is described below its own name
        schema = definitions[form.__name__]
    return _plain(schema, definitions, by_class)


def _plain(node: Any, definitions: dict[str, Any], names: dict[str, str]) -> Any:
    """Remove texts for people, and insert what is referred to."""
    if isinstance(node, list):
        return [_plain(one, definitions, names) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = str(node["$ref"]).rsplit("/", 1)[-1]
        found = {"record": names[target]} if target in names else definitions[target]
        return _plain(
            {**found, **{k: v for k, v in node.items() if k != "$ref"}}, definitions, names
        )
    kept = {key: value for key, value in node.items() if key not in ("title", "description")}
    plain = {key: _plain(value, definitions, names) for key, value in kept.items()}
    if "default" in kept:
        plain["default"] = kept["default"]
    if "properties" in kept:  # its keys are the record's own, so none is removed
        plain["properties"] = {
            name: _plain(one, definitions, names) for name, one in kept["properties"].items()
        }
    return plain


def record_pin(name: str, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe a record by its schema and the bytes of a full and a minimal value.

    :param before: the present pin, whose bytes are kept, because they are stored somewhere
    """
    form = RECORDS[name]
    now = {
        "full": make_record(form, full=True).to_json().decode(),
        "minimal": make_record(form, full=False).to_json().decode(),
    }
    before = before or {}
    replaced = [before[key] for key in now if key in before and before[key] != now[key]]
    earlier = [*before.get("earlier", []), *replaced]
    return {"schema": schema_of(form), **now, "earlier": earlier}
