"""The base of the operators of a run."""

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator

from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.run.run_resources import RunPlan


class RunOperator(BaseOperator):
    """The base of the operators of a run: the frozen plan, and a session as the launcher.

    :param plan: the run's plan as `freeze_spec` returned it.
    :param aws_conn_id: a connection of the launcher's; None: `nightshift_launcher` if defined, else
        the assumed role.
    """

    template_fields: Sequence[str] = ("plan",)
    plan = XComField()

    def __init__(self, *, plan: Any, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.aws_conn_id = aws_conn_id
        self.links: dict[str, str] = {}
        self._launcher: RoleSession | None = None

    def _plan(self) -> RunPlan:
        return RunPlan.from_value(value_of(self.plan), "the run's plan")

    def _session(self, plan: RunPlan) -> RoleSession:
        """Return the launcher's session, always the same: a new EC2 client takes 0.4 s of CPU."""
        if self._launcher is None:
            self._launcher = plan.session("launcher", self.aws_conn_id)
        return self._launcher
