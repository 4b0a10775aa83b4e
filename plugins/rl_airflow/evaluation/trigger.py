"""The trigger that waits until episodes are evaluated, or must be requested again."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rl_airflow.errors import PolicyNotEvaluatedError, first_line
from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import Gap, Job, Scene
from rl_airflow.infrastructure.patience import Outage
from rl_airflow.run.run_resources import RunPlan

FIRST_LOOK_S = 2.0


class LambdaEvaluationTrigger(BaseTrigger):
    """Watch the shards of some jobs.

    It fires when all shards exist, when a new gap opened, or when no shard came for too long.

    :param asked: the requested gaps, as [name, offset, episodes].
    :param quiet_s: after this time without a new shard the worker must look, seconds.
    :param waiter_delay: longest pause, seconds.
    :param lost: the gaps that were counted as lost, for the task that continues.
    :param probes: how many probes ran since the last news, for the same task.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        scene: dict[str, Any],
        jobs: list[dict[str, Any]],
        asked: list[list[Any]],
        quiet_s: float,
        waiter_delay: float = 10.0,
        token: Any = None,
        aws_conn_id: str | None = None,
        lost: list[list[Any]] | None = None,
        probes: int = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves its triggers untyped
        self.plan, self.scene, self.jobs, self.asked = plan, scene, jobs, asked
        self.quiet_s, self.waiter_delay, self.token, self.aws_conn_id = (
            quiet_s,
            waiter_delay,
            token,
            aws_conn_id,
        )
        self.lost, self.probes = lost or [], probes

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow makes the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "plan": self.plan,
            "scene": self.scene,
            "jobs": self.jobs,
            "asked": self.asked,
            "quiet_s": self.quiet_s,
            "waiter_delay": self.waiter_delay,
            "token": self.token,
            "aws_conn_id": self.aws_conn_id,
            **self._optional(),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to do, then yield one event.

        Its `quiet` is true if no new shard came for too long.
        """
        files = await asyncio.to_thread(self._files)
        jobs = [Job.from_value(job, "the trigger's arguments") for job in self.jobs]
        asked = {Gap(*gap) for gap in self.asked}
        before: list[Gap] | None = None
        in_flight, pause, news_at = asked, FIRST_LOOK_S, time.monotonic()
        outage = Outage("s3")
        quiet = False
        while not quiet:
            await asyncio.sleep(pause)
            try:
                gaps, unasked, in_flight = await asyncio.to_thread(files.find_missing, jobs, asked)
            except PolicyNotEvaluatedError:  # the worker decides what that costs
                break
            except Exception as error:  # an exception here would fail the task, but a look may fail
                self.log.warning("this look failed (%s); another follows", first_line(error))
                if outage.is_over(error):
                    break
                continue
            if outage.is_on:  # no shard could be seen, so nothing was quiet
                outage.end()
                news_at = time.monotonic()
            if gaps != before:
                before, news_at = gaps, news_at if before is None else time.monotonic()
            if unasked or not gaps:
                break
            quiet = time.monotonic() - news_at > self.quiet_s
            pause = min(self.waiter_delay, max(0.5, pause * 1.2))
        yield TriggerEvent(
            {
                "asked": [list(gap) for gap in sorted(in_flight)],
                "quiet": quiet,
                "token": self.token,
                **self._optional(news=in_flight != asked),
            }
        )  # type: ignore[no-untyped-call]

    def _optional(self, *, news: bool = False) -> dict[str, Any]:
        """What older triggers do not have: it is left out where it says nothing."""
        return ({"lost": self.lost} if self.lost else {}) | (
            {"probes": self.probes} if self.probes and not news else {}
        )

    def _files(self) -> EvaluationFiles:
        plan = RunPlan.from_value(self.plan, "the run's plan")
        session = plan.session(None, self.aws_conn_id)
        files = EvaluationFiles(
            plan.store(session), Scene.from_value(self.scene, "the trigger's arguments")
        )
        session.hurry()  # the trigger looks again by itself
        return files
