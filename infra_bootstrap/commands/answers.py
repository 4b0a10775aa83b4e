"""What each command does: an answer for programs, and its text for people."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from infra_bootstrap.clients import Clients
from infra_bootstrap.commands.airflow_policy import airflow_policy
from infra_bootstrap.commands.policy_upload import upload_policy
from infra_bootstrap.commands.smoke import run_smoke
from infra_bootstrap.deployment import deploy, destroy, drift
from infra_bootstrap.deployment import plan as planning
from infra_bootstrap.preflight import checks as preflight
from infra_bootstrap.stacks.changes import summary
from infra_bootstrap.stacks.concerns import NEED_ARTIFACTS, Concern
from infra_bootstrap.stacks.costs import total
from infra_bootstrap.stacks.outputs import read_outputs
from infra_bootstrap.stacks.settings import DeploymentSettings

Answer = tuple[dict[str, Any], str]


class Command(NamedTuple):
    """One command, with everything it needs. :param say: tells a person how it goes on."""

    clients: Clients
    settings: DeploymentSettings
    arguments: argparse.Namespace
    say: Callable[[str], None]

    @property
    def only(self) -> Concern | None:
        """The stack that was named; None: all."""
        return Concern(self.arguments.stack) if self.arguments.stack else None


def deploy_stacks(order: Command) -> Answer:
    """Deploy."""
    results = deploy.deploy(
        order.clients, order.settings, order.say, order.only, check=not order.arguments.unchecked
    )
    stacks = {
        result.stack_name: result.model_dump(mode="json", exclude={"stack_name"})
        for result in results
    }
    text = "\n".join(
        f"{result.stack_name:<34} {result.outcome:<10} {result.changes}" for result in results
    )
    return {"environment": order.settings.environment, "stacks": stacks}, text


def bring_policy(order: Command) -> Answer:
    """Upload a policy, and say how it is imported."""
    done = upload_policy(order.clients, order.settings.environment, Path(order.arguments.policy))
    conf = json.dumps(
        {"experiment": "EXPERIMENT", "bundle": done.key, "origin": "who trained it, where, on what"}
    )
    text = (
        f"{done.key}\nnext: trigger the DAG import_policy with it, e.g. airflow dags trigger "
        f"import_policy --conf '{conf}'"
    )
    return {
        "environment": order.settings.environment,
        "bundle": done.key,
        "uploaded": done.n_new,
    }, text


def plan_stacks(order: Command) -> Answer:
    """Plan."""
    needed = order.only in (None, *NEED_ARTIFACTS)
    artifacts = (
        deploy.build_artifacts(order.clients, order.settings, order.say).artifacts
        if needed
        else None
    )
    plans = [
        planning.plan(order.clients, order.settings, concern, artifacts)
        for concern in Concern
        if order.only in (None, concern)
    ]
    usd, now = (
        total(plan.monthly_usd for plan in plans),
        total(plan.monthly_usd_now for plan in plans),
    )
    lines = [line for plan in plans for line in _plan_lines(plan)]
    lines.append(
        f"costs about {usd:.2f} USD a month while nothing runs, {now:.2f} as it is deployed now "
        "(approximate list prices of us-east-1); machines, requests and storage are extra"
    )
    answer = {
        "environment": order.settings.environment,
        "monthly_usd": usd,
        "monthly_usd_now": now,
        "stacks": [plan.model_dump(mode="json") for plan in plans],
    }
    return answer, "\n".join(lines)


def _plan_lines(plan: planning.StackPlan) -> list[str]:
    note = f" ({plan.note})" if plan.note else ""
    before = f", now {plan.monthly_usd_now:.2f}" if plan.monthly_usd != plan.monthly_usd_now else ""
    which = ", ".join(plan.costs) or "nothing costs"
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


def check_account(order: Command) -> Answer:
    """Preflight."""
    checks = preflight.run_checks(order.clients, order.settings)
    failed = preflight.failures(checks)
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
        "environment": order.settings.environment,
        "checks": [check.model_dump(mode="json") for check in checks],
        "exit_status": 1 if failed else 0,
    }
    return answer, "\n".join(lines)


def show_drift(order: Command) -> Answer:
    """Drift."""
    found = drift.find_drift(order.clients, order.settings.environment, order.only)
    lines = [f"{item.stack_name} {item.resource}: {item.what}" for item in found] or ["no drift"]
    answer = {
        "environment": order.settings.environment,
        "drift": [item.model_dump(mode="json") for item in found],
        "exit_status": 1 if found else 0,
    }
    return answer, "\n".join(lines)


def build_only(order: Command) -> Answer:
    """Build the artifacts."""
    answer = deploy.build_artifacts(order.clients, order.settings, order.say).artifacts.model_dump(
        mode="json"
    )
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def show_outputs(order: Command) -> Answer:
    """Read the outputs."""
    answer = read_outputs(order.clients, order.settings.environment).to_dict()
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def show_airflow_policy(order: Command) -> Answer:
    """Work out what an Airflow worker needs."""
    document = airflow_policy(order.clients, order.settings)
    return document, json.dumps(document, indent=2)


def smoke(order: Command) -> Answer:
    """Run once, for real money."""
    report = run_smoke(order.clients, order.settings, order.arguments.confirm, order.say)
    text = (
        f"trained {report.trained_steps} steps on one machine in {report.machine_seconds:g} s "
        "(about "
        f"{report.usd:.4f} USD by an approximate price table), evaluated (mean return "
        f"{report.mean_return}), destroyed, and "
        "nothing is left"
    )
    return report.model_dump(mode="json"), text


def destroy_stacks(order: Command) -> Answer:
    """Destroy."""
    arguments = order.arguments
    done = destroy.destroy(
        order.clients,
        order.settings,
        arguments.confirm,
        order.say,
        delete_bucket=arguments.delete_bucket,
    )
    why = f" ({done.why_kept})" if done.why_kept else ""
    lines = [
        f"deleted: {', '.join(done.deleted) or 'nothing'}",
        f"kept: {', '.join(done.kept) or 'nothing'}{why}",
        f"left over: {', '.join(done.leftovers) or 'nothing'}",
    ]
    return done.model_dump(mode="json") | {"exit_status": 1 if done.leftovers else 0}, "\n".join(
        lines
    )
