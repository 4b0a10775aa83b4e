"""What a trial's task remembers over its own retries, in Airflow's task state store. A clear
forgets it; the bucket does not.

The truth lies in `attempts/`, in EC2's token and in the machine's tags: they hold for other tasks,
other Airflows and after a clear. The store adds what none of them knows: since when the step has
not moved, how much of the log was told, and the machine that EC2 answered with, should the worker
die before that is written into the bucket and before EC2 shows the tags.
"""

import logging
from typing import Any

from airflow.sdk import Context

from rl_airflow.errors import first_line
from rl_airflow.trials.log_relay import LogPosition
from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.evidence import StepProgress

log = logging.getLogger(__name__)

MEMORY_KEY, MACHINE_KEY = "await", "machine"


class TaskMemory(Record):
    """Where the waiting was: the trigger's event has the same form."""

    progress: StepProgress | None = None
    told: LogPosition = LogPosition()


def recall(context: Context) -> TaskMemory:
    """Read what an earlier try of this task remembered; nothing where there is no store, or it does
    not answer.
    """
    found = _get(context, MEMORY_KEY)
    return (
        TaskMemory.from_value(found, "the task's state")
        if isinstance(found, dict)
        else TaskMemory()
    )


def remember(context: Context, memory: TaskMemory) -> None:
    """Leave it for a later try. What goes wrong stops nobody: a retry then starts the stall clock
    anew.
    """
    _set(context, MEMORY_KEY, memory.model_dump(mode="json"))


class MachineMemory:
    """The machine that EC2 answered an attempt with, known to this task alone until the bucket
    knows it.

    :param context: the running task's; None: nothing is remembered.
    """

    def __init__(self, context: Context | None = None) -> None:
        self.context = context

    def find(self, token: str) -> str | None:
        """The instance id that an earlier try was given for an attempt, by the attempt's token."""
        found = _get(self.context, MACHINE_KEY)
        return (
            str(found["instance_id"])
            if isinstance(found, dict) and found.get("token") == token
            else None
        )

    def keep(self, token: str, instance_id: str) -> None:
        """Remember it, as soon as EC2 has answered."""
        _set(self.context, MACHINE_KEY, {"token": token, "instance_id": instance_id})


def _get(context: Context | None, key: str) -> Any:
    store = context.get("task_state_store") if context is not None else None
    try:
        return store.get(key) if store is not None else None
    except Exception as error:  # each backend of the store raises its own types
        log.info("the task's state store did not answer (%s)", first_line(error))
        return None


def _set(context: Context | None, key: str, value: Any) -> None:
    store = context.get("task_state_store") if context is not None else None
    try:
        if store is not None:
            store.set(key, value)
    except Exception as error:  # each backend of the store raises its own types
        log.info("the task's state store did not take %r (%s)", key, first_line(error))
