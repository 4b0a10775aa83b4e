"""The arguments of deferred tasks' triggers in Airflow's database, by class path."""

from collections.abc import Iterator
from typing import Any

from airflow.triggers.base import BaseTrigger

from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger
from rl_airflow.infrastructure.stack_trigger import CloudFormationStackTrigger
from rl_airflow.trials.trigger import Ec2TrialTrigger
from tests.stored_forms.record_values import make_record
from tests.stored_forms.records import RECORDS


def make_triggers() -> Iterator[BaseTrigger]:
    """Build one trigger of each kind with every argument."""
    full = {name: make_record(form, full=True) for name, form in RECORDS.items()}
    plan = full["xcom_plan"].model_copy(update={"trials": ("seed-0", "seed-1")})
    yield Ec2TrialTrigger.of(
        plan,
        "seed-1",
        full["evidence"],
        full["task_memory_told"],
        waiter_delay=7.5,
        aws_conn_id="a-connection",
    )
    yield LambdaEvaluationTrigger(
        plan=plan.to_xcom(),
        scene=full["evaluation_scene"].model_dump(mode="json"),
        jobs=[full["evaluation_job"].model_dump(mode="json")],
        asked=[["gate-candidate", 0, 50], ["gate-champion", 50, 50]],
        quiet_s=120.0,
        waiter_delay=7.5,
        token=40,
        aws_conn_id="a-connection",
    )
    yield CloudFormationStackTrigger(
        full["prepared_stack"].model_dump(mode="json"), "eu-central-1", "a-connection", 7.5
    )


def trigger_pins(before: dict[str, Any] | None = None) -> dict[str, Any]:
    """List the arguments of each class path, the newest last.

    :param before: the present pin, of which nothing is dropped, because a database may still
    contain it
    """
    pins: dict[str, list[Any]] = {path: list(forms) for path, forms in (before or {}).items()}
    for trigger in make_triggers():
        path, arguments = trigger.serialize()
        forms = pins.setdefault(path, [])
        if arguments in forms:
            forms.remove(arguments)
        forms.append(arguments)
    return pins
