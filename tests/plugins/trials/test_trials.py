"""The tasks of a trial and their trigger run as in Airflow: defer, look, resume, end."""

import asyncio
import contextlib
import functools
import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from botocore.exceptions import EndpointConnectionError

from rl_airflow.errors import InstancesLeftError
from rl_airflow.infrastructure import patience
from rl_airflow.machines.instances import Machines
from rl_airflow.run import evaluation_money
from rl_airflow.run.links import trial_links
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.trial_ends import END_KEY
from rl_airflow.trials import operators
from rl_airflow.trials import trigger as triggers
from rl_airflow.trials.log_relay import LogPosition
from rl_airflow.trials.machine_requests import MachineRequester
from rl_airflow.trials.operators import (
    Ec2AwaitTrialOperator,
    Ec2LaunchTrialOperator,
    Ec2TerminateRunOperator,
    TrialOperator,
)
from rl_airflow.trials.shared_watch import TrialWatch
from rl_airflow.trials.supervisor import TrialSupervisor
from rl_airflow.trials.task_state import MachineMemory, recall
from rl_airflow.trials.trigger import Ec2TrialTrigger
from rl_lifecycle.errors import StoreUnavailableError
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.machines.service_prices import TABLE
from rl_lifecycle.storage.layout import log_prefix, trainer_log_key
from rl_lifecycle.trials.evidence import StepProgress
from rl_lifecycle.trials.states import TrialState
from tests.plugins.worlds import Killer, World


class FakeTaskInstance:
    """Stores XComs, and counts tries as Airflow does."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.task = SimpleNamespace(retries=5)
        self.try_number, self.max_tries = 1, 5

    def retry(self) -> None:
        """Begin the next try."""
        self.try_number += 1

    def clear(self) -> None:
        """Begin the next try after a clear, as `clear_task_instances` sets it."""
        self.max_tries = self.try_number + self.task.retries
        self.try_number += 1

    def xcom_push(self, key: str, value: Any) -> None:
        """Store the XCom."""
        self.pushed[key] = value


class FakeTaskStateStore(dict[str, Any]):
    """Airflow's task state, which stores JSON across retries."""

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value."""
        assert value is not None
        self[key] = json.loads(json.dumps(value))


class Stage:
    """A world with the tasks of a trial."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **experiment: Any) -> None:
        self.world = World(**experiment)
        self.ti = FakeTaskInstance()
        self.context: Any = {"ti": self.ti, "task_state_store": FakeTaskStateStore()}
        monkeypatch.setattr(
            TrialOperator,
            "_supervisor",
            lambda operator, plan, trial, spec=None, context=None, episode_s=None: (
                self.world.supervisor(trial, MachineMemory(context), episode_s)
            ),
        )
        monkeypatch.setattr(evaluation_money, "prices_of_session", lambda *_: TABLE.prices)
        monkeypatch.setattr(RunOperator, "_session", lambda operator, plan: self)
        monkeypatch.setattr(Ec2TrialTrigger, "_watch", lambda trigger, plan: self.watch())
        monkeypatch.setattr(type(self.world.plan), "store", lambda plan, session: self.world.store)
        monkeypatch.setattr(triggers, "FIRST_LOOK_S", 0.0)
        monkeypatch.setattr(triggers, "until_next", lambda pause, now: 0.0)
        monkeypatch.setattr(operators, "send_notice", lambda *_: self.notices.append(_[1:]))
        self.notices: list[Any] = []

    def client(self, service: str) -> Any:
        """Return the session's EC2 client."""
        assert service == "ec2"
        return self.world.ec2

    def hurry(self) -> "Stage":
        """Return the same session, which never waits."""
        return self

    def client_in(self, region: str, service: str) -> Any:
        """Refuse the price list: prices are the table's."""
        raise EndpointConnectionError(endpoint_url=f"{service} in {region}")

    def watch(self) -> TrialWatch:
        """The trigger's view of machines and store."""
        return TrialWatch(self.world.store, Machines(self.world.ec2, "dev"))

    def launch(self, trial: str = "seed-0") -> Any:
        """Run the launching task."""
        return Ec2LaunchTrialOperator(
            task_id="launch", plan=self.world.plan.to_xcom(), trial=trial
        ).execute(self.context)

    def awaiting(self, **arguments: Any) -> Ec2AwaitTrialOperator:
        """Return a new awaiting task."""
        return Ec2AwaitTrialOperator(
            task_id="await", plan=self.world.plan.to_xcom(), trial="seed-0", **arguments
        )

    def defer(self, event: dict[str, Any] | None = None) -> Ec2TrialTrigger:
        """Run the awaiting task until it defers.

        :return: the trigger, restored as the triggerer does
        """
        task = self.awaiting()
        run = (
            functools.partial(task.execute, self.context)
            if event is None
            else functools.partial(task.execute_complete, self.context, event)
        )
        with pytest.raises(TaskDeferred) as deferred:
            run()
        path, arguments = deferred.value.trigger.serialize()
        assert path == "rl_airflow.trials.trigger.Ec2TrialTrigger"
        assert deferred.value.method_name == "execute_complete"
        return Ec2TrialTrigger(**arguments)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage without events."""
    return Stage(monkeypatch)


def fire(trigger: Ec2TrialTrigger) -> dict[str, Any]:
    """Run a trigger until it fires."""

    async def first() -> dict[str, Any]:
        payload: dict[str, Any] = (await asyncio.wait_for(anext(trigger.run()), 10)).payload
        return payload

    return asyncio.run(first())


def test_launching_returns_at_once_with_the_machine(stage: Stage) -> None:
    """The launching task does not wait for the machine."""
    result = stage.launch()
    assert (result["attempt"], result["state"]) == (1, "launching")
    assert [result["instance_id"]] == stage.world.machines_of()


def test_refused_capacity_fails_no_launching_task(stage: Stage) -> None:
    """The awaiting task waits for capacity, so the launching task succeeds."""
    stage.world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity"
    assert stage.launch()["state"] == TrialState.WAITING_FOR_CAPACITY


def test_a_launch_beyond_the_budget_fails_without_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the fix."""
    stage = Stage(monkeypatch, compute={"budget_usd": 0.01})
    with pytest.raises(AirflowFailException, match="raise the budget"):
        stage.launch()


def test_a_trial_is_awaited_through_the_trigger_to_its_end(stage: Stage) -> None:
    """The event has only stall clock and log position; the worker looks again itself."""
    stage.launch()
    trigger = stage.defer()
    stage.world.finish()
    event = fire(trigger)
    assert set(event) == {"progress", "told"}
    result = stage.awaiting().execute_complete(stage.context, event)
    assert (result["state"], result["steps"]) == ("finished", 100_096)
    assert END_KEY not in stage.ti.pushed


def test_an_interrupted_machine_is_replaced_on_the_way_through_the_worker(stage: Stage) -> None:
    """The worker replaces the machine and sends a notice."""
    stage.launch()
    trigger = stage.defer()
    stage.world.commit(40_960)
    stage.world.beat("interrupted", 42_000, message="spot notice")
    stage.world.ec2.end(stage.world.machines_of()[0], "Server.SpotInstanceTermination")
    stage.defer(fire(trigger))
    assert len(stage.world.machines_of()) == 1
    ((event, message),) = stage.notices
    assert event == "interrupted"
    assert "lost at step 42000: spot notice; going on from step 40960" in message


def test_failing_code_fails_the_task_without_a_retry_and_shows_the_end_of_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The error ends with the trainer's message."""
    stage.launch()
    stage.world.beat("failed", cause="code", message="ValueError: boom")
    stage.world.ec2.end(stage.world.machines_of()[0], "Client.InstanceInitiatedShutdown")
    log = b'{"message": "as JSON"}\n  File "env.py", line 3\nboom\n'
    stage.world.store.put(log_prefix(stage.world.trial(), 1) + "boot.log", log)
    with pytest.raises(AirflowFailException, match=r"seed-0: ValueError: boom; read the traceback"):
        stage.awaiting().execute(stage.context)
    shown = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert shown == ["seed-0 | as JSON", 'seed-0 |   File "env.py", line 3', "seed-0 | boom"]
    assert stage.ti.pushed[END_KEY]["state"] == "failed"


def test_clearing_a_failed_trials_await_gives_it_one_more_machine(stage: Stage) -> None:
    """The launch task succeeded, so clearing the failed tasks does not repeat it."""
    stage.launch()
    stage.world.beat("failed", cause="code", message="ValueError: boom")
    stage.world.ec2.end(stage.world.machines_of()[0], "Client.InstanceInitiatedShutdown")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="ValueError: boom"):
            stage.awaiting().execute(stage.context)
        stage.ti.retry()
    assert stage.world.machines_of() == []
    stage.ti.clear()
    stage.defer()
    assert len(stage.world.machines_of()) == 1
    assert len(stage.world.supervisor().attempts.read()) == 2


def test_without_a_triggerer_the_worker_waits_with_the_same_code(stage: Stage) -> None:
    """`deferrable=False` waits in the worker."""
    stage.launch()
    stage.world.beat(step=99_000)
    real = stage.watch

    def watch_and_finish() -> TrialWatch:
        stage.world.finish()
        return real()

    stage.watch = watch_and_finish  # type: ignore[method-assign]
    assert stage.awaiting(deferrable=False).execute(stage.context)["state"] == "finished"


def test_a_retry_of_the_awaiting_task_launches_nothing(stage: Stage) -> None:
    """A retry for Airflow's own reasons finds the running machine."""
    stage.launch()
    stage.world.beat(step=100)
    stage.defer()
    stage.defer()
    assert len(stage.world.ec2.machines) == 1


def test_the_trigger_survives_failing_looks_and_wakes_the_worker_if_they_continue(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failing looks wake the worker only if they continue, so a throttled call ends no training."""
    monkeypatch.setattr(patience, "BELIEVED_AFTER_S", 3.0)
    stage.launch()
    trigger = stage.defer()

    def broken() -> TrialWatch:
        raise TimeoutError  # some errors have an empty message

    stage.watch = broken  # type: ignore[method-assign]
    assert fire(trigger)["progress"] is None
    assert len(stage.world.machines_of()) == 1


def test_a_retry_continues_stall_clock_and_log(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each log line is printed once, and a clear starts again."""
    monkeypatch.setattr(Ec2TrialTrigger, "log", logging.getLogger("trigger"), raising=False)
    stage.launch()
    log_key = trainer_log_key(stage.world.trial(), 1)
    stage.world.store.put(log_key, b'{"message": "segment 1"}\n')
    stage.world.beat("interrupted", 41_000, segment=1)
    event = fire(stage.defer())
    stage.defer(event)
    assert event["told"] == {"attempt": 1, "segment": 1, "n_bytes": 25}
    assert [line for line in caplog.messages if "segment" in line] == ["seed-0 | segment 1"]
    again = stage.defer()
    assert (again.told, again.serialize()[1]["told"]) == (event["told"], event["told"])
    assert recall(stage.context).progress == StepProgress.model_validate(event["progress"])
    stage.context["task_state_store"].clear()
    assert stage.defer().told == LogPosition().model_dump()


def test_a_machine_that_only_the_task_knows_is_adopted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker died before it wrote the attempt, and EC2 does not show the tags."""
    monkeypatch.setattr(
        MachineRequester,
        "_record_answer",
        lambda *_: (_ for _ in ()).throw(ConnectionError("the worker died")),
    )
    with pytest.raises(ConnectionError):
        stage.launch()
    monkeypatch.undo()
    again = Stage(monkeypatch)
    again.world, again.context = stage.world, stage.context
    monkeypatch.setattr(Machines, "find", lambda *_: None)
    calls = again.world.ec2.calls.count("CreateFleet")
    assert [again.launch()["instance_id"]] == again.world.machines_of()
    assert again.world.ec2.calls.count("CreateFleet") == calls


def test_a_state_store_that_does_not_answer_is_no_failure(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket has all that is needed."""

    def broken(*_: Any) -> None:
        raise ConnectionError("no API server")

    for name in ("get", "set"):
        monkeypatch.setattr(FakeTaskStateStore, name, broken)
    stage.launch()
    stage.defer()
    assert len(stage.world.machines_of()) == 1


def test_a_trial_without_a_place_waits_in_the_trigger_until_one_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker starts only when a place is free."""
    stage = Stage(monkeypatch, compute={"max_parallel": 1})
    stage.world.time = datetime.now(
        UTC
    )  # the trigger has no other clock, and a place is taken until the deadline
    stage.launch("seed-1")
    assert stage.launch()["state"] == TrialState.PENDING
    trigger = stage.defer()
    monkeypatch.setattr(triggers, "TURN_S", 0.0)
    monkeypatch.setattr("rl_airflow.trials.shared_watch.SHARED_S", 0.0)

    async def wait() -> Any:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        stage.world.finish("seed-1")
        stage.world.look("seed-1")
        return (await asyncio.wait_for(waiting, 10)).payload

    stage.defer(asyncio.run(wait()))
    assert len(stage.world.machines_of("seed-0")) == 1


def test_killing_a_deferred_task_ends_its_machine_and_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task was deferred when a person marked it as failed or cleared it."""
    stage.launch("seed-0")
    stage.launch("seed-1")
    trigger = stage.defer()
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    asyncio.run(trigger.on_kill())
    assert (stage.world.machines_of("seed-0"), len(stage.world.machines_of("seed-1"))) == ([], 1)


def test_killing_a_deferred_task_frees_its_place_and_a_clear_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The place is free at once, because the teardown waits for the tasks that wait for it."""
    stage = Stage(monkeypatch, compute={"max_parallel": 1})
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    stage.launch("seed-0")
    trigger = stage.defer()
    asyncio.run(trigger.on_kill())
    assert stage.launch("seed-1")["state"] == TrialState.LAUNCHING
    stage.world.finish("seed-1")
    stage.world.look("seed-1")
    assert stage.launch("seed-0")["attempt"] == 2


def test_a_machine_that_a_person_or_the_drill_ended_alarms_nobody(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced, but nobody gets a notice."""
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    stage.launch()
    asyncio.run(stage.defer().on_kill())
    stage.defer()
    assert len(stage.world.machines_of()) == 1
    assert stage.notices == []
    monkeypatch.setattr(operators, "DRILL", stage.world.plan.experiment)
    trigger = stage.defer()
    stage.world.ec2.end(stage.world.machines_of()[0], "Client.UserInitiatedShutdown")
    stage.defer(fire(trigger))
    assert len(stage.world.machines_of()) == 1
    assert stage.notices == []


def test_killing_a_running_task_ends_its_machine_and_a_retry_gets_another(
    stage: Stage,
) -> None:
    """The worker gets a stop signal from a person or its host; only then Airflow retries."""
    stage.launch()
    with pytest.raises(SystemExit):
        stage.awaiting().on_kill()
    assert stage.world.machines_of() == []
    assert stage.world.supervisor().ledger.read().entries[0].usd is not None
    stage.defer()
    assert len(stage.world.machines_of()) == 1
    assert (
        stage.world.supervisor().attempts.read()[0].attempt.outcome.end is AttemptEnd.MACHINE_LOST
    )


def test_killing_the_launching_task_ends_its_machine_and_a_retry_launches_another(
    stage: Stage,
) -> None:
    """The task is killed after EC2 granted the machine."""
    stage.launch()
    with pytest.raises(SystemExit):
        Ec2LaunchTrialOperator(
            task_id="launch", plan=stage.world.plan.to_xcom(), trial="seed-0"
        ).on_kill()
    assert stage.world.machines_of() == []
    assert stage.launch()["attempt"] == 2


@pytest.mark.parametrize("relaunch", [False, True])
def test_a_worker_stopped_at_any_line_leaves_no_machine_and_takes_no_place(
    monkeypatch: pytest.MonkeyPatch, relaunch: bool
) -> None:
    """`on_kill` may run before any line, after which the line continues.

    Airflow's signal handler calls `on_kill` and returns to the interrupted line. EC2 does not show
    the machine yet, and another trial waits for the place.
    """
    lines = _stop_at(monkeypatch, None, relaunch=relaunch)[1]
    assert lines > 100
    for line in range(1, lines + 1, 7):
        stage, _ = _stop_at(monkeypatch, line, relaunch=relaunch)
        assert stage.world.ec2.living == [], f"a machine works on after line {line}"
        assert stage.launch("seed-1")["state"] == TrialState.LAUNCHING, (
            f"its place is taken after line {line}"
        )


@pytest.mark.parametrize("relaunch", [False, True])
@pytest.mark.parametrize("moment", ["sent", "made"])
def test_a_worker_stopped_while_ec2_makes_its_machine_ends_it(
    monkeypatch: pytest.MonkeyPatch, moment: str, relaunch: bool
) -> None:
    """EC2's answer is lost; the machine is ended and paid, and a late call makes no other."""
    stage, task = _staged(monkeypatch, relaunch=relaunch)
    world = stage.world

    def stop() -> None:
        world.pass_time(2)
        task.on_kill()

    world.ec2.during[moment] = stop
    with pytest.raises(SystemExit):
        task.execute(stage.context)
    assert world.ec2.living == []
    newest = world.supervisor().attempts.read()[-1].attempt
    assert newest.outcome.end is AttemptEnd.MACHINE_LOST
    assert newest.outcome.instance_id == list(world.ec2.machines)[-1]
    assert (world.supervisor().ledger.read().entries[-1].usd or 0) > 0
    world.ec2.create_fleet(**newest.request, ClientToken=newest.token)
    assert world.ec2.living == []
    assert stage.launch()["attempt"] == newest.attempt + 1
    assert len(world.ec2.living) == 1


def test_a_machine_that_cannot_be_ended_keeps_its_attempt_open_for_the_teardown(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """If EC2 does not answer while the worker stops, the attempt stays open for the teardown."""
    world, task = (
        stage.world,
        Ec2LaunchTrialOperator(task_id="launch", plan=stage.world.plan.to_xcom(), trial="seed-0"),
    )

    def stop() -> None:
        world.ec2.lose_answers = True
        world.ec2._answers.clear()
        task.on_kill()

    world.ec2.hide_new, world.ec2.during["sent"] = True, stop
    with pytest.raises(SystemExit):
        task.execute(stage.context)
    assert (
        "its machine was not terminated (the answer was lost); the task terminate ends it"
        in caplog.text
    )
    assert [one.attempt.outcome.end for one in world.supervisor().attempts.read()] == [None]
    world.ec2.lose_answers = False
    Ec2TerminateRunOperator(task_id="terminate", plan=world.plan.to_xcom()).execute(stage.context)
    assert (world.ec2.living, len(world.ec2.machines)) == ([], 1)


def test_a_worker_stopped_before_it_began_has_nothing_to_end(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt was written yet."""
    with pytest.raises(SystemExit):
        Ec2LaunchTrialOperator(
            task_id="launch", plan=stage.world.plan.to_xcom(), trial="seed-0"
        ).on_kill()
    assert "was not terminated" not in caplog.text
    assert stage.world.ec2.machines == {}


def _staged(monkeypatch: pytest.MonkeyPatch, *, relaunch: bool) -> tuple[Stage, Any]:
    """Prepare a task that is about to launch, or to relaunch after it lost a machine.

    EC2 will not show its new machine yet.
    """
    stage = Stage(monkeypatch, compute={"max_parallel": 1})
    task: Any = Ec2LaunchTrialOperator(
        task_id="launch", plan=stage.world.plan.to_xcom(), trial="seed-0"
    )
    if relaunch:
        stage.launch()
        stage.world.ec2.end(stage.world.machines_of()[0], "Server.InternalError")
        task = stage.awaiting()
    stage.world.ec2.hide_new = True
    return stage, task


def _stop_at(
    monkeypatch: pytest.MonkeyPatch, line: int | None, *, relaunch: bool
) -> tuple[Stage, int]:
    """Launch or await, and get a stop signal before a line.

    :return: how many lines there were
    """
    stage, task = _staged(monkeypatch, relaunch=relaunch)
    killer = Killer(line, task.on_kill)
    with contextlib.suppress(TaskDeferred):
        killer.run(lambda: task.execute(stage.context))
    return stage, killer.lines


def test_a_lost_worker_ends_no_machine_of_its_replacement(
    stage: Stage,
) -> None:
    """A lost worker returns after its retry launched another machine, and is stopped."""
    stage.launch()
    stale = stage.awaiting()
    with pytest.raises(TaskDeferred):
        stale.execute(stage.context)
    stage.world.ec2.end(stage.world.machines_of()[0], "Server.InternalError")
    stage.defer()
    with pytest.raises(SystemExit):
        stale.on_kill()
    assert len(stage.world.machines_of()) == 1
    assert stage.world.supervisor().attempts.read()[-1].attempt.outcome.end is None


def test_a_lost_worker_that_hung_while_it_acted_ends_no_machine_of_its_replacement(
    stage: Stage,
) -> None:
    """The worker hung in its look, and it is stopped after the relaunch."""
    stage.launch()
    stage.world.beat(step=100)
    stale, real = stage.awaiting(), stage.world.store.find

    def hang(key: str) -> Any:
        if key.startswith("heartbeats/"):
            stage.world.store.find = real  # type: ignore[method-assign]
            stage.world.ec2.end(stage.world.machines_of()[0], "Server.InternalError")
            stage.defer()
            stale.on_kill()
        return real(key)

    stage.world.store.find = hang  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        stale.execute(stage.context)
    assert len(stage.world.machines_of()) == 1
    assert [one.attempt.outcome.end for one in stage.world.supervisor().attempts.read()] == [
        AttemptEnd.MACHINE_LOST,
        None,
    ]


def test_the_teardown_ends_the_machines_of_all_trials(stage: Stage) -> None:
    """Trials without an awaiting task are included, and no machine is left."""
    stage.launch("seed-0")
    stage.launch("seed-1")
    teardown = Ec2TerminateRunOperator(task_id="terminate", plan=stage.world.plan.to_xcom())
    assert teardown.execute(stage.context) == {
        "instances_left": [],
        "attempts": {"seed-0": 1, "seed-1": 1},
    }
    assert stage.world.ec2.living == []
    assert all(entry.usd is not None for entry in stage.world.supervisor().ledger.read().entries)


def test_a_teardown_that_cannot_settle_still_proves_that_the_machines_are_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the verdict would say that machines may be left."""
    stage.launch()
    calls = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) > 2:  # each of the two trials is settled once when it is cancelled
            raise StoreUnavailableError("s3://memory/ledger", "SlowDown")

    monkeypatch.setattr(TrialSupervisor, "settle_ledger", fail)
    monkeypatch.setattr(evaluation_money.EvaluationMoney, "settle", fail)
    teardown = Ec2TerminateRunOperator(task_id="terminate", plan=stage.world.plan.to_xcom())
    assert teardown.execute(stage.context) == {
        "instances_left": [],
        "attempts": {"seed-0": 1, "seed-1": 0},
    }
    assert stage.world.ec2.living == []
    assert "the machines are not settled: " in caplog.text
    assert "the evaluations are not settled: " in caplog.text


def test_a_teardown_that_cannot_end_a_machine_fails(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the machine."""
    stage.launch()
    monkeypatch.setattr(stage.world.ec2, "terminate_instances", lambda **_: {})
    teardown = Ec2TerminateRunOperator(
        task_id="terminate", plan=stage.world.plan.to_xcom(), waiter_max_seconds=0
    )
    with pytest.raises(InstancesLeftError, match=stage.world.machines_of()[0]):
        teardown.execute(stage.context)


def test_a_teardown_without_a_plan_has_nothing_to_do(stage: Stage) -> None:
    """A run that failed before its plan was frozen leaves nothing."""
    for nothing in (None, ""):
        assert Ec2TerminateRunOperator(task_id="terminate", plan=nothing).execute(
            stage.context
        ) == {"instances_left": [], "attempts": {}}


def test_links_lead_to_the_machine_its_log_and_its_files(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The links appear with the machine, also while the task is deferred.

    AWS shows the machine and the checkpoints; the console shows the log and the curve.
    """
    real = SimpleNamespace(endpoint_url="https://ec2.eu-west-1.amazonaws.com")
    monkeypatch.setattr(stage.world.ec2, "meta", real)
    stage.launch()
    assert stage.ti.pushed == {}
    stage.defer()
    shown = {key: value for key, value in stage.ti.pushed.items() if key.startswith("_link_")}
    assert set(shown) == {
        "_link_Ec2InstanceLink",
        "_link_S3LogLink",
        "_link_S3TrialLink",
        "_link_LearningCurveLink",
    }
    assert stage.world.machines_of()[0] in shown["_link_Ec2InstanceLink"]
    assert "region=eu-west-1" in shown["_link_Ec2InstanceLink"]
    spec = stage.world.spec
    place = f"plugin/nightshift/retrain_{spec.experiment.name}"
    query = f"run_id={quote_plus(spec.run_id)}"
    assert shown["_link_LearningCurveLink"] == f"{place}/run?{query}"
    assert shown["_link_S3LogLink"] == f"{place}/log?{query}&trial=seed-0&seat=0&attempt=1"


def test_without_aws_no_link_leads_to_aws(stage: Stage) -> None:
    """On a laptop AWS's console shows another account, so the console's pages stand for it."""
    stage.launch()
    stage.defer()
    shown = {key: value for key, value in stage.ti.pushed.items() if key.startswith("_link_")}
    assert set(shown) == {"_link_Ec2InstanceLink", "_link_S3LogLink", "_link_LearningCurveLink"}
    assert shown["_link_Ec2InstanceLink"] == shown["_link_LearningCurveLink"]
    assert not [url for url in shown.values() if "://" in url]


def test_a_link_to_nothing_is_left_out(stage: Stage) -> None:
    """A launch that AWS refused has no machine; a replay and a drill have no page."""
    plan, spec = stage.world.plan, stage.world.spec
    for of_aws in (True, False):
        links = trial_links(plan, spec, "seed-0", 2, None, of_aws=of_aws)
        assert "Ec2InstanceLink" not in links
    drill = spec.model_copy(
        update={"experiment": spec.experiment.model_copy(update={"name": "drill"})}
    )
    assert trial_links(plan, drill, "seed-0", 2, "i-1", of_aws=False) == {}
    links = trial_links(plan, drill, "seed-0", 2, "i-1", of_aws=True)
    assert links.keys() == {"Ec2InstanceLink", "S3LogLink", "S3TrialLink"}


def test_links_name_the_region_of_the_environment_if_the_form_named_none(stage: Stage) -> None:
    """The form's empty field means the worker's own region, which a link must not guess."""
    plan = stage.world.plan.model_copy(update={"region_name": None})
    links = trial_links(plan, stage.world.spec, "seed-0", 2, "i-1", of_aws=True)
    for name in ("Ec2InstanceLink", "S3TrialLink"):
        assert "region=eu-west-1" in links[name]
