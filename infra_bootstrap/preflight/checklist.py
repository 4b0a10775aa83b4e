"""The list of all preflight checks, and the functions that run them. They change nothing.

A check that the caller lacks a permission for is a warning, not a failure. The warning names the
permission.
"""

from collections.abc import Callable, Iterator

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_refusal
from infra_bootstrap.errors import BadInputError, PreflightFailedError
from infra_bootstrap.preflight import account, environment, images, policies, region
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings

CHECKS: dict[str, Callable[[Situation], Iterator[Check]]] = {
    "who am I": account.check_caller,
    "region": region.check_region,
    "service control policies": policies.check_organisation,
    "Airflow's role": environment.check_airflow_role,
    "environment": environment.check_names,
    "permissions": account.check_permissions,
    "zones": environment.check_zones,
    "vCPUs": account.check_quotas,
    "VPCs": environment.check_vpcs,
    "free addresses": environment.check_addresses,
    "budget": environment.check_budget,
    "machine image": images.check_image,
    "volume key": environment.check_volume_key,
    "bucket": environment.check_bucket,
    "Lambda": account.check_lambda,
    "service-linked roles": account.check_service_roles,
    "stacks": environment.check_stacks,
}


def run_checks(clients: Clients, settings: DeploymentSettings) -> list[Check]:
    """Run every check, also after another one has failed.

    If the region cannot be used at all, the other checks are left out, because it refuses them.

    :raises ClientError: if AWS does not accept the credentials.
    """
    at = Situation(clients, settings)
    first = make_check("region", at)
    if failures(first):
        return first
    clients.account_id  # noqa: B018  no check can run without credentials that work
    rest = (name for name in CHECKS if name != "region")
    return first + [check for name in rest for check in make_check(name, at)]


def make_check(name: str, at: Situation) -> list[Check]:
    """Run one check.

    A call that AWS refuses gives a warning. It gives a failure if a policy of the organisation
    denies it, because no permission helps then. Bad input that the check finds gives a failure.
    """
    try:
        return list(CHECKS[name](at))
    except BadInputError as error:
        return [Check(name=name, verdict=CheckResult.FAILED, found=str(error), fix="see there")]
    except ClientError as error:
        if policies.denied_by_organisation(error):
            found = f"{error.operation_name}: {code_of(error)}"
            fix = policies.organisation_fix(at.clients.region)
            return [Check(name=name, verdict=CheckResult.FAILED, found=found, fix=fix)]
        fix = (
            f"allow {at.clients.identity['Arn']} what {error.operation_name} needs"
            if is_refusal(error)
            else ""
        )
        return [
            Check(
                name=name,
                verdict=CheckResult.WARNING,
                found=f"cannot be looked at: {code_of(error)}",
                fix=fix,
            )
        ]


def failures(checks: list[Check]) -> list[Check]:
    """Return the checks that failed."""
    return [check for check in checks if check.verdict is CheckResult.FAILED]


def refuse_what_would_fail(
    clients: Clients, settings: DeploymentSettings, only: Concern | None = None
) -> list[Check]:
    """Check the account before a new stack is made.

    If all stacks exist, no check is run, so that an update does not wait.

    :param only: the stack that will be deployed. None means all stacks.
    :return: the results of the checks.
    :raises PreflightFailedError: if a check failed. Then nothing was made.
    """
    concerns = [concern for concern in Concern if only in (None, concern)]
    stacks = [
        find_stack(clients, stack_name(settings.environment, concern)) for concern in concerns
    ]
    if all(stack is not None and not stack.is_dead for stack in stacks):
        return []
    checks = run_checks(clients, settings)
    if failed := failures(checks):
        raise PreflightFailedError(
            [f"{check.name}: {check.found} → {check.fix}" for check in failed]
        )
    return checks
