"""The reaper, notices, prices of the day, seed checks and the proof that no machine is left."""

import importlib
import json
import logging
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import EndpointConnectionError

from infra_bootstrap.reaper.reaper import WITHOUT_DEADLINE
from rl_airflow.errors import EnvironmentNotReadyError
from rl_airflow.machines.instances import Machines
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.machines.reap_operator import GRACE, find_overdue
from rl_airflow.run import notices
from rl_airflow.run.notices import SnsRunNotifier, send_notice
from rl_airflow.run.outcome_operators import ProveNoneLeftOperator
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.spec_operator import refuse_served_seeds
from rl_lifecycle.storage.layout import spec_key
from tests.plugins.worlds import World


def overdue(world: World) -> list[str]:
    """Return the machines that the reaper would end."""
    return [
        one.reason
        for one in find_overdue(list(Machines(world.ec2, "dev").list({})), world.time, GRACE)
    ]


def test_a_machine_within_its_deadline_is_left_alone() -> None:
    """A machine's age does not matter before its deadline."""
    world = World()
    world.look()
    world.pass_time(4 * 3600)
    assert overdue(world) == []


def test_a_machine_that_outlived_its_deadline_is_overdue() -> None:
    """A machine is overdue ten minutes after its deadline."""
    world = World()
    world.look()
    world.pass_time(4 * 3600 + GRACE.total_seconds() + 1)
    assert overdue(world) == ["its deadline was 2026-11-22 06:00 UTC"]


@pytest.mark.parametrize("deadline", [None, "tomorrow"])
def test_a_machine_without_a_readable_deadline_gets_an_hour(deadline: str | None) -> None:
    """A machine with a missing or changed deadline tag gets an hour."""
    world = World()
    world.look()
    tags = next(iter(world.ec2.machines.values())).tags
    tags.pop("nightshift:deadline") if deadline is None else tags.update(
        {"nightshift:deadline": deadline}
    )
    assert overdue(world) == []
    world.time += WITHOUT_DEADLINE + timedelta(seconds=1)
    assert overdue(world) == ["it has no readable deadline"]


def test_another_environments_machines_are_not_seen() -> None:
    """The reaper ignores other environments in the account."""
    world = World()
    world.look()
    assert list(Machines(world.ec2, "prod").list({})) == []


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No notifiers are configured, and Airflow is not called."""
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: None)


class FakeSns:
    """An SNS client that accepts messages or fails."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.sent: list[dict[str, Any]] = []

    def client(self, service: str) -> "FakeSns":
        """Return the session's client."""
        assert service == "sns"
        return self

    def publish(self, **message: Any) -> None:
        """Store the message, or fail."""
        if self.broken:
            raise ConnectionError("no SNS")
        assert len(message["Subject"]) <= 100
        assert message["Subject"].isascii()
        self.sent.append(message)


def plan_with_topic(
    topic: str | None = "arn:aws:sns:eu-west-1:123456789012:nightshift-dev-alarms",
) -> RunPlan:
    """A plan whose environment has a topic."""
    return World().plan.model_copy(update={"topic_arn": topic})


def test_a_notice_names_environment_experiment_and_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """The subject names the three, so a mail filter can sort notices."""
    sns = FakeSns()
    monkeypatch.setattr(notices, "RoleSession", lambda *_: sns)
    assert send_notice(plan_with_topic(), "interrupted", "seed-0: i-1 was lost")
    assert sns.sent[0]["Subject"] == "Nightshift dev: cartpole_ppo interrupted"
    assert "i-1 was lost" in sns.sent[0]["Message"]
    assert sns.sent[0]["MessageAttributes"]["event"]["StringValue"] == "interrupted"


def test_a_notice_that_cannot_be_sent_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing topic, a failing SNS or a missing plan fails no task."""
    monkeypatch.setattr(notices, "RoleSession", lambda *_: FakeSns(broken=True))
    assert not send_notice(plan_with_topic(), "failed", "because")
    assert not send_notice(plan_with_topic(None), "failed", "because")
    SnsRunNotifier(event="failed").notify({"ti": FakeTi({})})  # type: ignore[typeddict-item]


def unplanned() -> Any:
    """The context of a task of a run whose spec was not frozen."""
    return {
        "ti": FakeTi({}),
        "params": {"environment": "dev"},
        "dag_run": SimpleNamespace(dag_id="retrain_cartpole_ppo", run_id="manual__1"),
        "exception": RuntimeError("trails: unknown key"),
    }


def test_a_run_whose_spec_was_refused_sends_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no plan yet, so the topic comes from the environment's outputs."""
    sns, topic = FakeSns(), plan_with_topic().topic_arn
    monkeypatch.setattr(notices, "RoleSession", lambda *_: sns)
    monkeypatch.setattr(notices, "find_environment", lambda *_: SimpleNamespace(topic_arn=topic))
    SnsRunNotifier(event="failed").notify(unplanned())
    (sent,) = sns.sent
    assert sent["Subject"] == "Nightshift dev: cartpole_ppo failed"
    assert sent["Message"] == "manual__1\nverdict: trails: unknown key"


def test_notifiers_are_called_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that was never bootstrapped has no topic."""

    def missing(*_: Any) -> Any:
        raise EnvironmentNotReadyError("dev", "it has no stack")

    told: list[str] = []
    monkeypatch.setattr(notices, "find_environment", missing)
    monkeypatch.setattr(notices, "_call_notifiers", lambda about, *_: told.append(about.experiment))
    SnsRunNotifier(event="failed").notify(unplanned())
    assert told == ["cartpole_ppo"]


class FakeNotifier(BaseNotifier):
    """A notifier that stores its notices."""

    template_fields = ("text",)
    kept: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Store the notice."""
        self.kept.append(self.text)


def test_each_notifier_gets_what_sns_gets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong notifier in the Variable hinders neither the others nor the run."""
    text = "{{ nightshift.experiment }} {{ nightshift.event }}: {{ nightshift.message }}"
    variable = [
        {"notifier": "os.path.join"},
        {"notifier": "no.such.Notifier"},
        {"notifier": f"{__name__}.FakeNotifier", "arguments": {"text": text}},
    ]
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: variable)
    monkeypatch.setattr(
        notices,
        "importlib",
        SimpleNamespace(
            import_module=lambda name: (
                sys.modules[__name__] if name == __name__ else importlib.import_module(name)
            )
        ),
    )
    send_notice(plan_with_topic(None), "interrupted", "seed-0: i-1 was lost")
    assert FakeNotifier.kept == ["cartpole_ppo interrupted: seed-0: i-1 was lost"]
    assert "os.path.join is not an Airflow notifier" in caplog.text
    assert "No module named 'no'" in caplog.text


@pytest.mark.parametrize("variable", [7, "slack", True, {"notifier": "a.b"}, ["a.b"]])
def test_a_variable_that_is_no_list_is_reported_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: object
) -> None:
    """A number is valid JSON but no list; the training continues."""
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: variable)
    assert not send_notice(plan_with_topic(None), "interrupted", "seed-0: i-1 was lost")
    assert "it must be a JSON list of objects" in caplog.text


def test_a_notifiers_arguments_are_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The arguments may contain a webhook's secret address."""
    variable = [
        {
            "notifier": "no.such.Notifier",
            "arguments": {"webhook": "https://hooks.example/T0/secret"},
        },
        {"arguments": {"a": "secret"}},
    ]
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: variable)
    send_notice(plan_with_topic(None), "interrupted", "seed-0: i-1 was lost")
    assert "the notifier no.such.Notifier" in caplog.text
    assert "secret" not in caplog.text


class FakeTi:
    """XComs by task and key."""

    task_id = "verdict"

    def __init__(self, xcoms: dict[Any, Any]) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """Return the XCom."""
        return (
            self.xcoms.get((task_ids, key)) if key != "return_value" else self.xcoms.get(task_ids)
        )


def test_prices_of_the_day_come_from_the_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest hourly term counts, and an unknown type uses the table."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.11"}}
    product = json.dumps({"terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}}})

    class Pricing:
        def get_paginator(self, name: str) -> "Pricing":
            assert name == "get_products"
            return self

        def paginate(self, **request: Any) -> list[dict[str, Any]]:
            wanted = {one["Field"]: one["Value"] for one in request["Filters"]}
            assert wanted["regionCode"] == "eu-west-1"
            return [{"PriceList": [product] if wanted["instanceType"] == "c6i.large" else []}]

    world = World()
    monkeypatch.setattr(
        world.ec2, "meta", type("Meta", (), {"region_name": "eu-west-1"}), raising=False
    )
    prices = MarketPrices(world.ec2, logging.getLogger("t"), Pricing)
    assert prices.on_demand(["c6i.large", "c7i.large"]) == {"c6i.large": 0.11}


def test_without_a_price_list_the_table_is_used() -> None:
    """The log names the table."""

    def broken() -> Any:
        raise EndpointConnectionError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com")

    assert (
        MarketPrices(World().ec2, logging.getLogger("t"), broken).on_demand(["c6i.large"]) is None
    )


def test_gate_seeds_of_an_earlier_run_are_refused() -> None:
    """Repeated seeds give no new evidence."""
    world = World()
    refuse_served_seeds(world.store, world.spec)  # the run's own frozen spec is no earlier run
    world.store.put(spec_key("cartpole_ppo", "other"), b"{}")
    refuse_served_seeds(world.store, world.spec)
    same = world.spec.model_copy(update={"run": "third"})
    with pytest.raises(
        AirflowFailException, match=r"overlap with those of the (gate|selection) of run night-1"
    ):
        refuse_served_seeds(world.store, same)


@pytest.mark.parametrize(
    ("proof", "problem"),
    [
        (None, "it is not proved that no machine is left"),
        ({"instances_left": ["i-1"]}, "instances left: i-1"),
    ],
)
def test_a_replay_or_drill_that_leaves_a_machine_is_red(proof: Any, problem: str) -> None:
    """The last task fails, because a teardown's own failure would not count for the run."""
    operator = ProveNoneLeftOperator(task_id="prove_none_left", terminating_task_id="terminate")
    operator.execute({"ti": FakeTi({"terminate": {"instances_left": []}})})  # type: ignore[typeddict-item]
    with pytest.raises(AirflowFailException, match=problem):
        operator.execute({"ti": FakeTi({"terminate": proof})})  # type: ignore[typeddict-item]


def test_the_documentation_says_when_each_reaper_ends_a_machine() -> None:
    """The docs give the Lambda's schedule and the DAG's additional grace period."""
    root = Path(__file__).parents[3]
    guide = (root / "docs/machines.md").read_text()
    assert (
        "the reaper of the evaluation stack, which runs every 15 minutes and ends machines after "
        "their deadline"
    ) in guide
    assert "rate(15 minutes)" in (root / "infra_bootstrap/templates/evaluation.yaml").read_text()
    assert (
        "`reap_orphaned_instances`, every 15 minutes, ten minutes after the deadline at the "
        "earliest"
    ) in guide
    assert timedelta(minutes=10) == GRACE
