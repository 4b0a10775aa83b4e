"""How the trials of a run ended: the XCom that each awaiting task leaves for later tasks."""

from airflow.sdk import Context
from pydantic import Field

from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.states import TrialState

#: The XCom key of a trial's end, whether its task succeeded or failed.
END_KEY = "trial_end"


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
    """Read the ends of the trials whose tasks pushed one."""
    # XCom returns a single value for one trial, and a list for several.
    said = context["ti"].xcom_pull(task_ids=task_id, key=END_KEY)
    ends = [said] if isinstance(said, dict) else said or ()
    return [TrialEnd.from_value(end, "a trial's end") for end in ends if end]
