"""Deploy all stacks in order.

Identity comes first. Then come network and storage, while the artifacts are built. Training and
evaluation come last, because they need the artifacts.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.locks import LINUX
from infra_bootstrap.artifacts.sets import ArtifactSet, Built, build
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.clients import Clients, is_refusal
from infra_bootstrap.deployment.deletion import delays
from infra_bootstrap.deployment.one_stack import (
    Prepared,
    StackOutcome,
    StackProgress,
    poll,
    prepare,
    protect,
    start,
)
from infra_bootstrap.errors import StackFailedError
from infra_bootstrap.preflight.account import check_runtime, ensure_service_roles
from infra_bootstrap.preflight.checklist import refuse_what_would_fail
from infra_bootstrap.preflight.results import CheckResult
from infra_bootstrap.stacks.changes import summary
from infra_bootstrap.stacks.concerns import (
    NEED_ARTIFACTS,
    WAVES,
    Concern,
    bucket_name,
    role_name,
    stack_name,
)
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.parameters import lambda_runtime
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.records.record import Record

DEPLOY_WITHIN_S = 3600.0
Say = Callable[[str], None]


class StackResult(Record):
    """What a deployment did to a stack, and how many seconds it took."""

    stack_name: str
    outcome: StackOutcome
    changes: str
    seconds: float


def deploy(
    clients: Clients,
    settings: DeploymentSettings,
    say: Say,
    only: Concern | None = None,
    *,
    check: bool = True,
) -> list[StackResult]:
    """Make or update the stacks, so that they match the templates.

    Starts no machine. The stacks themselves cost a little each month.

    :param only: the stack to deploy. None means all stacks.
    :param check: whether to check the account before a new stack is made.
    :raises PreflightFailedError: if the account is not ready. Then nothing was made.
    :raises StackFailedError: if a stack fails. The finished stacks stay, and the same command
        continues.
    """
    if check:
        for found in refuse_what_would_fail(clients, settings, only):
            if found.verdict is CheckResult.WARNING:
                say(f"{found.name}: {found.found} → {found.fix}")
    results: list[StackResult] = []
    with ThreadPoolExecutor(1) as pool:
        building = (
            pool.submit(build_artifacts, clients, settings, say)
            if only in (None, *NEED_ARTIFACTS)
            else None
        )
        artifacts: ArtifactSet | None = None
        for wave in WAVES:
            concerns = [concern for concern in wave if only in (None, concern)]
            if building is not None and set(concerns) & set(NEED_ARTIFACTS):
                artifacts = _upload(clients, settings, building, say)
            results += deploy_side_by_side(clients, settings, concerns, artifacts, say)
            if Concern.IDENTITY in concerns:
                _ensure_service_roles(clients, say)
    return results


def _ensure_service_roles(clients: Clients, say: Say) -> None:
    """Make AWS's own role for Spot if the caller may do so. Airflow's role may not do so."""
    try:
        made = ensure_service_roles(clients)
    except ClientError as error:
        if not is_refusal(error):
            raise
        return
    if made:
        say(f"service-linked roles made: {', '.join(made)}")


def build_artifacts(
    clients: Clients, settings: DeploymentSettings, say: Say = lambda _: None
) -> Built:
    """Build what the machines and functions run, or find it in the cache.

    The wheels are for the Python of the machine image, the functions for Lambda's Python.

    :raises BuildFailedError: if something cannot be built.
    """
    began = time.monotonic()
    training = find_stack(clients, stack_name(settings.environment, Concern.TRAINING))
    evaluation = find_stack(clients, stack_name(settings.environment, Concern.EVALUATION))
    image = find_image(
        clients,
        settings.parameters.get("ImageId")
        or (training.parameters.get("ImageId") if training else None),
    )
    runtime = lambda_runtime(settings, evaluation.parameters if evaluation else None)
    check_runtime(clients, runtime)
    # Lambda runs Linux. Only the local AWS on a Mac has an image for macOS, and it runs the
    # functions on that Mac, too.
    platform = image.target.platform if image.target.platform.sys_platform == "darwin" else LINUX
    built = build(image.target, runtime, platform)
    say(
        f"artifacts: {len(built.wheels) - 1} wheels for Python {image.target.python}, functions "
        f"for {built.artifacts.lambda_runtime} ({time.monotonic() - began:.1f} s)"
    )
    return built


def upload_artifacts(clients: Clients, settings: DeploymentSettings, built: Built) -> int:
    """Upload the artifacts that the bucket lacks, as the launcher role. :return: how many."""
    bucket = bucket_name(settings.environment, clients.account_id, clients.region)
    launcher = clients.assume(
        clients.role_arn(role_name(settings.environment, "launcher")), "nightshift-upload"
    )
    return upload(launcher.s3, bucket, [*built.functions, *built.wheels])


def deploy_side_by_side(
    clients: Clients,
    settings: DeploymentSettings,
    concerns: Iterable[Concern],
    artifacts: ArtifactSet | None,
    say: Say,
) -> list[StackResult]:
    """Deploy several stacks at the same time. They must not need each other.

    :raises StackFailedError: the first failure, after all stacks have ended.
    """
    began = time.monotonic()
    started = [
        start(clients, prepare(clients, settings, concern, artifacts)) for concern in concerns
    ]
    results, failures = [], []
    for prepared in started:
        if prepared.change_set:
            say(f"{prepared.stack_name}: {summary(prepared.changes)}")
        try:
            progress = _await(clients, prepared)
        except StackFailedError as error:
            failures.append(error)
            continue
        protect(clients, prepared)
        results.append(_result(prepared, progress, time.monotonic() - began))
        say(f"{prepared.stack_name}: {results[-1].outcome}")
    if failures:
        raise failures[0]
    return results


def _upload(
    clients: Clients, settings: DeploymentSettings, building: "Future[Built]", say: Say
) -> ArtifactSet:
    built = building.result()
    count = upload_artifacts(clients, settings, built)
    say(f"artifacts: {count or 'nothing'} uploaded")
    return built.artifacts


def _await(clients: Clients, prepared: Prepared) -> StackProgress:
    for delay in delays(DEPLOY_WITHIN_S):
        progress = poll(clients, prepared)
        if progress.outcome:
            return progress
        time.sleep(delay)
    raise StackFailedError(
        prepared.stack_name,
        "no end",
        "",
        f"it was not done after {DEPLOY_WITHIN_S:g} s.",
        prepared.command,
    )


def _result(prepared: Prepared, progress: StackProgress, seconds: float) -> StackResult:
    return StackResult(
        stack_name=prepared.stack_name,
        outcome=progress.outcome or StackOutcome.UNCHANGED,
        changes=summary(prepared.changes),
        seconds=round(seconds, 2),
    )
