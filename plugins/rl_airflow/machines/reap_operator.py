"""The operator that ends machines after their deadline."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from airflow.sdk import BaseOperator, Context

from infra_bootstrap.reaper.reaper import overdue_reason
from rl_airflow.errors import EnvironmentNotReadyError, MachinesNotCheckedError, first_line
from rl_airflow.infrastructure.aws_errors import aws_errors, client_error
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.instances import Machines, TaggedMachine
from rl_lifecycle.aws_errors import ErrorKind, error_code, kind_of

log = logging.getLogger(__name__)

#: A machine ends itself at its deadline. The reaper ends it if it still runs this long afterwards.
GRACE = timedelta(minutes=10)


class Overdue(NamedTuple):
    """A machine that the reaper must end, and the reason."""

    machine: TaggedMachine
    reason: str


class Ec2ReapInstancesOperator(BaseOperator):
    """End, as the reaper, the environment's machines without a deadline or after their deadline.

    The first run of a DAG only lists, and so does every run with `dry_run` in its form. A wrong
    setup then shows before a machine is ended. A retry or a clear looks again. The scheduled Lambda
    of the evaluation stack does the same without Airflow.

    :param aws_conn_id: a connection of the reaper. None: `nightshift_reaper` if it is defined, else
        the assumed role.
    """

    def __init__(self, *, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """List the machines and end the overdue ones.

        :return: the ids that were ended, and the ids that a dry run would end.
        :raises MachinesNotCheckedError: if AWS is away or refuses a call. Airflow tries again.
        """
        try:
            ids, living, dry = self._reap(context)
        except aws_errors() as error:  # one line, without botocore's traceback
            raise MachinesNotCheckedError(first_line(error)) from None
        return {"ended": [] if dry else ids, "would_end": ids if dry else [], "living": living}

    def _reap(self, context: Context) -> tuple[list[str], int, bool]:
        """List the machines, and end the overdue ones unless this run only lists.

        :return: the ids of the overdue ones, how many live, and whether this run only lists.
        """
        params = context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        machines = self._find_machines(environment, region)
        living = list(machines.list({}))
        overdue = find_overdue(living, datetime.now(UTC), GRACE)
        dry = bool(params["dry_run"]) or (bool(params["dry_first_time"]) and _is_first_run(context))
        for one in overdue:
            log.warning(
                "%s %s of %s: %s",
                "would end" if dry else "ending",
                one.machine.machine.instance_id,
                one.machine.trial,
                one.reason,
            )
        ids = [one.machine.machine.instance_id for one in overdue]
        if not dry:
            machines.terminate(ids)
        log.info(
            "%d machines of environment %s, %d overdue%s",
            len(living),
            environment,
            len(ids),
            ", dry" if dry else "",
        )
        return ids, len(living), dry

    def _find_machines(self, environment: str, region: str | None) -> Machines:
        """Assume the reaper's role.

        :raises EnvironmentNotReadyError: if AWS refuses it: a deployment makes the role.
        """
        session = RoleSession("reaper", environment, self.aws_conn_id, region)
        try:
            return Machines(session.client("ec2"), environment)
        except client_error() as error:
            if kind_of(error_code(error)) is not ErrorKind.DENIED:
                raise
            raise EnvironmentNotReadyError(
                environment,
                f"the role nightshift-{environment}-reaper cannot be assumed ({error_code(error)})",
            ) from error


def find_overdue(living: Sequence[TaggedMachine], now: datetime, grace: timedelta) -> list[Overdue]:
    """Return the machines past their deadline, and older machines without a deadline."""
    return [
        Overdue(tagged, reason)
        for tagged in living
        if (reason := overdue_reason(tagged.tags, tagged.machine.launched_at, now, grace))
    ]


def _is_first_run(context: Context) -> bool:
    """Whether no run of this DAG has succeeded yet."""
    return (
        context.get("prev_data_interval_end_success") is None
        and context.get("prev_start_date_success") is None
    )
