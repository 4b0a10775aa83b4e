"""The trigger that waits for a CloudFormation stack."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.patience import Outage
from rl_airflow.infrastructure.sessions import RoleSession

FIRST_LOOK_S = 2.0


class CloudFormationStackTrigger(BaseTrigger):
    """Watch a stack's deployment. It fires when CloudFormation has ended, with or without success.

    :param prepared: `infra_bootstrap.deployment.one_stack.Prepared` as JSON.
    :param waiter_delay: longest pause between looks, seconds.
    """

    def __init__(
        self,
        prepared: dict[str, Any],
        region_name: str | None = None,
        aws_conn_id: str | None = None,
        waiter_delay: float = 10.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves its triggers untyped
        self.prepared, self.region_name = prepared, region_name
        self.aws_conn_id, self.waiter_delay = aws_conn_id, waiter_delay

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow makes the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "prepared": self.prepared,
            "region_name": self.region_name,
            "aws_conn_id": self.aws_conn_id,
            "waiter_delay": self.waiter_delay,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until CloudFormation has ended, then yield one event."""
        from infra_bootstrap.errors import StackFailedError

        pause, outage = FIRST_LOOK_S, Outage("cloudformation")
        while True:
            await asyncio.sleep(pause)
            try:
                if await asyncio.to_thread(self._is_done):
                    break
                outage.end()
            except StackFailedError:
                break  # the worker looks again, and says why
            except Exception as error:  # an exception here would fail the task, but a look may fail
                self.log.warning("this look failed (%s); another follows", first_line(error))
                if outage.is_over(error):
                    break
            pause = min(self.waiter_delay, pause * 1.2)
        yield TriggerEvent({"prepared": self.prepared})  # type: ignore[no-untyped-call]

    def _is_done(self) -> bool:
        from infra_bootstrap.clients import Clients
        from infra_bootstrap.deployment.one_stack import Prepared, poll

        prepared = Prepared.from_value(self.prepared, "the prepared stack")
        session = RoleSession(
            "deployer", prepared.environment, self.aws_conn_id, self.region_name
        ).session
        return poll(Clients(session), prepared).outcome is not None
