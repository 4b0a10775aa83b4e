"""What people are told without asking: failures, interruptions, promotions. Over SNS, and over any
Airflow notifier.

Airflow's variable `nightshift_notifiers` names the notifiers, as a JSON list; their templated
arguments may use `nightshift`:

    [{"notifier": "airflow.providers.slack.notifications.slack.SlackNotifier",
      "arguments": {"channel": "training", "text": "{{ nightshift.experiment }} {{ nightshift.event
      }}: {{ nightshift.message }}"}}]
"""

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseNotifier, Context, Variable

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run.run_plan import RunPlan

log = logging.getLogger(__name__)

#: SNS takes at most a hundred characters of ASCII as a subject.
SUBJECT_CHARACTERS = 100
NOTIFIERS_VARIABLE = "nightshift_notifiers"


class SnsRunNotifier(BaseNotifier):
    """Tell the environment's topic what happened to a task of a run. A notice that cannot be sent
    fails nothing.

    :param event: what happened, in a word: failed, interrupted, promoted.
    :param aws_conn_id: a connection of the Airflow worker's; None: `nightshift_airflow` if defined,
        else its credentials.
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
                send_notice(
                    RunPlan.from_value(plan, "the run's plan"),
                    self.event,
                    f"{ti.task_id}: {_why(context)}",
                    self.aws_conn_id,
                )
        except Exception as error:  # a notice must not fail the task that it is about
            log.warning("the notice %r could not be sent: %s", self.event, first_line(error))


def send_notice(plan: RunPlan, event: str, message: str, aws_conn_id: str | None = None) -> bool:
    """Publish one message to the environment's topic, as the Airflow worker, and hand it to the
    notifiers of the variable.

    :return: whether SNS took it: without a topic, or when nobody answers, the run goes on.
    """
    _call_notifiers(plan, event, message)
    if not plan.topic_arn:
        return False
    subject = f"Nightshift {plan.environment}: {plan.experiment} {event}".encode(
        "ascii", "replace"
    ).decode()
    try:
        RoleSession(None, plan.environment, aws_conn_id, plan.region_name).client("sns").publish(
            TopicArn=plan.topic_arn,
            Subject=subject[:SUBJECT_CHARACTERS],
            Message=f"{plan.run}\n{message}",
            MessageAttributes={
                "event": {"DataType": "String", "StringValue": event},
                "experiment": {"DataType": "String", "StringValue": plan.experiment},
            },
        )
    except Exception as error:  # the task's work is done: no notice may fail it
        log.warning("SNS was not told of %r: %s", event, first_line(error))
        return False
    return True


def _call_notifiers(plan: RunPlan, event: str, message: str) -> None:
    """Hand a message to the notifiers that the variable names; one that is wrong is said and
    hinders no other.
    """
    try:
        named = Variable.get(NOTIFIERS_VARIABLE, default=None, deserialize_json=True) or []
        if not isinstance(named, list) or not all(isinstance(one, dict) for one in named):
            raise TypeError("it is something else")
    except Exception as error:  # secrets backends raise types of their own
        log.warning(
            "the variable %s could not be read (%s); it must be a JSON list of objects",
            NOTIFIERS_VARIABLE,
            first_line(error),
        )
        return
    told = {
        "environment": plan.environment,
        "experiment": plan.experiment,
        "run": plan.run,
        "event": event,
        "message": message,
    }
    for one in named:
        try:
            make_notifier(one["notifier"], one.get("arguments") or {})({"nightshift": told})
        except Exception as error:  # its arguments may be secret, so they are not told
            log.warning(
                "the notifier %s of the variable %s did not work: %s",
                one.get("notifier"),
                NOTIFIERS_VARIABLE,
                first_line(error),
            )


def make_notifier(path: str, arguments: dict[str, Any]) -> BaseNotifier:
    """Make a notifier of a dotted path. :raises TypeError: if what is there is no notifier."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise TypeError(f"{path} is no Airflow notifier")
    return found(**arguments)


def _why(context: Context) -> str:
    error = context.get("exception")
    return str(error) if error else "no reason given"
