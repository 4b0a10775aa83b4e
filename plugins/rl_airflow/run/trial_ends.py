"""How the trials of a run ended: what each awaiting task leaves in XCom for the tasks after it."""

from airflow.sdk import Context

from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.states import TrialState

#: XCom under which a trial's end lies, whether its task succeeded or failed.
END_KEY = "trial_end"


class TrialEnd(Record):
    """What became of a trial: the XCom that the tasks after it look at. The run's summary tells the
    rest.
    """

    trial: str
    state: TrialState
    reason: str = ""
    steps: int
    attempts: int
    seconds: float
    usd: float
    saved_usd: float = 0.0


def ends_of_trials(context: Context, task_id: str) -> list[TrialEnd]:
    """How the trials ended, of those whose tasks said so."""
    # Of one trial XCom gives its end itself, of several a list.
    said = context["ti"].xcom_pull(task_ids=task_id, key=END_KEY)
    ends = [said] if isinstance(said, dict) else said or ()
    return [TrialEnd.from_value(end, "a trial's end") for end in ends if end]
