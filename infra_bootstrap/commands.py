"""What each command does: an answer for programs, and its text for people."""

import argparse
from collections.abc import Callable
from typing import Any

from infra_bootstrap import bootstrap, destruction, planning
from infra_bootstrap.changes import summary
from infra_bootstrap.clients import Clients
from infra_bootstrap.outputs import read_outputs
from infra_bootstrap.settings import Settings
from infra_bootstrap.stacks import Concern

Say = Callable[[str], None]
Answer = tuple[dict[str, Any], str]


def deploy_stacks(clients: Clients, settings: Settings, arguments: argparse.Namespace, say: Say) -> Answer:
    """Deploy."""
    results = bootstrap.deploy(clients, settings, say, _only(arguments))
    stacks = {result.stack_name: result.model_dump(mode="json", exclude={"stack_name"}) for result in results}
    text = "\n".join(f"{result.stack_name:<34} {result.outcome:<10} {result.changes}" for result in results)
    return {"environment": settings.environment, "stacks": stacks}, text


def plan_stacks(clients: Clients, settings: Settings, arguments: argparse.Namespace, say: Say) -> Answer:
    """Plan."""
    only = _only(arguments)
    artifacts = bootstrap.build_artifacts(clients, settings, say).artifacts
    plans = [planning.plan(clients, settings, concern, artifacts) for concern in Concern if only in (None, concern)]
    lines = []
    for plan in plans:
        lines.append(f"{plan.stack_name}: {summary(plan.changes)}{f' ({plan.note})' if plan.note else ''}")
        lines += [f"  {change.kind:<15} {change.resource} ({change.type}){' ' + ', '.join(change.properties) if change.properties else ''}"
                  for change in plan.changes]
    return {"environment": settings.environment, "stacks": [plan.model_dump(mode="json") for plan in plans]}, "\n".join(lines)


def build_only(clients: Clients, settings: Settings, arguments: argparse.Namespace, say: Say) -> Answer:
    """Build the artifacts."""
    built = bootstrap.build_artifacts(clients, settings, say)
    answer = built.artifacts.model_dump(mode="json")
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def show_outputs(clients: Clients, settings: Settings, arguments: argparse.Namespace, say: Say) -> Answer:
    """Read the outputs."""
    answer = read_outputs(clients, settings.environment).to_dict()
    return answer, "\n".join(f"{name}: {value}" for name, value in answer.items())


def destroy_stacks(clients: Clients, settings: Settings, arguments: argparse.Namespace, say: Say) -> Answer:
    """Destroy."""
    done = destruction.destroy(clients, settings, arguments.confirm, say, delete_bucket=arguments.delete_bucket)
    lines = [f"deleted: {', '.join(done.deleted) or 'nothing'}", f"kept: {', '.join(done.kept) or 'nothing'}",
             f"left over: {', '.join(done.leftovers) or 'nothing'}"]
    return done.model_dump(mode="json") | {"exit_status": 1 if done.leftovers else 0}, "\n".join(lines)


def _only(arguments: argparse.Namespace) -> Concern | None:
    return Concern(arguments.stack) if arguments.stack else None
