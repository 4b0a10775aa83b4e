"""A run whose trials have several machines is refused before it costs money, if it cannot work."""

import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run import spec_operator
from rl_airflow.run.spec_operator import S3FreezeSpecOperator, plan_of
from rl_lifecycle.experiment.spec import Artifact, Replay, Spec
from tests.plugins.fake_ec2 import FakeEc2
from tests.plugins.run.test_frozen_evaluator import deployed
from tests.plugins.trials.test_gangs import gang
from tests.plugins.trials.test_trials import FakeTaskInstance
from tests.plugins.worlds import EXPERIMENT, START, World

GANG = "lt-0aaaaaaaaaaaaaaaa:3"


class Freezing:
    """The freezing task of an environment with a launch template for several machines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.world, self.folder, self.ti = World(), tmp_path, FakeTaskInstance()
        self.place = deployed(4)._replace(gang_launch_template=GANG)
        self.world.ec2 = FakeEc2(lambda: START)
        self.world.store.objects.clear()
        monkeypatch.setattr(spec_operator, "find_environment", lambda *_, **__: self.place)
        monkeypatch.setattr(spec_operator, "S3Store", lambda client, bucket: self.world.store)
        clients = {"s3": None, "ec2": self.world.ec2, "service-quotas": self.world.quotas}
        monkeypatch.setattr(RoleSession, "client", lambda session, name: clients[name])

    def freeze(self, **compute: Any) -> Spec:
        """Freeze a run with these machines."""
        task = S3FreezeSpecOperator(
            task_id="freeze_spec",
            experiment={
                **EXPERIMENT,
                "name": "cartpole_ppo",
                "hyperparameters": {"n_envs": 8},
                "compute": compute,
            },
            folder=str(self.folder),
            with_form=False,
        )
        context: Any = {
            "params": {"environment": "dev", "region_name": None},
            "ti": self.ti,
            "run_id": "manual-1",
            "dag_run": None,
        }
        task.execute(context)
        return Spec.from_json(self.world.store.objects[self.ti.pushed["plan"]["spec"]["key"]])


@pytest.fixture
def freezing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Freezing:
    """A freezing task."""
    return Freezing(monkeypatch, tmp_path)


def test_all_machines_of_a_gang_have_the_gangs_template(freezing: Freezing) -> None:
    """The spec names its version, so a later deployment does not change it."""
    spec = freezing.freeze(machines=4)
    assert (spec.gang_launch_template, spec.launch_template, spec.shards) == (GANG, "lt-1:1", 4)
    plan = freezing.ti.pushed["plan"]
    assert (plan["launch_template_id"], plan["launch_template_version"]) == tuple(GANG.split(":"))
    artifact = Artifact(key="specs/x/y/spec.json", sha256=spec.sha256)
    later = freezing.place._replace(gang_launch_template="lt-0bbbbbbbbbbbbbbbb:9")
    assert plan_of(later, None, spec, artifact).launch_template_version == "3"


def test_single_machines_never_have_the_gangs_template(freezing: Freezing) -> None:
    """Their spec has the bytes of earlier releases, and EC2 is not asked."""
    spec = freezing.freeze()
    assert b"gang" not in spec.to_json()
    assert freezing.ti.pushed["plan"]["launch_template_id"] == "lt-1"
    assert freezing.world.ec2.calls == []


def test_an_environment_of_an_earlier_release_must_be_bootstrapped_again(
    freezing: Freezing,
) -> None:
    """It has no template with the rules for traffic between machines."""
    freezing.place = deployed(4)
    assert freezing.freeze(machines=1).experiment.compute.machines == 1
    freezing.world.store.objects.clear()
    with pytest.raises(AirflowFailException, match="trigger bootstrap_infrastructure, then a new"):
        freezing.freeze(machines=2)
    assert freezing.world.store.objects == {}


@pytest.mark.parametrize(
    ("vcpus", "compute", "problem"),
    [
        (6, {}, "allows 6 vCPUs of spot machines, and the 4 machines of a trial need at least 8"),
        (8, {}, None),
        (6, {"market": "on-demand"}, "or try compute.market: spot"),
        (6, {"instance_types": ["g5.xlarge"]}, None),
        (6, {"collectors": {"instance_types": ["c7i.xlarge"]}}, "need at least 14"),
        (6, {"instance_types": ["g5.xlarge", "c7i.large"]}, None),
        (None, {}, None),
    ],
)
def test_a_quota_for_one_machine_and_not_for_all_is_refused(
    freezing: Freezing, vcpus: float | None, compute: dict[str, Any], problem: str | None
) -> None:
    """One line says which quota, and what to do. GPU machines have a quota of their own."""
    freezing.world.quotas.vcpus = vcpus
    if problem is None:
        assert freezing.freeze(machines=4, **compute).experiment.compute.machines == 4
        return
    with pytest.raises(AirflowFailException, match=problem):
        freezing.freeze(machines=4, **compute)
    assert freezing.world.store.objects == {}


def test_a_limit_below_one_trials_machines_is_refused(freezing: Freezing) -> None:
    """`compute.max_parallel` counts the machines of all seats."""
    with pytest.raises(AirflowFailException, match="max_parallel: is 2, but a trial has 4"):
        freezing.freeze(machines=4, max_parallel=2)


def test_a_replay_of_a_gangs_version_uses_one_machine(freezing: Freezing) -> None:
    """The number of machines changes no byte, and the shards stay as they were."""
    spec = freezing.freeze(machines=4, collectors={"instance_types": ["c7i.large"]})
    replay = spec.as_replay(
        Replay(experiment="cartpole_ppo", version=1, step=40_960, digest="d"),
        run_id="r",
        created_at=START,
        experiment=spec.experiment.as_replay("replay"),
        trial=spec.trials[0],
    )
    compute = replay.experiment.compute
    assert (compute.machines, compute.collectors, replay.shards) == (1, None, 4)
    artifact = Artifact(key="specs/x/y/spec.json", sha256=replay.sha256)
    assert plan_of(freezing.place, None, replay, artifact).launch_template_id == "lt-1"


def test_types_whose_traffic_is_not_encrypted_are_named_and_requested_last(
    freezing: Freezing, caplog: pytest.LogCaptureFixture
) -> None:
    """The machines of a gang exchange rollouts without encryption of their own."""
    caplog.set_level(logging.WARNING)
    freezing.world.ec2.plain = ("c5.large",)
    freezing.freeze(machines=2, instance_types=["c5.large", "c6i.large"])
    assert "EC2 does not encrypt the traffic between machines of c5.large" in caplog.text
    world = gang(2, instance_types=["c5.large", "c6i.large"], market="on-demand")
    world.ec2.plain = ("c5.large",)
    world.look()
    assert [machine.instance_type for machine in world.ec2.living] == ["c6i.large"] * 2
