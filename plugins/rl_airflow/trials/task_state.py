"""The state of a trial's task in Airflow's task state store. Retries keep it. A clear deletes it.

Decisions depend on facts in `attempts/`, in EC2's client token and in the machine's tags. Other
tasks and other Airflows can also read them, and a clear does not delete them. The store adds three
facts: since when the step has not changed, how far the log was copied, and the machine that EC2
returned. The last fact matters if the worker dies before it writes to the bucket and before EC2
shows the tags.
"""

import logging
from typing import Any, Self

from airflow.sdk import Context
from pydantic import Field

from rl_airflow.errors import first_line
from rl_airflow.trials.log_relay import LogPosition
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.evidence import StepProgress

log = logging.getLogger(__name__)

MEMORY_KEY, MACHINE_KEY = "await", "machine"


class TaskMemory(Record):
    """The state of a wait. The trigger's event has the same form.

    `collectors` has the stall clocks of the machines that only collect, from seat 1 on.
    """

    progress: StepProgress | None = None
    told: LogPosition = LogPosition()
    collectors: tuple[StepProgress | None, ...] = Field((), exclude_if=lambda value: not value)


def is_first_try_after_clear(context: Context) -> bool:
    """Whether a person cleared the task, and this is its first try since then.

    A clear sets the greatest number of tries to the tries so far plus the task's retries
    (`airflow.models.taskinstance.clear_task_instances`).
    """
    ti = context["ti"]
    return bool(
        ti.try_number > 1 and ti.try_number == (ti.max_tries or 0) - (ti.task.retries or 0) + 1
    )


def recall(context: Context) -> TaskMemory:
    """Read the state of an earlier try. It is empty if there is no store or the store fails."""
    found = _get(context, MEMORY_KEY)
    return (
        TaskMemory.from_value(found, "the task's state")
        if isinstance(found, dict)
        else TaskMemory()
    )


def remember(context: Context, memory: TaskMemory) -> None:
    """Store the state for a later try. An error is only logged. After that, a retry starts the
    stall clock again.
    """
    _set(context, MEMORY_KEY, memory.model_dump(mode="json"))


class MachineMemory:
    """The machine that EC2 returned for an attempt, until the bucket has it.

    :param context: the running task's context. If it is None, nothing is stored.
    :param seat: the seat of the machine. Each seat has a key of its own.
    """

    def __init__(self, context: Context | None = None, seat: int = LEARNER_SEAT) -> None:
        self.context = context
        self.key = MACHINE_KEY if seat == LEARNER_SEAT else f"{MACHINE_KEY}.{seat}"

    def at_seat(self, seat: int) -> Self:
        """Return the memory of another seat of the same task."""
        return type(self)(self.context, seat)

    def find(self, token: str) -> str | None:
        """Find the instance id that EC2 returned to an earlier try, by the attempt's token."""
        found = _get(self.context, self.key)
        return (
            str(found["instance_id"])
            if isinstance(found, dict) and found.get("token") == token
            else None
        )

    def keep(self, token: str, instance_id: str) -> None:
        """Store the instance id as soon as EC2 has answered."""
        _set(self.context, self.key, {"token": token, "instance_id": instance_id})


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
