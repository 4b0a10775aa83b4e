"""The function that carries out each command, and returns its answer as JSON and as text."""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from infra_bootstrap.clients import Clients
from infra_bootstrap.commands.airflow_policy import (
    airflow_policy,
    api_server_policy,
    log_policy,
)
from infra_bootstrap.commands.champion_restoration import restore_in_bucket
from infra_bootstrap.commands.policy_upload import upload_policy
from infra_bootstrap.commands.price_refresh import describe, refresh_prices
from infra_bootstrap.commands.run_export import export_from_bucket
from infra_bootstrap.commands.smoke import run_smoke
from infra_bootstrap.deployment import deploy, destroy, drift
from infra_bootstrap.deployment import plan as planning
from infra_bootstrap.deployment.experiment_roles import deploy_experiment
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight import checklist
from infra_bootstrap.stacks.changes import summary
from infra_bootstrap.stacks.concerns import NEED_ARTIFACTS, Concern
from infra_bootstrap.stacks.costs import total
from infra_bootstrap.stacks.outputs import read_outputs
from infra_bootstrap.stacks.price_list import PRICES_REGION
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.registry.restoration import describe_restoration

Answer = tuple[dict[str, Any], str]


class Command(NamedTuple):
    """One command, with everything that it needs.

    :param say: prints a line of progress for a person.
    """

    clients: Clients
    settings: DeploymentSettings
    arguments: argparse.Namespace
    say: Callable[[str], None]

    @property
    def only(self) -> Concern | None:
        """The stack that the user named. None means all stacks."""
        return Concern(self.arguments.stack) if self.arguments.stack else None


def deploy_stacks(command: Command) -> Answer:
    """Deploy the stacks, or only the role of an experiment's machines."""
    if command.arguments.experiment is not None:
        return _deploy_experiment(command, command.arguments.experiment)
    results = deploy.deploy(
        command.clients,
        command.settings,
        command.say,
        command.only,
        check=not command.arguments.unchecked,
    )
    stacks = {
        result.stack_name: result.model_dump(mode="json", exclude={"stack_name"})
        for result in results
    }
    text = "\n".join(
        f"{result.stack_name:<34} {result.outcome:<10} {result.changes}" for result in results
    )
    return {"environment": command.settings.environment, "stacks": stacks}, text


def _deploy_experiment(command: Command, experiment: str) -> Answer:
    environment = command.settings.environment
    name, outcome = deploy_experiment(command.clients, environment, experiment)
    text = f"{name:<34} {outcome:<10} new runs of {experiment} use its role"
    return {"environment": environment, "stacks": {name: {"outcome": str(outcome)}}}, text


def write_prices(command: Command) -> Answer:
    """Write the tables of prices anew, from AWS's prices in the region."""
    pricing = command.clients.client("pricing", PRICES_REGION)
    output = command.arguments.output
    answer = refresh_prices(
        pricing,
        command.clients.ec2,
        datetime.now(UTC),
        Path(output) if output else None,
    )
    return answer, describe(answer)


def restore_champion(command: Command) -> Answer:
    """Restore a lost pointer to an experiment's champion."""
    environment = command.settings.environment
    done = restore_in_bucket(command.clients, environment, command.arguments.experiment)
    return done._asdict(), describe_restoration(done)


def send_policy(command: Command) -> Answer:
    """Upload a policy, and print the command that imports it."""
    environment = command.settings.environment
    done = upload_policy(command.clients, environment, Path(command.arguments.policy))
    conf = json.dumps(
        {"experiment": "EXPERIMENT", "bundle": done.key, "origin": "who trained it, where, on what"}
    )
    text = (
        f"{done.key}\nnext: trigger the DAG import_policy with it, e.g. airflow dags trigger "
        f"import_policy --conf '{conf}'"
    )
    return {
        "environment": environment,
        "bundle": done.key,
        "uploaded": done.n_new,
    }, text


def export_run(command: Command) -> Answer:
    """Write a run for TensorBoard or MLflow."""
    arguments = command.arguments
    return export_from_bucket(
        command.clients,
        command.settings.environment,
        arguments.run,
        arguments.to,
        experiment=arguments.experiment,
        output=Path(arguments.output) if arguments.output else None,
    )


def plan_stacks(command: Command) -> Answer:
    """Plan what `deploy` would change, and what the stacks would cost a month."""
    artifacts = None
    if command.only in (None, *NEED_ARTIFACTS):
        built = deploy.build_artifacts(command.clients, command.settings, command.say)
        artifacts = built.artifacts
    plans = [
        planning.plan(command.clients, command.settings, concern, artifacts)
        for concern in Concern
        if command.only in (None, concern)
    ]
    usd = total(plan.monthly_usd for plan in plans)
    now = total(plan.monthly_usd_now for plan in plans)

    lines = [line for plan in plans for line in _plan_lines(plan)]
    lines.append(
        f"costs about {usd:.2f} USD a month while nothing runs, {now:.2f} as it is deployed now "
        "(approximate list prices of us-east-1); machines, requests and storage are extra"
    )
    answer = {
        "environment": command.settings.environment,
        "monthly_usd": usd,
        "monthly_usd_now": now,
        "stacks": [plan.model_dump(mode="json") for plan in plans],
    }
    return answer, "\n".join(lines)


def _plan_lines(plan: planning.StackPlan) -> list[str]:
    note = f" ({plan.note})" if plan.note else ""
    before = f", now {plan.monthly_usd_now:.2f}" if plan.monthly_usd != plan.monthly_usd_now else ""
    which = ", ".join(plan.costs) or "no resource costs anything"
    costs = (
        f"; {plan.monthly_usd:.2f} USD a month ({which}){before}"
        if plan.monthly_usd or before
        else ""
    )
    lines = [f"{plan.stack_name}: {summary(plan.changes)}{note}{costs}"]
    for change in plan.changes:
        properties = f" {', '.join(change.properties)}" if change.properties else ""
        lines.append(f"  {change.kind:<15} {change.resource} ({change.type}){properties}")
    return lines


def check_account(command: Command) -> Answer:
    """Check the account before anything is made."""
    checks = checklist.run_checks(command.clients, command.settings)
    failed = checklist.failures(checks)
    lines = [
        f"{check.verdict:<8} {check.name:<36} {check.found}"
        + (f"\n{'':<9}{'':<36} → {check.fix}" if check.fix else "")
        for check in checks
    ]
    lines.append(
        "ready to deploy"
        if not failed
        else f"{len(failed)} of {len(checks)} checks failed; nothing was made"
    )
    answer = {
        "environment": command.settings.environment,
        "checks": [check.model_dump(mode="json") for check in checks],
        "exit_status": 1 if failed else 0,
    }
    return answer, "\n".join(lines)


def show_drift(command: Command) -> Answer:
    """List what was changed by hand since it was deployed."""
    found = drift.find_drift(command.clients, command.settings.environment, command.only)
    lines = [f"{item.stack_name} {item.resource}: {item.what}" for item in found] or ["no drift"]
    answer = {
        "environment": command.settings.environment,
        "drift": [item.model_dump(mode="json") for item in found],
        "exit_status": 1 if found else 0,
    }
    return answer, "\n".join(lines)


def build_only(command: Command) -> Answer:
    """Build the artifacts into the cache."""
    built = deploy.build_artifacts(command.clients, command.settings, command.say)
    answer = built.artifacts.model_dump(mode="json")
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def show_outputs(command: Command) -> Answer:
    """Read the outputs of the stacks."""
    answer = read_outputs(command.clients, command.settings.environment).to_dict()
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def show_airflow_policy(command: Command) -> Answer:
    """Work out the policy of an Airflow worker or an API server, or that for a bucket of logs."""
    writes, reads = command.arguments.log_bucket, command.arguments.read_log_bucket
    bucket = reads if writes is None else writes
    if command.arguments.api_server:
        document = api_server_policy(command.clients, command.settings.environment)
    elif bucket is None:
        document = airflow_policy(command.clients, command.settings)
    else:
        session = command.clients.session  # without credentials it knows only its region
        partition = session.get_partition_for_region(session.region_name)
        document = log_policy(partition, bucket, read_only=writes is None)
    return document, json.dumps(document, indent=2)


def smoke(command: Command) -> Answer:
    """Train and evaluate once on a real account. This costs money."""
    report = run_smoke(command.clients, command.settings, command.arguments.confirm, command.say)
    text = (
        f"trained {report.trained_steps} steps on one machine in {report.machine_seconds:g} s "
        f"(about {report.usd:.4f} USD by an approximate price table), evaluated (mean return "
        f"{report.mean_return}), destroyed, and nothing is left"
    )
    return report.model_dump(mode="json"), text


def destroy_stacks(command: Command) -> Answer:
    """Delete the environment, and prove that nothing is left.

    :raises BadInputError: if one stack was named, because more would be deleted than was named.
    """
    arguments = command.arguments
    if command.only is not None:
        raise BadInputError(
            f"destroy deletes the whole environment {command.settings.environment}, and not the "
            f"stack {command.only} alone: leave out --stack, or delete the one stack with "
            "`aws cloudformation delete-stack`"
        )
    done = destroy.destroy(
        command.clients,
        command.settings,
        arguments.confirm,
        command.say,
        delete_bucket=arguments.delete_bucket,
    )
    why = f" ({done.why_kept})" if done.why_kept else ""
    lines = [
        f"deleted: {', '.join(done.deleted) or 'nothing'}",
        f"kept: {', '.join(done.kept) or 'nothing'}{why}",
        f"left over: {', '.join(done.leftovers) or 'nothing'}",
    ]
    if done.unknown:
        lines.append(f"not looked at: {', '.join(done.unknown)}")
    answer = done.model_dump(mode="json") | {"exit_status": 1 if done.leftovers else 0}
    return answer, "\n".join(lines)
