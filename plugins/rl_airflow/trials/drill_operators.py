"""The operators of the drill: terminate a machine on purpose, and measure the recovery."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.machines.instances import Machines
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.attempt_files import AttemptFiles
from rl_lifecycle.storage.layout import head_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.recoveries import find_recoveries

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class Ec2InterruptTrialOperator(RunOperator):
    """Terminate a trial's machine as soon as it has committed a checkpoint.

    Only for the drill, because the machine's uncommitted work is lost. A retry or a clear does not
    interrupt again if a machine of the trial was already lost.

    :param waiter_max_seconds: longest time until the first checkpoint, seconds.
    """

    template_fields: Sequence[str] = ("plan", "trial")

    def __init__(self, *, trial: Any, waiter_max_seconds: float = 900.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial, self.waiter_max_seconds = trial, waiter_max_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait for a checkpoint, then terminate the machine.

        :return: the machine's id and the committed step.
        """
        del context
        plan = self._plan()
        session = self._session(plan)
        store, machines = plan.store(session), Machines(session.client("ec2"), plan.environment)
        trial = plan.get_spec(store).trial_id(self.trial)
        step = self._await_checkpoint(store, head_key(trial))
        newest = AttemptFiles(store, trial).read()[-1].attempt
        instance_id = newest.outcome.instance_id
        if newest.attempt > 1 or instance_id is None:
            log.info(
                "attempt %d is running: the drill has already interrupted the trial", newest.attempt
            )
            return {"instance_id": None, "step": step}
        machines.terminate([instance_id])
        log.warning(
            "%s: terminated %s on purpose, with step %d committed", self.trial, instance_id, step
        )
        return {"instance_id": instance_id, "step": step}

    def _await_checkpoint(self, store: ObjectStore, key: str) -> int:
        until = time.monotonic() + self.waiter_max_seconds
        while time.monotonic() < until:
            found = store.find(key)
            if found is not None and (step := Head.from_json(found.data, key).step) > 0:
                return step
            time.sleep(LOOK_EVERY_S)
        raise AirflowFailException(
            f"{self.trial}: no checkpoint within {self.waiter_max_seconds:.0f} s; see its log"
        )


class S3MeasureRecoveryOperator(RunOperator):
    """Log how long the recovery took and how many steps it cost. Fail if it was too slow.

    A retry or a clear measures the same values again.
    """

    template_fields: Sequence[str] = ("plan", "trial")

    def __init__(self, *, trial: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial = trial

    def execute(self, context: Context) -> dict[str, Any]:
        """Measure. :return: the recovery as JSON, with the objective."""
        plan, objective_s = self._plan(), float(context["params"]["objective_s"])
        recoveries = self._recoveries(plan)
        if not recoveries:
            raise AirflowFailException(
                "no machine was lost, so there is no recovery to measure: the training ended "
                "before the interruption; trigger the drill again"
            )
        first = recoveries[0]
        log.info(
            "recovery: %s s to the next machine, %s s to the first new step, %s steps lost "
            "(objective %g s)",
            first.seconds_to_new_machine,
            first.seconds_to_first_step,
            first.steps_lost,
            objective_s,
        )
        if first.seconds_to_first_step is None or first.seconds_to_first_step > objective_s:
            raise AirflowFailException(
                f"recovery took {first.seconds_to_first_step} s, and the objective is "
                f"{objective_s:g} s: see the machine's log for the times of launch and installation"
            )
        return {**first.model_dump(mode="json"), "objective_s": objective_s}

    def _recoveries(self, plan: RunPlan) -> Any:
        store = plan.store(plan.session("launcher", self.aws_conn_id))
        files = AttemptFiles(store, plan.get_spec(store).trial_id(self.trial))
        return find_recoveries([stored.attempt for stored in files.read()])
