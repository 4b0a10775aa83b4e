"""Plan what `deploy` would do to a stack, without doing it."""

from typing import Any, Self

from infra_bootstrap.artifacts.sets import ArtifactSet
from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.one_stack import create_change_set, find_differences
from infra_bootstrap.deployment.recovery import is_airflow
from infra_bootstrap.stacks.changes import Change, additions, completed, read_changes
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.costs import explain, monthly_usd
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.parameters import plan_parameters
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import deployed_template, resources_made, resources_of
from rl_lifecycle.records.record import Record


class StackPlan(Record):
    """What `deploy` would do to a stack.

    :param status: CloudFormation's status of the stack now. It is empty if there is no stack.
    :param note: a remark for a person, such as who must deploy it.
    :param monthly_usd: what the stack would cost a month while nothing runs, US dollars.
    :param costs: the resources that cost something, each with its price.
    :param monthly_usd_now: what the deployed stack costs a month, US dollars. It is 0 if the
        stack is not deployed.
    """

    stack_name: str
    status: str
    changes: tuple[Change, ...]
    note: str = ""
    monthly_usd: float = 0.0
    costs: tuple[str, ...] = ()
    monthly_usd_now: float = 0.0

    def with_changes(self, changes: tuple[Change, ...]) -> Self:
        """Return the plan with the changes that a deployment would make."""
        return self.model_copy(update={"changes": changes})

    def with_note(self, note: str) -> Self:
        """Return the plan with a note for the person who reads it."""
        return self.model_copy(update={"note": note})

    def with_cost_now(self, monthly_usd_now: float) -> Self:
        """Return the plan with what the deployed stack costs a month, US dollars."""
        return self.model_copy(update={"monthly_usd_now": monthly_usd_now})


def plan(
    clients: Clients, settings: DeploymentSettings, concern: Concern, artifacts: ArtifactSet | None
) -> StackPlan:
    """Plan a stack.

    The plan of a new stack comes from its template. The plan of an existing stack comes from a
    change set, which is deleted again.

    :raises BadInputError: if a parameter is not allowed.
    """
    name = stack_name(settings.environment, concern)
    stack = find_stack(clients, name)
    living = stack if stack is not None and not stack.is_dead else None
    values = plan_parameters(
        clients, settings, concern, living.parameters if living else None, artifacts
    )
    made = resources_made(concern, values | {"AWS::Region": clients.region})
    found = StackPlan(
        stack_name=name,
        status=stack.status if stack else "",
        changes=(),
        monthly_usd=monthly_usd(made),
        costs=tuple(explain(made)),
    )
    if living is None:
        return found.with_changes(additions(made))
    differences = find_differences(clients, concern, living, values)
    if not differences:
        return found.with_cost_now(found.monthly_usd)
    before = _deployed_resources(clients, living)
    found = found.with_cost_now(monthly_usd(before))
    if concern is Concern.IDENTITY and is_airflow(clients, living.parameters):
        note = f"an administrator must change {', '.join(differences)}: `{settings.command}`"
        return found.with_note(note)
    answer = create_change_set(clients, settings, concern, values, living.parameters)
    if answer is None:
        return found
    clients.cloudformation.delete_change_set(StackName=name, ChangeSetName=answer["ChangeSetId"])
    return found.with_changes(completed(read_changes(answer), before, made))


def _deployed_resources(clients: Clients, stack: DeployedStack) -> dict[str, dict[str, Any]]:
    """Return the resources of the deployed template, which may differ from today's template."""
    body = clients.cloudformation.get_template(StackName=stack.name, TemplateStage="Original")[
        "TemplateBody"
    ]
    return resources_of(
        deployed_template(body), {**stack.parameters, "AWS::Region": clients.region}
    )
