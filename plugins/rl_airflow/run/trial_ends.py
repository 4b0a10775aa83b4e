"""How the trials of a run ended: the XCom that each awaiting task leaves for later tasks."""

from airflow.sdk import Context
from pydantic import Field

from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.states import TrialState

#: The XCom key of the end of a trial whose task failed. A task that succeeds returns the end.
END_KEY = "trial_end"
RETURNED = "return_value"


class TrialEnd(Record):
    """The end of a trial, as an XCom for later tasks. The run's summary has more details."""

    trial: str
    state: TrialState
    reason: str = ""
    steps: int
    attempts: int
    seconds: float
    usd: float
    saved_usd: float = 0.0
    gang: str = Field(
        "",
        description="the trial's machines that collected, as its learner reported last",
        exclude_if=lambda value: not value,
    )


def ends_of_trials(context: Context, task_id: str) -> list[TrialEnd]:
    """Read the ends of the trials whose tasks left one.

    A task of an earlier release left its end under both keys.
    """
    ends: dict[str, TrialEnd] = {}
    for key in (RETURNED, END_KEY):
        # XCom returns a single value for one trial, and a list for several.
        said = context["ti"].xcom_pull(task_ids=task_id, key=key)
        for value in [said] if isinstance(said, dict) else said or ():
            if value:
                end = TrialEnd.from_value(value, "a trial's end")
                ends[end.trial] = end
    return list(ends.values())
