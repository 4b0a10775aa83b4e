"""What people are told without asking: failures, interruptions, promotions. Over SNS, or any Airflow notifier beside it."""

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseNotifier, Context

from rl_airflow.run_plan import RunPlan
from rl_airflow.sessions import RoleSession

log = logging.getLogger(__name__)

#: SNS takes at most a hundred characters of ASCII as a subject.
SUBJECT_CHARACTERS = 100


class SnsRunNotifier(BaseNotifier):
    """Tell the environment's topic what happened to a task of a run. A notice that cannot be sent fails nothing.

    :param event: what happened, in a word: failed, interrupted, promoted.
    :param aws_conn_id: a connection of the Airflow worker's; None: `nightshift_airflow` if defined, else its credentials.
    """

    template_fields: Sequence[str] = ("event",)

    def __init__(self, *, event: str, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event, self.aws_conn_id = event, aws_conn_id

    def notify(self, context: Context) -> None:
        """Send, if the run got as far as having a topic."""
        ti = context["ti"]
        try:
            plan = ti.xcom_pull(task_ids="freeze_spec", key="plan")
            if plan:
                tell(RunPlan.model_validate(plan), self.event, f"{ti.task_id}: {_why(context)}", self.aws_conn_id)
        except Exception as error:
            log.warning("the notice %r could not be sent: %s", self.event, str(error).splitlines()[0] if str(error) else error)


def tell(plan: RunPlan, event: str, message: str, aws_conn_id: str | None = None) -> bool:
    """Publish one message to the environment's topic, as the Airflow worker.

    :return: whether it was sent: without a topic, or when SNS does not answer, the run goes on.
    """
    if not plan.topic_arn:
        return False
    subject = f"Nightshift {plan.environment}: {plan.experiment} {event}".encode("ascii", "replace").decode()
    try:
        RoleSession(None, plan.environment, aws_conn_id, plan.region_name).client("sns").publish(
            TopicArn=plan.topic_arn, Subject=subject[:SUBJECT_CHARACTERS], Message=f"{plan.run}\n{message}",
            MessageAttributes={"event": {"DataType": "String", "StringValue": event},
                               "experiment": {"DataType": "String", "StringValue": plan.experiment}})
    except Exception as error:
        log.warning("SNS was not told of %r: %s", event, str(error).splitlines()[0] if str(error) else error)
        return False
    return True


def _why(context: Context) -> str:
    error = context.get("exception")
    return str(error) if error else "no reason given"
