"""Two machines of the local AWS train one trial together, each on its own address.

The local AWS cannot enforce security groups. So the test looks at the sockets instead: a process of
a machine listens on that machine's own address and on no other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.artifacts.locks import Target
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.artifacts.wheel_sets import build_trainer_wheels
from local_aws.machines.bounds import TABLES, endpoint, socket_inodes
from local_aws.machines.processes import MACHINE_MARK, find_marked
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.machines.launch_requests import trial_tags
from rl_lifecycle.storage.layout import GANGS, gang_prefix, heartbeat_key, spec_key
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.gangs import Generation
from rl_lifecycle.trials.heartbeats import Heartbeat
from tests.infra_bootstrap.accounts import PYTHON, Deployment
from tests.infra_bootstrap.stacks.test_least_privilege import fleet, of_gang

WITHIN_S = 240.0
#: It would take hours, so the test ends it.
EXPERIMENT = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "env_kwargs": {"max_episode_steps": 20},
    "hyperparameters": {"n_envs": 4, "n_steps": 64, "batch_size": 64, "n_epochs": 1},
    "total_timesteps": 50_000_000,
    "checkpoint_every": 1024,
    "trials": 1,
    "evaluation": {"return_range": [0, 500], "crash_below": 50},
    "compute": {"machines": 2, "workers": 1},
}
#: The state of a listening socket in the kernel's tables.
LISTEN = "0A"


def freeze(dev: Deployment) -> Spec:
    """Upload the trainer's wheels, and freeze a spec that names them."""
    launcher, wheels = dev.as_role("launcher"), build_trainer_wheels(Target(PYTHON))
    upload(launcher.s3, dev.bucket, list(wheels.files))
    spec = freeze_spec(
        read_experiment(EXPERIMENT, "together"),
        run_id="gang",
        created_at=datetime.now(UTC),
        trainer=wheels.artifact,
    )
    launcher.s3.put_object(
        Bucket=dev.bucket, Key=spec_key("together", spec.run), Body=spec.to_json(), IfNoneMatch="*"
    )
    return spec


def launch(dev: Deployment, spec: Spec, seat: int) -> str:
    """Launch the machine of a seat. :return: its id."""
    tags = trial_tags(
        "dev", spec.trial_id("seed-0"), 1, spec.sha256, datetime.now(UTC) + timedelta(minutes=9)
    ) | ({"nightshift:seat": str(seat)} if seat else {})
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    request = of_gang(dev, fleet(dev)) | {
        "DryRun": False,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": pairs}],
    }
    return str(
        dev.as_role("launcher").ec2.create_fleet(**request)["Instances"][0]["InstanceIds"][0]
    )


def listeners() -> dict[int, str]:
    """Return the addresses on which processes of this computer listen, by inode."""
    rows = [
        row.split()
        for table in TABLES
        if table.startswith("tcp")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {int(row[9]): endpoint(row[1])[0] for row in rows if row[3] == LISTEN}


def listened_on(instance_id: str) -> set[str]:
    """Return the addresses on which the processes of a machine listen now."""
    found, here = set[str](), listeners()
    for pid in find_marked(MACHINE_MARK, instance_id):
        found |= {here[inode] for inode in socket_inodes(pid) & set(here)}
    return found


@pytest.fixture
def machines(dev: Deployment) -> Iterator[tuple[Spec, dict[int, str]]]:
    """A spec, and the running machines of its trial by seat. They are ended after the test."""
    spec, seats = freeze(dev), dict[int, str]()
    try:
        for seat in (0, 1):
            seats[seat] = launch(dev, spec, seat)
        yield spec, seats
    finally:
        dev.as_role("launcher").ec2.terminate_instances(InstanceIds=list(seats.values()))


def test_the_processes_of_each_machine_listen_on_its_own_address(
    dev: Deployment, machines: tuple[Spec, dict[int, str]]
) -> None:
    """The learner and the collector meet on two addresses of the loopback, and share the shards."""
    spec, seats = machines
    trial = spec.trial_id("seed-0")
    store = S3Store(dev.as_role("airflow-worker").s3, dev.bucket)
    seen: dict[int, set[str]] = {seat: set() for seat in seats}
    end, generation, steps = time.monotonic() + WITHIN_S, None, 0
    while steps == 0 and time.monotonic() < end:
        for seat, instance_id in seats.items():
            seen[seat] |= listened_on(instance_id)
        generation = newest_with(store, spec, 1) or generation
        beat = store.find(heartbeat_key(trial.at_seat(1))) if generation else None
        steps = Heartbeat.from_json(beat.data).step if beat else 0
        time.sleep(0.1)
    assert generation is not None, consoles(dev, seats)
    assert steps > 0, consoles(dev, seats)
    addresses = {member.seat: member.address for member in generation.members}
    assert set(addresses) == {0, 1}
    assert len(set(addresses.values())) == 2
    assert generation.address == addresses[0]
    for seat, address in addresses.items():
        assert seen[seat] == {address}, consoles(dev, seats)
        assert address.startswith("127.")
        assert addresses_of(dev, seats[seat])[1] == address.split(".")[2:]
    refused = dev.account.local_aws("status", "--json")["out_of_bounds"]
    assert [one for one in refused if one["who"] in seats.values()] == []


def newest_with(store: S3Store, spec: Spec, seat: int) -> Generation | None:
    """Return the newest generation, if a seat is a member of it."""
    assert gang_prefix(spec.trial_id("seed-0")).startswith(GANGS)
    keys = [info.key for info in store.list(gang_prefix(spec.trial_id("seed-0")))]
    found = store.find(max(keys)) if keys else None
    generation = Generation.from_json(found.data) if found else None
    if generation and seat in {member.seat for member in generation.members}:
        return generation
    return None


def addresses_of(dev: Deployment, instance_id: str) -> tuple[str, list[str]]:
    """Return the private address that EC2 reports, and its last two numbers."""
    found: Any = dev.as_role("launcher").ec2.describe_instances(InstanceIds=[instance_id])
    address = found["Reservations"][0]["Instances"][0]["PrivateIpAddress"]
    assert address.startswith("10.64.")
    return address, address.split(".")[2:]


def consoles(dev: Deployment, seats: dict[int, str]) -> str:
    """Return the ends of the machines' consoles, for a failed test."""
    ends = {
        seat: (dev.account.state / "machines" / name / "console.log").read_text()[-1500:]
        for seat, name in seats.items()
    }
    return json.dumps(ends, indent=1)
