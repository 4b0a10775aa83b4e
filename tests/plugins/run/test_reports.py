"""The report of a run: written in every case, with the cost, and with what a person must know."""

import asyncio
import logging
from typing import Any

import pytest

from rl_airflow.run.outcome_operators import S3ReportRunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.reports.run_summary import render_summary, summarise_run
from rl_lifecycle.storage.layout import champion_key, heartbeat_key, shard_key
from tests.plugins.trials.test_trials import Stage
from tests.plugins.worlds import World


def report(world: World, monkeypatch: pytest.MonkeyPatch, **results: Any) -> dict[str, Any]:
    """Run the task."""
    monkeypatch.setattr(RunPlan, "session", lambda plan, role, aws_conn_id=None: None)
    monkeypatch.setattr(RunPlan, "store", lambda plan, session: world.store)
    task = S3ReportRunOperator(task_id="report", plan=world.plan.to_xcom(), **results)
    return task.execute({})  # type: ignore[typeddict-item]


def test_a_run_that_was_never_frozen_is_reported_with_its_cost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing was rented."""
    caplog.set_level(logging.INFO)
    assert S3ReportRunOperator(task_id="report", plan=None).execute({}) == {}  # type: ignore[typeddict-item]
    assert "cost 0 USD" in caplog.text


def test_a_damaged_registry_and_heartbeat_do_not_cost_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report has the rest, and names what cannot be read."""
    world = World()
    world.look()
    world.store.put(heartbeat_key(world.trial()), b"{")
    world.store.put(champion_key("cartpole_ppo"), b"{")
    summary = report(world, monkeypatch)
    assert summary["trials"][0]["state"] == "unreadable heartbeat"
    assert summary["warnings"][0].startswith("the champion could not be read: ")


def test_a_report_does_not_fail_because_the_evaluations_cannot_be_settled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what is known: here there is no price list."""
    world = World()
    world.look()
    world.store.put(shard_key("cartpole_ppo", world.spec.run, "select-seed-0-100", 0), b"{")
    assert report(world, monkeypatch)["trials"]
    assert "the evaluations are not settled: " in caplog.text


def test_a_broken_evaluation_is_a_warning_in_the_report(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The report has the reason and the way out, even if the evaluator wrote no report."""
    caplog.set_level(logging.INFO)
    judged = {
        "decision": "INCONCLUSIVE",
        "reason": "champion version 3 can no longer be played: it is damaged",
        "broken": True,
        "lost": ["trigger retrain_cartpole_ppo with new_lineage"],
    }
    summary = report(World(), monkeypatch, verdict=judged)
    assert summary["warnings"] == [f"INCONCLUSIVE: {judged['reason']}", *judged["lost"]]
    assert f"warning    INCONCLUSIVE: {judged['reason']}" in caplog.text
    assert "warning    trigger retrain_cartpole_ppo with new_lineage" in caplog.text
    assert "cost 0.0000 USD" in caplog.text


def test_a_cancelled_trial_is_reported_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task was deferred, and a person marked it as failed."""
    stage = Stage(monkeypatch)
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    stage.launch()
    asyncio.run(stage.defer().on_kill())
    spec = stage.world.spec
    summary = summarise_run(stage.world.store, spec.experiment.name, spec.run)
    assert summary.trials[0].state == "cancelled"
    assert summary.trials[0].cancelled_at is not None
    assert f"seed-0: a person cancelled it at {summary.trials[0].cancelled_at:%Y-%m-%d}" in (
        render_summary(summary)
    )


def test_a_machine_that_was_lost_is_named_as_the_trials_state() -> None:
    """The trainer's last word was that it trains."""
    world = World()
    world.look()
    world.beat("training")
    world.ec2.end(world.machines_of()[0], "Server.SpotInstanceTermination")
    supervisor = world.supervisor()
    supervisor.cancel("the run ended")
    summary = summarise_run(world.store, "cartpole_ppo", world.spec.run)
    assert summary.trials[0].state in ("interrupted", "cancelled")
