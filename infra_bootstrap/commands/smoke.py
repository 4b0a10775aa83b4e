"""The smoke run: deploy a new environment, train and evaluate once, destroy it, prove it is gone.

The run costs money, but not more than it says. Before it makes anything it adds up the highest
possible cost by the approximate prices of :mod:`rl_lifecycle.machines.instance_types`, and compares
the sum with the cap. The machine has a deadline, which its own timer, the reaper and this program
enforce. The run destroys its environment, so it refuses an environment that already exists. It
needs no Airflow: its policy is attached to no role. At its end it writes one file for a bug report.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from infra_bootstrap.clients import Clients
from infra_bootstrap.commands.bug_report import Story, write_bug_report
from infra_bootstrap.commands.denials import explain, shorten
from infra_bootstrap.commands.smoke_machine import TERMINATE_WITHIN_S, SmokeMachine
from infra_bootstrap.deployment import deploy
from infra_bootstrap.deployment.destroy import Destruction, command_of, destroy
from infra_bootstrap.errors import BadInputError, BootstrapError
from infra_bootstrap.preflight.checklist import failures, run_checks
from infra_bootstrap.preflight.traces import find_traces
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.outputs import Outputs, read_outputs
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import parameters_of
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.evaluation.selection import selection_name
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.machines.billing import MachineUse, bill_machine
from rl_lifecycle.machines.launch_requests import build_fleet_request, plan_pools, trial_tags
from rl_lifecycle.machines.prices import FALL_BACK
from rl_lifecycle.machines.service_prices import TABLE
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import heartbeat_key, shard_key, spec_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState

#: The environment of `make aws-smoke`.
ENVIRONMENT = "smoke"
#: The highest cost of the whole run, US dollars.
CAP_USD = 1.00
#: The name that stands for Airflow's role. Roles that trust Airflow's role trust nothing then.
NO_AIRFLOW = "nightshift-smoke-has-no-airflow"
#: The highest cost of everything but the machine and its volume, US dollars: requests, an hour of
#: storage, two Lambda functions, an hour of alarms. The sum is rounded up a lot.
REST_USD = 0.25
INSTANCE_TYPES = ("c7i.large", "c6i.large")
DEADLINE = timedelta(minutes=30)
EXPERIMENT = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 40_960,
    "checkpoint_every": 40_960,
    "trials": 1,
    "compute": {
        "instance_types": list(INSTANCE_TYPES),
        "market": "on-demand",
        "max_hours": 0.5,
        "budget_usd": CAP_USD,
    },
    "evaluation": {"return_range": [0, 500], "crash_below": 50, "selection_episodes": 10},
}
OVER = (TrainerState.FINISHED, TrainerState.FAILED, TrainerState.INTERRUPTED, TrainerState.FENCED)
Say = Callable[[str], None]
Answer = TypeVar("Answer")


class SmokeFailedError(BootstrapError):
    """A step of the smoke run failed.

    The environment has been destroyed, or the message names its resources that are left.
    """


class SmokeReport(Record):
    """What a smoke run did, how long each step took (seconds), and what the machine cost."""

    account_id: str
    region: str
    environment: str
    seconds: dict[str, float]
    trained_steps: int
    mean_return: float | None
    machine_seconds: float
    usd: float
    destruction: Destruction


class Trial(NamedTuple):
    """The one trial of the run: its spec, and where it writes."""

    spec: Spec
    outputs: Outputs
    store: ObjectStore
    launcher: Clients


def confirmation(clients: Clients, environment: str) -> str:
    """Return the words that the user must type.

    They name the account, the region and the environment, so they cannot confirm another run.
    """
    return (
        f"spend up to {CAP_USD:.2f} USD in account {clients.account_id}, region "
        f"{clients.region}, environment {environment}"
    )


def highest_usd(settings: DeploymentSettings) -> float:
    """Add up the highest possible cost of the run, about, US dollars.

    The most expensive machine, with its volume, runs until its deadline and an hour longer.
    """
    hours = DEADLINE.total_seconds() / 3600 + 1
    return round(_machine_usd(settings, hours) + REST_USD, 2)


def _machine_usd(settings: DeploymentSettings, hours: float) -> float:
    """Compute what the most expensive machine costs with its volume, US dollars."""
    gib = float(
        settings.parameters.get("VolumeGib")
        or parameters_of(Concern.TRAINING)["VolumeGib"]["Default"]
    )
    machine = max(FALL_BACK[name].on_demand for name in INSTANCE_TYPES)
    bill = bill_machine(MachineUse(hours * 3600, machine, gib, checkpoints=1), TABLE.prices)
    return bill["instance"] + bill["volumes"]


def without_airflow(settings: DeploymentSettings) -> DeploymentSettings:
    """Return settings that attach nothing to a role of the account."""
    parameters = {**settings.parameters, "AttachAirflowPolicy": "false"}
    return replace(settings, airflow_role=NO_AIRFLOW, parameters=parameters)


@dataclass
class Run:
    """A smoke run that is going on.

    :ivar seconds: how long each step took.
    :ivar denials: why AWS denied calls.
    """

    clients: Clients
    settings: DeploymentSettings
    say: Say
    machine: SmokeMachine
    launcher: Clients | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    denials: list[str] = field(default_factory=list)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Explain a denied call of EC2 while the roles that may decode its message still exist."""
        try:
            yield
        except (BootstrapError, ClientError) as error:
            callers = [self.launcher, self.clients] if self.launcher else [self.clients]
            self.denials += explain(callers, self.settings, str(error))
            if not self.denials:
                raise
            raise SmokeFailedError(f"{shorten(str(error))}. {'. '.join(self.denials)}") from error


def run_smoke(
    clients: Clients, settings: DeploymentSettings, confirm: str | None, say: Say
) -> SmokeReport:
    """Deploy a new environment, train and evaluate once, and destroy all of it. This costs money.

    :param confirm: must equal :func:`confirmation`.
    :raises BadInputError: if it does not, or if anything of the environment exists. Then nothing
        was made, and nothing was destroyed.
    :raises SmokeFailedError: if a step fails. The environment is destroyed nevertheless.
    """
    settings = without_airflow(settings)
    _refuse_unless_new(clients, settings.environment)
    _refuse_unless_confirmed(clients, settings, confirm)
    run = Run(clients, settings, say, SmokeMachine(clients.ec2, settings.environment))
    began_at, errors, answer = datetime.now(UTC), list[str](), dict[str, Any]()
    try:
        report = _run(run)
        answer = report.model_dump(mode="json")
        return report
    except (BootstrapError, LifecycleError, ClientError, BotoCoreError, OSError) as error:
        errors = _chain(error)
        raise
    except KeyboardInterrupt:
        errors = ["it was interrupted from the keyboard"]
        raise
    finally:
        story = Story(settings.environment, began_at, run.seconds, errors, run.denials, answer)
        _write(clients, story, say)


def _write(clients: Clients, story: Story, say: Say) -> None:
    """Write the file for a bug report. A full disk must not hide what went wrong before."""
    try:
        say(f"for a bug report: {write_bug_report(clients, story)}")
    except OSError as error:
        say(f"the file for a bug report could not be written: {error}")


def _chain(error: BaseException | None) -> list[str]:
    """List an error and the errors that led to it, the first one first."""
    found = list[str]()
    while error is not None:
        found.insert(0, f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return found


def _run(run: Run) -> SmokeReport:
    """Check the account, deploy, train, evaluate and destroy."""
    clients, settings, seconds = run.clients, run.settings, run.seconds
    failed = failures(run_checks(clients, settings))
    if failed:
        raise SmokeFailedError(
            "; ".join(f"{check.name}: {check.found} → {check.fix}" for check in failed)
            + "; nothing was made"
        )
    began = time.monotonic()
    try:
        with run.explaining():
            _timed(
                seconds, "bootstrap", lambda: deploy.deploy(clients, settings, run.say, check=False)
            )
            trial = _prepare(run)
            beat, machine_seconds = _timed(seconds, "train", lambda: _train(run, trial))
            shard = _timed(seconds, "evaluate", lambda: _await_shard(trial, beat, run.say))
    finally:
        destruction = _timed(seconds, "destroy", lambda: _clean_up(run))
    seconds["total"] = round(time.monotonic() - began, 1)
    if destruction.leftovers:
        raise SmokeFailedError(
            f"left over: {', '.join(destruction.leftovers)}; run "
            f"`{command_of(settings, delete_bucket=True)}` again, or delete them by hand"
        )
    returns = [value for value in shard.returns if value is not None]
    return SmokeReport(
        account_id=clients.account_id,
        region=clients.region,
        environment=settings.environment,
        seconds=seconds,
        trained_steps=beat.step,
        mean_return=sum(returns) / len(returns) if returns else None,
        machine_seconds=round(machine_seconds, 1),
        usd=round(_machine_usd(settings, machine_seconds / 3600), 4),
        destruction=destruction,
    )


def _refuse_unless_new(clients: Clients, environment: str) -> None:
    """Refuse an environment that exists, because the run destroys its machines and its bucket."""
    found = list(find_traces(clients, environment))
    if found:
        raise BadInputError(
            f"nothing was made and nothing destroyed: {environment} exists ({', '.join(found)}), "
            "and the smoke run destroys its environment. Choose a new name with --environment. If "
            "an interrupted smoke run left this one, see `python -m infra_bootstrap destroy --help`"
        )


def _refuse_unless_confirmed(
    clients: Clients, settings: DeploymentSettings, confirm: str | None
) -> None:
    environment, usd = settings.environment, highest_usd(settings)
    words = confirmation(clients, environment)
    if confirm != words:
        command = (
            f'make aws-smoke CONFIRM="{words}"'
            if environment == ENVIRONMENT
            else f'python -m infra_bootstrap smoke --environment {environment} --confirm "{words}"'
        )
        raise BadInputError(
            f"nothing was made: the smoke run costs real money (at most about "
            f"{usd:.2f} USD). To start it, run: {command}"
        )
    if usd > CAP_USD:
        raise BadInputError(
            f"it could cost {usd:.2f} USD, more than the cap of {CAP_USD:.2f}: nothing was made"
        )


def _prepare(run: Run) -> Trial:
    """Freeze the spec of the one trial, as the launcher role."""
    outputs = read_outputs(run.clients, run.settings.environment)
    launcher = run.clients.assume(outputs.launcher_role_arn, "nightshift-smoke")
    run.launcher = launcher
    now = datetime.now(UTC)
    spec = freeze_spec(
        read_experiment(EXPERIMENT, "smoke"),
        run_id=f"smoke-{now:%Y%m%dt%H%M%S}",
        created_at=now,
        trainer=outputs.trainer_wheels,
        image_id=outputs.image_id,
        launch_template=f"{outputs.launch_template_id}:{outputs.launch_template_version}",
    )
    store = S3Store(launcher.s3, outputs.bucket)
    store.put(spec_key("smoke", spec.run), spec.to_json(), if_none_match=True)
    return Trial(spec, outputs, store, launcher)


def _train(run: Run, trial: Trial) -> tuple[Heartbeat, float]:
    """Launch one machine, and wait until it has ended. This starts billing.

    :return: the last heartbeat, and how long the machine ran, seconds.
    """
    outputs, name = trial.outputs, trial.spec.trial_id("seed-0")
    deadline = datetime.now(UTC) + DEADLINE
    request: dict[str, Any] = build_fleet_request(
        launch_template_id=outputs.launch_template_id,
        launch_template_version=outputs.launch_template_version,
        pools=plan_pools(INSTANCE_TYPES, outputs.subnet_ids),
        market="on-demand",
        tags=trial_tags(outputs.environment, name, 1, trial.spec.sha256, deadline),
    )
    run.machine.asked()
    answer = trial.launcher.ec2.create_fleet(**request, ClientToken=trial.spec.sha256)
    if not answer.get("Instances"):
        refused = {
            f"{error.get('ErrorCode')}: {error.get('ErrorMessage')}"
            for error in answer.get("Errors", ())
        }
        reasons = "; ".join(sorted(refused)) or "AWS gave no reason"
        run.machine.refused()
        raise SmokeFailedError(f"AWS started no machine: {reasons}")
    run.machine.instance_id = answer["Instances"][0]["InstanceIds"][0]
    run.say(f"machine {run.machine.instance_id}, {answer['Instances'][0].get('InstanceType')}")
    began = time.monotonic()
    beat = _await_training(run, trial, deadline)
    return beat, time.monotonic() - began


def _await_training(run: Run, trial: Trial, deadline: datetime) -> Heartbeat:
    key, beat = heartbeat_key(trial.spec.trial_id("seed-0")), None
    while datetime.now(UTC) < deadline:
        gone = run.machine.is_gone()
        found = trial.store.find(key)
        beat = Heartbeat.from_json(found.data, key) if found else None
        if gone and beat is not None and beat.state in OVER:
            break
        if gone:
            why = f": {run.machine.reason}" if run.machine.reason else ""
            raise SmokeFailedError(
                f"the machine ended before the training did{why} (last heartbeat: "
                f"{beat.state if beat else 'none'})"
            )
        run.say(f"training: {f'{beat.state}, step {beat.step}' if beat else 'booting'}")
        time.sleep(5)
    if beat is None or beat.state is not TrainerState.FINISHED:
        raise SmokeFailedError(
            f"training: {f'{beat.state}: {beat.message}' if beat else 'no heartbeat'} before its "
            "deadline"
        )
    return beat


def _await_shard(trial: Trial, beat: Heartbeat, say: Say) -> Shard:
    """Wait for the evaluation, which starts when the policy arrives in the bucket."""
    name = selection_name("seed-0", beat.step)
    key = shard_key("smoke", trial.spec.run, name, 0)
    for _ in range(120):
        if found := trial.store.find(key):
            return Shard.from_json(found.data, key)
        say("evaluating")
        time.sleep(5)
    raise SmokeFailedError(
        f"{key} was not written within 10 minutes: read the evaluator's log group"
    )


def _clean_up(run: Run) -> Destruction:
    """Terminate the machine if it still exists, then destroy the environment with its bucket.

    :raises SmokeFailedError: if the machine does not end. Then nothing else is destroyed.
    """
    left = run.machine.end()
    if left:
        raise SmokeFailedError(
            f"{', '.join(left)} did not end within {TERMINATE_WITHIN_S:g} s: terminate it in EC2, "
            f"then run `{command_of(run.settings, delete_bucket=True)}`"
        )
    name = run.settings.environment
    return destroy(run.clients, run.settings, name, run.say, delete_bucket=True)


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Answer]) -> Answer:
    began = time.monotonic()
    try:
        return work()
    finally:
        seconds[name] = round(time.monotonic() - began, 1)
