"""The reaper, notices, prices of the day, the guards of the spec and of the run's verdict."""

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

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.machines.reap_operator import GRACE, WITHOUT_DEADLINE, find_overdue
from rl_airflow.run import notices
from rl_airflow.run.notices import SnsRunNotifier, send_notice
from rl_airflow.run.outcome_operators import ProveNoneLeftOperator, VerdictOperator
from rl_airflow.run.run_plan import RunPlan
from rl_airflow.run.spec_operator import refuse_served_seeds
from rl_lifecycle.storage.layout import spec_key
from tests.plugins.worlds import World


def overdue(world: World) -> list[str]:
    """What the reaper would end."""
    return [
        one.reason
        for one in find_overdue(list(Machines(world.ec2, "dev").list({})), world.time, GRACE)
    ]


def test_a_machine_within_its_deadline_is_left_alone() -> None:
    """However old it is."""
    world = World()
    world.look()
    world.pass_time(4 * 3600)
    assert overdue(world) == []


def test_a_machine_that_outlived_its_deadline_is_overdue() -> None:
    """It should have ended itself ten minutes ago."""
    world = World()
    world.look()
    world.pass_time(4 * 3600 + GRACE.total_seconds() + 1)
    assert overdue(world) == ["its deadline was 2026-11-22 06:00 UTC"]


@pytest.mark.parametrize("deadline", [None, "tomorrow"])
def test_a_machine_without_a_readable_deadline_gets_an_hour(deadline: str | None) -> None:
    """Somebody tagged it by hand."""
    world = World()
    world.look()
    tags = next(iter(world.ec2.machines.values())).tags
    tags.pop("nightshift:deadline") if deadline is None else tags.update(
        {"nightshift:deadline": deadline}
    )
    assert overdue(world) == []
    world.time += WITHOUT_DEADLINE + timedelta(seconds=1)
    assert overdue(world) == ["it bears no deadline"]


def test_another_environments_machines_are_not_seen() -> None:
    """Several live side by side in one account."""
    world = World()
    world.look()
    assert list(Machines(world.ec2, "prod").list({})) == []


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No notifiers are named, and no Airflow is asked."""
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: None)


class FakeSns:
    """Takes messages, or does not."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.sent: list[dict[str, Any]] = []

    def client(self, service: str) -> "FakeSns":
        """The session's client."""
        assert service == "sns"
        return self

    def publish(self, **message: Any) -> None:
        """Take a message."""
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
    """So that a mail filter can sort it."""
    sns = FakeSns()
    monkeypatch.setattr(notices, "RoleSession", lambda *_: sns)
    assert send_notice(plan_with_topic(), "interrupted", "seed-0: i-1 was lost")
    assert sns.sent[0]["Subject"] == "Nightshift dev: cartpole_ppo interrupted"
    assert "i-1 was lost" in sns.sent[0]["Message"]
    assert sns.sent[0]["MessageAttributes"]["event"]["StringValue"] == "interrupted"


def test_a_notice_that_cannot_be_sent_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a topic, without SNS, without a plan."""
    monkeypatch.setattr(notices, "RoleSession", lambda *_: FakeSns(broken=True))
    assert not send_notice(plan_with_topic(), "failed", "because")
    assert not send_notice(plan_with_topic(None), "failed", "because")
    SnsRunNotifier(event="failed").notify({"ti": FakeTi({})})  # type: ignore[typeddict-item]


class KeepingNotifier(BaseNotifier):
    """A notifier of somebody's: keeps what it is told."""

    template_fields = ("text",)
    kept: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        """Keep it."""
        self.kept.append(self.text)


def test_any_notifier_is_told_what_sns_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The variable names it; one that is wrong hinders neither the others nor the run."""
    text = "{{ nightshift.experiment }} {{ nightshift.event }}: {{ nightshift.message }}"
    variable = [
        {"notifier": "os.path.join"},
        {"notifier": "no.such.Notifier"},
        {"notifier": f"{__name__}.KeepingNotifier", "arguments": {"text": text}},
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
    assert KeepingNotifier.kept == ["cartpole_ppo interrupted: seed-0: i-1 was lost"]
    assert "os.path.join is no Airflow notifier" in caplog.text
    assert "No module named 'no'" in caplog.text


@pytest.mark.parametrize("variable", [7, "slack", True, {"notifier": "a.b"}, ["a.b"]])
def test_a_variable_that_is_no_list_of_notifiers_is_said_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: object
) -> None:
    """A number is JSON, too; the training goes on."""
    monkeypatch.setattr(notices.Variable, "get", lambda *_, **__: variable)
    assert not send_notice(plan_with_topic(None), "interrupted", "seed-0: i-1 was lost")
    assert "it must be a JSON list of objects" in caplog.text


def test_a_notifiers_arguments_are_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be a webhook's address, which is a secret."""
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
    """XComs by (task, key)."""

    task_id = "verdict"

    def __init__(self, xcoms: dict[Any, Any]) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """Read one."""
        return (
            self.xcoms.get((task_ids, key)) if key != "return_value" else self.xcoms.get(task_ids)
        )


def test_prices_of_the_day_come_from_the_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dearest hourly term; a type that it does not know falls back to the table."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "0.11"}}
    product = json.dumps({"terms": {"OnDemand": {"t": {"priceDimensions": {"d": dimension}}}}})

    class Pricing:
        def get_products(self, **request: Any) -> dict[str, Any]:
            wanted = {one["Field"]: one["Value"] for one in request["Filters"]}
            assert wanted["regionCode"] == "eu-west-1"
            return {"PriceList": [product] if wanted["instanceType"] == "c6i.large" else []}

    world = World()
    monkeypatch.setattr(
        world.ec2, "meta", type("Meta", (), {"region_name": "eu-west-1"}), raising=False
    )
    prices = MarketPrices(world.ec2, logging.getLogger("t"), Pricing)
    assert prices.on_demand(["c6i.large", "c7i.large"]) == {"c6i.large": 0.11}


def test_a_price_list_that_does_not_answer_is_done_without() -> None:
    """And the log says which table is used."""

    def broken() -> Any:
        raise EndpointConnectionError(endpoint_url="https://api.pricing.us-east-1.amazonaws.com")

    assert (
        MarketPrices(World().ec2, logging.getLogger("t"), broken).on_demand(["c6i.large"]) is None
    )


def test_gate_seeds_that_were_served_before_are_refused() -> None:
    """The same seeds would be no fresh evidence."""
    world = World()
    refuse_served_seeds(world.store, world.spec)  # its own frozen spec is no earlier run
    world.store.put(spec_key("cartpole_ppo", "other"), b"{}")
    refuse_served_seeds(world.store, world.spec)
    same = world.spec.model_copy(update={"run": "third"})
    with pytest.raises(
        AirflowFailException, match=r"overlap with those of the (gate|selection) of run night-1"
    ):
        refuse_served_seeds(world.store, same)


END = {
    "trial": "seed-0",
    "state": "finished",
    "steps": 1,
    "attempts": 1,
    "seconds": 1.0,
    "usd": 0.0,
}
FINE: dict[Any, Any] = {
    "freeze_spec": ["seed-0"],
    "select": {"trial": "seed-0"},
    "promote": {"outcome": "PROMOTED"},
    "judge": {"decision": "PROMOTE", "reason": "better"},
    "terminate": {"instances_left": []},
    ("await", "trial_end"): [END],
}


def verdict(**changes: Any) -> str:
    """Run the last task on what the others left."""
    operator = VerdictOperator(
        task_id="verdict",
        freezing_task_id="freeze_spec",
        awaited_task_id="await",
        promoting_task_id="promote",
        terminating_task_id="terminate",
        required={
            "the frozen spec": "freeze_spec",
            "the candidate": "select",
            "the verdict": "judge",
        },
    )
    xcoms = {**FINE, **changes}
    if "ends" in xcoms:
        xcoms["await", "trial_end"] = xcoms.pop("ends")
    return operator.execute({"ti": FakeTi(xcoms)})  # type: ignore[typeddict-item]


def test_a_run_that_did_all_that_was_required_is_green() -> None:
    """KEEP and a superseded promotion are good ends, too."""
    assert verdict() == "PROMOTE: better"
    assert verdict(judge={"decision": "KEEP", "reason": "worse"}, promote=None) == "KEEP: worse"
    assert verdict(promote={"outcome": "SUPERSEDED"})
    assert verdict(ends=END)  # of a single trial Airflow gives the value itself


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"judge": None}, "the verdict is missing (see the task judge)"),
        ({"promote": None}, "was not promoted"),
        ({"terminate": None}, "it is not proved that no machine is left"),
        ({"terminate": {"instances_left": ["i-1"]}}, "instances left: i-1"),
        (
            {"ends": [END, {**END, "trial": "seed-1", "state": "failed", "reason": "boom"}]},
            "seed-1 failed: boom",
        ),
        ({"freeze_spec": ["seed-0", "seed-1"]}, "seed-1 never ended its training"),
    ],
)
def test_a_run_that_lacks_something_is_red_and_says_what(
    changes: dict[str, Any], problem: str
) -> None:
    """Also when the teardown went well, and when something was promoted all the same."""
    with pytest.raises(AirflowFailException) as failed:
        verdict(**changes)
    assert problem in str(failed.value)


@pytest.mark.parametrize(
    ("proof", "problem"),
    [
        (None, "it is not proved that no machine is left"),
        ({"instances_left": ["i-1"]}, "instances left: i-1"),
    ],
)
def test_a_replay_or_drill_that_leaves_a_machine_is_red(proof: Any, problem: str) -> None:
    """A teardown's own failure would not count for the run."""
    operator = ProveNoneLeftOperator(task_id="prove_none_left", terminating_task_id="terminate")
    operator.execute({"ti": FakeTi({"terminate": {"instances_left": []}})})  # type: ignore[typeddict-item]
    with pytest.raises(AirflowFailException, match=problem):
        operator.execute({"ti": FakeTi({"terminate": proof})})  # type: ignore[typeddict-item]


def test_the_documentation_says_when_each_reaper_ends_a_machine() -> None:
    """The Lambda by its schedule, the DAG after a grace as well."""
    root = Path(__file__).parents[3]
    said = (root / "docs/machines.md").read_text()
    assert (
        "the reaper of the evaluation stack, which ends every 15 minutes what is past its deadline"
        in said
    )
    assert "rate(15 minutes)" in (root / "infra_bootstrap/templates/evaluation.yaml").read_text()
    assert (
        "`reap_orphaned_instances`, every 15 minutes, ten minutes after the deadline at the "
        "earliest"
    ) in said
    assert timedelta(minutes=10) == GRACE
