"""A small world: bucket, EC2, clock, machines that train in steps, and workers that can be killed.

:class:`Killer` counts the plugin's lines that a worker executes and ends it before the n-th, as
SIGKILL between two lines would. What the worker wrote before stays written.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.supervisor import TrialSupervisor
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.errors import PreconditionFailedError
from rl_lifecycle.experiment.experiment import Experiment, read_experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import TrialId, head_key, heartbeat_key, ledger_key, spec_key
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject
from rl_lifecycle.trials.actions import Action, ActionKind
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.evidence import Evidence, StepProgress, track_progress
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from tests.plugins.fake_ec2 import ZONES, FakeEc2, FakeMachine, FakeQuotas

START = datetime(2026, 11, 22, 2, tzinfo=UTC)
PLUGIN = str(Path(sys.modules["rl_airflow"].__file__ or "").parent)
EXPERIMENT: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 100_000,
    "trials": 2,
    "checkpoint_every": 40_960,
    "evaluation": {"return_range": [0, 500], "crash_below": 100},
}


class Killed(BaseException):
    """Raised to end the worker's process."""


class Killer:
    """Ends a worker before the n-th line that it executes in the plugin.

    :param at_line: None only counts the lines

    :param on_line: called before the line, as Airflow's signal handler would be; None kills the
        worker
    """

    def __init__(
        self, at_line: int | None = None, on_line: Callable[[], Any] | None = None
    ) -> None:
        self.at_line, self.lines, self.on_line = at_line, 0, on_line

    def run(self, work: Callable[[], Any]) -> bool:
        """Run the work.

        :return: whether it ended by itself
        """
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            work()
        except (Killed, SystemExit):
            return False
        finally:
            sys.settrace(before)
        return True

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PLUGIN):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at_line:
                if self.on_line is None:
                    raise Killed
                self.on_line()
        return self._trace


class FakeStore:
    """A bucket in a dictionary with the promises of S3, for thousands of worlds."""

    uri = "s3://memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        data = self.objects.get(key)
        return None if data is None else StoredObject(data, sha256_hex(data))

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key under a condition."""
        assert not key.startswith("/")
        assert isinstance(data, bytes)
        there = self.find(key)
        if there is not None and there.data == data:
            return there.etag
        if if_none_match and there is not None:
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-None-Match")
        if if_match is not None and (there is None or there.etag != if_match):
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-Match")
        self.objects[key] = data
        return sha256_hex(data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys in order."""
        for key in sorted(self.objects):
            if key.startswith(prefix):
                data = self.objects[key]
                yield ObjectInfo(key, len(data), sha256_hex(data), START)

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.objects.pop(key, None)


class World:
    """One run in one environment."""

    def __init__(self, **experiment: Any) -> None:
        self.time = START
        self.ec2 = FakeEc2(lambda: self.time)
        self.quotas = FakeQuotas()
        self.store = FakeStore()
        self.experiment: Experiment = read_experiment({**EXPERIMENT, **experiment}, "cartpole_ppo")
        self.spec: Spec = freeze_spec(self.experiment, run_id="night-1", created_at=START)
        data = self.spec.to_json()
        key = spec_key(self.spec.experiment.name, self.spec.run)
        self.store.put(key, data)
        self.plan = RunPlan(
            environment="dev",
            region_name="eu-west-1",
            bucket="b",
            experiment=self.experiment.name,
            run=self.spec.run,
            spec=Artifact(key=key, sha256=sha256_hex(data)),
            trials=tuple(trial.name for trial in self.spec.trials),
            ledger_key=ledger_key(f"{START:%Y-%m}", self.experiment.name, self.spec.run),
            launch_template_id="lt-0123456789abcdef0",
            launch_template_version="1",
            subnet_ids={zone: subnet for subnet, zone in ZONES.items()},
            evaluator="arn:aws:lambda:eu-west-1:123456789012:function:evaluator:live",
        )
        self.progress: StepProgress | None = None
        self.clocks: tuple[StepProgress | None, ...] = ()

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on."""
        self.time += timedelta(seconds=seconds)

    def supervisor(
        self,
        trial: str = "seed-0",
        memory: MachineMemory | None = None,
        episode_s: float | None = 0.01,
    ) -> TrialSupervisor:
        """Return a new worker's supervisor, which knows only the bucket and EC2."""
        return TrialSupervisor(
            self.plan,
            self.spec,
            trial,
            self.store,
            Machines(self.ec2, "dev", ZONES, self.pass_time),
            MarketPrices(self.ec2, logging.getLogger("world")),
            now=lambda: self.time,
            checks=LaunchChecks(self.ec2, logging.getLogger("world"), lambda: self.quotas),
            log=logging.getLogger("world"),
            memory=memory,
            episode_s=episode_s,
        )

    def look(
        self, trial: str = "seed-0", supervisor: TrialSupervisor | None = None
    ) -> tuple[Action, Evidence]:
        """Let one worker look and act.

        The stall clock continues between looks, as the trigger carries it.
        """
        beat = self.beat_of(trial)
        head = self.store.find(head_key(self.trial(trial)))
        committed = Head.from_json(head.data).step if head else 0
        self.progress = track_progress(self.progress, beat, self.time, committed)
        action, evidence = (supervisor or self.supervisor(trial)).advance(
            self.progress, self.clocks
        )
        self.clocks = tuple(one.progress for one in evidence.collectors)
        return action, evidence

    def look_without_beat(self, trial: str = "seed-0") -> tuple[Action, Evidence]:
        """Let one worker look and act with the stall clock of the last readable heartbeat."""
        return self.supervisor(trial).advance(self.progress)

    def beat_of(self, trial: str = "seed-0") -> Heartbeat | None:
        """Return the trial's heartbeat."""
        found = self.store.find(heartbeat_key(self.trial(trial)))
        return Heartbeat.from_json(found.data) if found else None

    def trial(self, name: str = "seed-0") -> TrialId:
        """Return the trial's id."""
        return self.spec.trial_id(name)

    def beat(
        self,
        state: str = "training",
        step: int = 5000,
        trial: str = "seed-0",
        cause: str | None = None,
        message: str = "",
        segment: int = 0,
        seat: int = 0,
    ) -> None:
        """Let the newest machine of a trial's seat write a heartbeat."""
        attempt = len(self.supervisor(trial).seats[seat].attempts.read())
        self.store.put(
            heartbeat_key(self.trial(trial).at_seat(seat)),
            Heartbeat(
                attempt=attempt,
                state=TrainerState(state),
                step=step,
                total_timesteps=100_000,
                steps_per_s=1000.0,
                at=self.time,
                cause=TrainerCause(cause) if cause else None,
                message=message,
                segment=segment,
            ).to_json(),
        )

    def commit(self, step: int, trial: str = "seed-0") -> None:
        """Let the trial's machine commit a checkpoint."""
        head = Head(attempt=1, step=step, manifest_key="m", manifest_sha256="s", nonce=str(step))
        self.store.put(head_key(self.trial(trial)), head.to_json())

    def finish(self, trial: str = "seed-0") -> None:
        """Let the trial's machine finish and end itself."""
        self.commit(100_000, trial)
        self.beat("finished", 100_096, trial)
        for machine in self.machines_of(trial):
            self.ec2.end(machine, "Client.InstanceInitiatedShutdown")

    def machines_of(self, trial: str = "seed-0", *, alive: bool = True) -> list[str]:
        """Return the trial's machines."""
        return [
            machine.instance_id
            for machine in self.ec2.machines.values()
            if machine.tags["nightshift:trial"] == trial and (machine.alive or not alive)
        ]

    def machine_at(self, seat: int, trial: str = "seed-0") -> FakeMachine:
        """Return the living machine of a trial's seat."""
        (found,) = (
            machine
            for machine in self.ec2.living
            if machine.tags["nightshift:trial"] == trial
            and machine.tags.get("nightshift:seat", "0") == str(seat)
        )
        return found

    def attempts_at(self, seat: int, trial: str = "seed-0") -> list[Attempt]:
        """Return the attempts of a trial's seat."""
        return [one.attempt for one in self.supervisor(trial).seats[seat].attempts.read()]


def is_over(action: Action) -> bool:
    """Return whether no further action will follow."""
    return action.kind in (ActionKind.FINISH, ActionKind.FAIL)
