"""The operators of the infrastructure: build and upload artifacts, deploy and delete stacks.

They use the connection `nightshift_deployer` if it is defined. Otherwise they use the credentials
of the process. The first time these are an administrator's, and later the Airflow worker's.
CloudFormation itself acts as the deployer.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.infrastructure.form_values import TEMPLATE_PARAMETERS, environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.infrastructure.stack_trigger import CloudFormationStackTrigger

if TYPE_CHECKING:
    from infra_bootstrap.clients import Clients
    from infra_bootstrap.deployment.one_stack import Prepared
    from infra_bootstrap.stacks.settings import DeploymentSettings

log = logging.getLogger(__name__)

#: The worker waits this long before it defers: a small or unchanged stack is done by then.
LOOK_HERE_S, LOOK_EVERY_S = 4.0, 0.3
#: The longest wait for another deployment of the same stack.
BUSY_WITHIN_S, BUSY_EVERY_S = 900.0, 5.0


class DeploymentOperator(BaseOperator):
    """The base of the operators of the infrastructure: the form's settings, and the AWS clients.

    :param aws_conn_id: a connection. None: `nightshift_deployer` if it is defined, else the
        process's credentials.
    """

    def __init__(self, *, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id

    def _clients(self, context: Context) -> "Clients":
        from infra_bootstrap.clients import Clients

        params = context["params"]
        region = params.get("region_name") or None
        return Clients(
            RoleSession("deployer", environment_of(params), self.aws_conn_id, region).session
        )

    def _settings(self, context: Context) -> "DeploymentSettings":
        from infra_bootstrap.errors import BadInputError
        from infra_bootstrap.stacks.settings import DeploymentSettings
        from infra_bootstrap.stacks.template_files import check_parameters

        params = context["params"]
        given = {
            name: str(params[field])
            for field, name in TEMPLATE_PARAMETERS.items()
            if params.get(field) not in (None, "")
        }
        try:
            check_parameters(given)
            return DeploymentSettings(
                environment_of(params),
                params.get("airflow_role_name") or None,
                params.get("lambda_runtime") or None,
                given,
            )
        except BadInputError as error:
            raise AirflowFailException(str(error)) from None


class StsCheckAccessOperator(DeploymentOperator):
    """Log account, region and caller, and refuse a deployment that cannot work.

    This changes nothing.

    Before a new stack is created, the account is checked like by `python -m infra_bootstrap
    preflight`. After a failure, apply the fix and clear the task.
    """

    def execute(self, context: Context) -> dict[str, str]:
        """Check. :return: account, region and caller."""
        settings, clients = self._settings(context), self._clients(context)
        if not clients.region or clients.region == "None":
            raise AirflowFailException(
                "no AWS region: choose one in the form, or set AWS_DEFAULT_REGION for the worker"
            )
        log.info(
            "environment %s in %s of account %s, as %s",
            settings.environment,
            clients.region,
            clients.account_id,
            clients.identity["Arn"],
        )
        self._refuse_what_would_fail(clients, settings)
        return {
            "environment": settings.environment,
            "account_id": clients.account_id,
            "region": clients.region,
            "caller": clients.identity["Arn"],
        }

    def _refuse_what_would_fail(self, clients: "Clients", settings: "DeploymentSettings") -> None:
        from infra_bootstrap.errors import PreflightFailedError
        from infra_bootstrap.preflight.checklist import refuse_what_would_fail

        try:
            checks = refuse_what_would_fail(clients, settings)
        except PreflightFailedError as error:
            raise AirflowFailException(str(error)) from None
        for check in checks:
            log.info(
                "%-8s %-36s %s%s",
                check.verdict,
                check.name,
                check.found,
                f" → {check.fix}" if check.fix else "",
            )


class S3BuildArtifactsOperator(DeploymentOperator):
    """Build the artifacts that machines and functions run, or find them in the cache.

    A retry or a clear builds the same bytes.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Build. :return: keys and digests as JSON."""
        from infra_bootstrap.deployment.deploy import build_artifacts
        from infra_bootstrap.errors import BadInputError

        try:
            built = build_artifacts(self._clients(context), self._settings(context), log.info)
        except BadInputError as error:
            raise AirflowFailException(str(error)) from None
        artifacts: dict[str, Any] = built.artifacts.model_dump(mode="json")
        return artifacts


class S3UploadArtifactsOperator(DeploymentOperator):
    """Upload the artifacts that are missing in the bucket, as the launcher.

    It takes them from the cache of `build_artifacts`, or builds them on this worker. Stacks use the
    keys that this task returns, so they name only uploaded artifacts. A retry or a clear uploads
    the missing ones.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload. :return: keys and digests as JSON."""
        from infra_bootstrap.deployment.deploy import build_artifacts, upload_artifacts

        clients, settings = self._clients(context), self._settings(context)
        built = build_artifacts(clients, settings)
        count = upload_artifacts(clients, settings, built)
        log.info("artifacts: %s uploaded", count or "nothing")
        artifacts: dict[str, Any] = built.artifacts.model_dump(mode="json")
        return artifacts


class CloudFormationDeployStackOperator(DeploymentOperator):
    """Deploy one stack through a change set. Defers while CloudFormation works.

    A retry or a clear compares the stack with its template again. A finished stack is UNCHANGED. A
    running deployment, even of an earlier try, is waited for. A failed deployment was rolled back
    and is tried again. Killing the task does not stop CloudFormation.

    :param concern: identity, network, storage, training or evaluation.
    :param artifacts: what `upload_artifacts` returned; needed for training and evaluation.
    :param deferrable: True waits in the triggerer. False waits in the worker and holds a slot.
    """

    template_fields: Sequence[str] = ("artifacts",)

    def __init__(
        self,
        *,
        concern: str,
        artifacts: Any = None,
        deferrable: bool = True,
        waiter_delay: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.concern, self.artifacts = concern, artifacts
        self.deferrable, self.waiter_delay = deferrable, waiter_delay

    def execute(self, context: Context) -> dict[str, Any]:
        """Prepare, start, and wait. :return: the stack's name, its outcome and what changed."""
        from infra_bootstrap.deployment.one_stack import start
        from infra_bootstrap.stacks.changes import summary

        clients = self._clients(context)
        prepared = _when_idle(lambda: self._prepare(clients, context))
        if prepared.change_set:
            log.info("%s: %s", prepared.stack_name, summary(prepared.changes))
            start(clients, prepared)
        return self._until_done(
            context, clients, prepared, LOOK_HERE_S if self.deferrable else float("inf")
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue after the trigger has fired: CloudFormation has ended."""
        from infra_bootstrap.deployment.one_stack import Prepared

        return self._until_done(
            context,
            self._clients(context),
            Prepared.from_value(event["prepared"], "the prepared stack"),
            LOOK_HERE_S,
        )

    def _prepare(self, clients: "Clients", context: Context) -> "Prepared":
        from infra_bootstrap.artifacts.sets import ArtifactSet
        from infra_bootstrap.deployment.one_stack import prepare
        from infra_bootstrap.errors import BadInputError, IdentityChangedError
        from infra_bootstrap.stacks.concerns import Concern

        artifacts = (
            ArtifactSet.from_value(self.artifacts, "the artifacts") if self.artifacts else None
        )
        try:
            return prepare(clients, self._settings(context), Concern(self.concern), artifacts)
        except (BadInputError, IdentityChangedError) as error:
            raise AirflowFailException(str(error)) from None

    def _until_done(
        self, context: Context, clients: "Clients", prepared: "Prepared", look_s: float
    ) -> dict[str, Any]:
        from infra_bootstrap.deployment.one_stack import poll, protect
        from infra_bootstrap.stacks.changes import summary

        until = time.monotonic() + look_s
        while (progress := poll(clients, prepared)).outcome is None:
            if time.monotonic() > until:
                self.defer(
                    method_name="execute_complete",
                    trigger=CloudFormationStackTrigger(
                        prepared=prepared.model_dump(mode="json"),
                        region_name=context["params"].get("region_name") or None,
                        aws_conn_id=self.aws_conn_id,
                        waiter_delay=self.waiter_delay,
                    ),
                )
            time.sleep(LOOK_EVERY_S)
        protect(clients, prepared)
        log.info("%s: %s", prepared.stack_name, progress.outcome)
        return {
            "stack_name": prepared.stack_name,
            "outcome": progress.outcome.upper(),
            "changes": summary(prepared.changes),
        }


class CloudFormationSummariseOperator(DeploymentOperator):
    """Log the outcome of each stack and the outputs. A retry or a clear logs them again.

    :param results: what the deploying tasks returned.
    """

    template_fields: Sequence[str] = ("results",)

    def __init__(self, *, results: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.results = results

    def execute(self, context: Context) -> dict[str, Any]:
        """Summarise. :return: outcomes by stack, and the outputs."""
        from infra_bootstrap.stacks.outputs import read_outputs

        outputs = read_outputs(self._clients(context), environment_of(context["params"]))
        outcomes = {result["stack_name"]: result["outcome"] for result in self.results}
        lines = [
            f"{result['stack_name']:<34} {result['outcome']:<10} {result['changes']}"
            for result in self.results
        ]
        log.info("\n%s\nbucket %s", "\n".join(lines), outputs.bucket)
        return {"stacks": outcomes, "outputs": outputs.to_dict()}


class CloudFormationDestroyEnvironmentOperator(DeploymentOperator):
    """Delete an environment's stacks and prove that none is left.

    This is refused while machines run.

    The form must hold the environment's exact name. The bucket stays, because it holds all trained,
    judged and promoted policies; only an administrator can delete it, from a shell. A retry or a
    clear continues with the remaining stacks.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete the stacks.

        :return: the deleted and the kept resources. The list of leftovers is empty.
        """
        from infra_bootstrap.deployment.destroy import destroy
        from infra_bootstrap.errors import (
            AccessRefusedError,
            InstancesRunningError,
            NotConfirmedError,
        )

        try:
            done = destroy(
                self._clients(context),
                self._settings(context),
                context["params"]["confirm"],
                log.info,
            )
        except (AccessRefusedError, InstancesRunningError, NotConfirmedError) as error:
            raise AirflowFailException(str(error)) from None
        log.info(
            "deleted: %s\nkept: %s\nleft over: %s",
            ", ".join(done.deleted) or "nothing",
            ", ".join(done.kept) or "nothing",
            ", ".join(done.leftovers) or "nothing",
        )
        if done.leftovers:
            raise AirflowFailException(
                f"left over: {', '.join(done.leftovers)}; clear this task, or delete them by hand"
            )
        told: dict[str, Any] = done.model_dump(mode="json")
        return told


def _when_idle(prepare: "Callable[[], Prepared]") -> "Prepared":
    """Prepare a stack. If another deployment of it is running, wait until that has ended."""
    from infra_bootstrap.errors import StackBusyError

    until = time.monotonic() + BUSY_WITHIN_S
    while True:
        try:
            return prepare()
        except StackBusyError as error:
            if time.monotonic() > until:
                raise
            log.info("%s", error)
            time.sleep(BUSY_EVERY_S)
