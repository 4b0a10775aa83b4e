"""Notices to people about failures, interruptions and promotions: by SNS and by Airflow notifiers.

Airflow's variable `nightshift_notifiers` lists the notifiers as JSON. Their templated arguments can
use `nightshift`:

    [{"notifier": "airflow.providers.slack.notifications.slack.SlackNotifier",
      "arguments": {"channel": "training", "text": "{{ nightshift.experiment }} {{ nightshift.event
      }}: {{ nightshift.message }}"}}]
"""

import importlib
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow.sdk import BaseNotifier, Context, Variable

from rl_airflow.errors import RunIsRedError, first_line
from rl_airflow.infrastructure.deployed_environment import find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.records.names import slug

log = logging.getLogger(__name__)

#: The most ASCII characters of a subject that SNS allows.
SUBJECT_CHARACTERS = 100
#: SNS takes 256 KiB. A character has at most 4 bytes.
#: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MESSAGE_CHARACTERS = 60_000
NOTIFIERS_VARIABLE = "nightshift_notifiers"


class SnsRunNotifier(BaseNotifier):
    """Send a notice about a task of a run to the environment's topic. An error is only logged.

    :param event: the event in one word: failed, interrupted, promoted. A :class:`RunIsRedError`
        names its own event, or none: then no notice is sent.
    :param aws_conn_id: a connection of the Airflow worker's; None: `nightshift_airflow` if defined,
        else its credentials.
    """

    template_fields: Sequence[str] = ("event",)

    def __init__(self, *, event: str, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event, self.aws_conn_id = event, aws_conn_id

    def notify(self, context: Context) -> None:
        """Send the notice."""
        ti, error = context["ti"], context.get("exception")
        event = error.notice if isinstance(error, RunIsRedError) else self.event
        if event is None:
            log.info("a person ended this run, so no notice is sent")
            return
        try:
            plan = ti.xcom_pull(task_ids="freeze_spec", key="plan")
            about = RunPlan.from_value(plan, "the run's plan") if plan else _unplanned(context)
            send_notice(about, event, f"{ti.task_id}: {_why(context)}", self.aws_conn_id)
        except Exception as error:  # a notice must not fail the task that it is about
            log.warning("the notice %r could not be sent: %s", event, first_line(error))


class UnplannedRun(NamedTuple):
    """A run whose spec was not frozen: what a notice says of it, and where it goes."""

    environment: str
    region_name: str | None
    experiment: str
    run: str
    topic_arn: str | None


def _unplanned(context: Context) -> UnplannedRun:
    """Describe a run without a plan. Without a bootstrapped environment there is no topic."""
    params, run = context["params"], context["dag_run"]
    environment, region = environment_of(params), params.get("region_name") or None
    try:
        topic_arn = find_environment(environment, region).topic_arn
    except Exception as error:  # the notifiers of the variable are still called
        log.warning("the topic of %s is not known: %s", environment, first_line(error))
        topic_arn = None
    experiment = run.dag_id.partition("_")[2]  # the DAGs are named retrain_NAME and replay_NAME
    return UnplannedRun(environment, region, experiment, slug(run.run_id), topic_arn)


def send_notice(
    plan: RunPlan | UnplannedRun, event: str, message: str, aws_conn_id: str | None = None
) -> bool:
    """Publish a message to the environment's topic and pass it to the notifiers of the variable.

    It acts as the Airflow worker.

    :return: whether SNS accepted the message. False without a topic, or after an error.
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
            Message=f"{plan.run}\n{message}"[:MESSAGE_CHARACTERS],
            MessageAttributes={
                "event": {"DataType": "String", "StringValue": event},
                "experiment": {"DataType": "String", "StringValue": plan.experiment},
            },
        )
    except Exception as error:  # the task's work is done, so a notice must not fail it
        log.warning("the notice %r was not sent to SNS: %s", event, first_line(error))
        return False
    return True


def _call_notifiers(plan: RunPlan | UnplannedRun, event: str, message: str) -> None:
    """Pass a message to the notifiers of the variable. An error of one notifier is only logged."""
    try:
        named = Variable.get(NOTIFIERS_VARIABLE, default=None, deserialize_json=True) or []
        if not isinstance(named, list) or not all(isinstance(one, dict) for one in named):
            raise TypeError("it is not a list of objects")
    except Exception as error:  # secrets backends may raise any type
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
        except Exception as error:  # a notifier may raise any type; its arguments may be secret
            log.warning(
                "the notifier %s of the variable %s did not work: %s",
                one.get("notifier"),
                NOTIFIERS_VARIABLE,
                first_line(error),
            )


def make_notifier(path: str, arguments: dict[str, Any]) -> BaseNotifier:
    """Make a notifier from its dotted path. :raises TypeError: if the path names no notifier."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise TypeError(f"{path} is not an Airflow notifier")
    return found(**arguments)


def _why(context: Context) -> str:
    error = context.get("exception")
    return str(error) if error else "no reason given"
