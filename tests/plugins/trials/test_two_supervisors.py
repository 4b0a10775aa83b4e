"""Two supervisors of one trial, interleaved at random at every call, on the local EC2 and S3.

EC2 hides a new machine for a while, workers are killed between two calls, and machines are lost.
The test's parameter is the seed that decides the order. A failing assertion shows the order.
"""

import logging
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.attempt_files import AttemptFiles
from rl_airflow.trials.supervisor import TrialSupervisor
from rl_lifecycle.errors import BudgetExceededError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import ledger_key, spec_key
from rl_lifecycle.storage.s3_store import S3Store
from tests.infra_bootstrap.accounts import Account
from tests.plugins.fake_ec2 import FakeQuotas
from tests.plugins.trials.turns import Worker, take_turns
from tests.plugins.worlds import EXPERIMENT

log = logging.getLogger("two supervisors")
pytestmark = pytest.mark.local_aws

ALIVE = ("pending", "running")
BUCKET = "two-supervisors"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A local AWS whose new machines are hidden for a while."""
    account = Account(tmp_path_factory.mktemp("supervisors") / "state")
    with account.fault("late_visibility", "seconds=1.5"):
        yield account
    account.down()


class Night:
    """A run with one trial on the local AWS.

    :param machines: the machines of the trial
    """

    def __init__(self, account: Account, run_id: str, machines: int) -> None:
        self.account, variables = account, account.variables("administrator")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            self.session = boto3.session.Session()
            self.session.get_credentials().get_frozen_credentials()
        self.endpoint_url = account.endpoint_url
        self.ec2, s3 = self.client("ec2"), self.client("s3")
        if BUCKET not in {one["Name"] for one in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(
                Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": account.region}
            )
        experiment = read_experiment(
            {
                **EXPERIMENT,
                "trials": 1,
                "hyperparameters": {"n_envs": 8},
                "compute": {
                    "instance_types": ["c7i.large"],
                    "budget_usd": 500,
                    "machines": machines,
                },
            },
            "cartpole_ppo",
        )
        self.spec: Spec = freeze_spec(experiment, run_id=run_id, created_at=datetime.now(UTC))
        self.plan = self._plan()
        self.earlier: set[str] = set()  # the machines of the tests before this one
        self.earlier = set(self.machines())
        self.trial = self.spec.trial_id("seed-0")
        S3Store(s3, BUCKET).put(self.plan.spec.key, self.spec.to_json())

    def client(self, service: str) -> Any:
        """Return a client that makes one quick try."""
        config = Config(retries={"mode": "standard", "total_max_attempts": 1})
        return self.session.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=self.account.region,
            config=config,
        )

    def _plan(self) -> RunPlan:
        image = self.client("ssm").get_parameter(
            Name="/aws/service/deeplearning/ami/x86_64/"
            "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
        )["Parameter"]["Value"]
        data = {"ImageId": image, "InstanceType": "c7i.large"}
        template = self.ec2.create_launch_template(
            LaunchTemplateName=self.spec.run, LaunchTemplateData=data
        )["LaunchTemplate"]
        subnets = self.ec2.describe_subnets()["Subnets"]
        key = spec_key(self.spec.experiment.name, self.spec.run)
        return RunPlan(
            environment="dev",
            region_name=self.account.region,
            bucket=BUCKET,
            experiment=self.spec.experiment.name,
            run=self.spec.run,
            spec=Artifact(key=key, sha256=sha256_hex(self.spec.to_json())),
            trials=("seed-0",),
            ledger_key=ledger_key(
                f"{self.spec.created_at:%Y-%m}", self.spec.experiment.name, self.spec.run
            ),
            launch_template_id=template["LaunchTemplateId"],
            launch_template_version="1",
            subnet_ids={one["AvailabilityZone"]: one["SubnetId"] for one in subnets},
            evaluator="evaluator:live",
        )

    def supervisor(self, worker: Worker | None = None) -> TrialSupervisor:
        """Return a new supervisor, whose calls are the worker's turns."""
        ec2, s3 = self.client("ec2"), self.client("s3")
        if worker is not None:
            worker.watch(ec2, s3)
        return TrialSupervisor(
            self.plan,
            self.spec,
            "seed-0",
            S3Store(s3, BUCKET),
            Machines(ec2, "dev", self.plan.zones, sleep=lambda _: time.sleep(0.5)),
            MarketPrices(ec2, log),
            now=lambda: datetime.now(UTC),
            checks=LaunchChecks(ec2, log, FakeQuotas),
            log=log,
            episode_s=0.01,
        )

    def machines(self) -> dict[str, dict[str, str]]:
        """Return the truth about the run's machines, which no lag hides, by id."""
        found = self.account.local_aws("status", "--json")["instances"]
        return {one["instance_id"]: one for one in found if one["instance_id"] not in self.earlier}

    def living(self) -> dict[str, str]:
        """Return the machines that may work: id → the name that tells their seat."""
        return {
            instance_id: one["name"]
            for instance_id, one in self.machines().items()
            if one["state"] in ALIVE
        }


@pytest.mark.parametrize(("seed", "machines"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.timeout(300)
def test_two_interleaved_supervisors_have_one_machine_a_seat_and_forget_none(
    account: Account, seed: int, machines: int
) -> None:
    """At no moment do two machines work at one seat, and at the end none is left."""
    rng, night = random.Random(seed), Night(account, f"interleaved-{seed}", machines)
    most = 0

    def work(worker: Worker) -> None:
        supervisor = night.supervisor(worker)
        try:
            supervisor.advance()
        except BudgetExceededError:  # the reservations of killed workers are given back later
            worker.calls.append("budget")

    def between(step: int) -> None:
        nonlocal most
        if step % 8 == 0:
            living = night.living()
            most = max(most, len(living))
            assert len(set(living.values())) == len(living), living
            if living and rng.random() < 0.3 / machines**2:
                lose(night, rng.choice(list(living)))

    order = take_turns(
        rng,
        lambda name: Worker(name, work),
        n_workers=2,
        n_steps=120 * machines**2,
        kill_rate=0.03,
        between=between,
    )
    assert most == machines, order
    store = S3Store(night.client("s3"), BUCKET)
    night.supervisor().cancel("the test is over")
    end = time.monotonic() + 30
    while night.living() and time.monotonic() < end:
        time.sleep(0.5)
    assert night.living() == {}, order
    files = [AttemptFiles(store, seat) for seat in night.spec.seats]
    attempts = [one.attempt for seat in files for one in seat.read()]
    assert len({attempt.trial for attempt in attempts}) == machines
    assert all(attempt.outcome.end is not None for attempt in attempts), order
    ids = {attempt.outcome.instance_id for attempt in attempts} - {None}
    assert set(night.machines()) <= ids, order  # every machine is in an attempt


def lose(night: Night, instance_id: str) -> None:
    """Let a machine be terminated by a stranger, if EC2 shows it already."""
    shown = Machines(night.ec2, "dev").describe([instance_id])
    if instance_id in shown:
        night.ec2.terminate_instances(InstanceIds=[instance_id])
