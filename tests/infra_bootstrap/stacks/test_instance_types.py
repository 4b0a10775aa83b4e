"""A new instance type needs one new row of the table and no other change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.commands import smoke
from infra_bootstrap.preflight.account import VCPU_QUOTAS
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.parameters import (
    ALLOWED_TYPES,
    WANTED_TYPES,
    allow_types_of_the_table,
    plan_parameters,
)
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import parameters_of
from rl_lifecycle import machines
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.prices import FALL_BACK
from tests.infra_bootstrap.accounts import ROOT, Account, Deployment

DEFAULT = str(parameters_of(Concern.IDENTITY)[ALLOWED_TYPES]["Default"])
#: Invented types: the next size of a family, and a GPU type with a new first letter.
NEW_ROWS = (
    {
        "name": "c9x.large",
        "vcpus": 2,
        "memory_gib": 4,
        "architecture": "x86_64",
        "processor": "next-lake",
        "quota": "standard",
        "on_demand_usd": 0.08,
        "spot_usd": 0.02,
        "auto": True,
        "preflight": True,
    },
    {
        "name": "w9.medium",
        "vcpus": 6,
        "memory_gib": 12,
        "architecture": "x86_64",
        "processor": "w9",
        "gpu": {"manufacturer": "NVIDIA", "model": "W1", "count": 1, "memory_gib": 48},
        "quota": "G and VT",
        "on_demand_usd": 0.9,
        "spot_usd": 0.3,
    },
)
#: Runs in its own process, which imports a copy of the contract with the new rows.
QUESTIONS = """
import json, sys
from pathlib import Path
from botocore.exceptions import ClientError
from infra_bootstrap.preflight.results import Situation
from infra_bootstrap.preflight.checklist import make_check
from rl_airflow.machines.pools import slots_of
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.machines.launch_requests import instance_types_of, processor_of
from rl_lifecycle.machines.prices import highest_on_demand_usd, table_usd
from rl_lifecycle.machines.quotas import quota_code, vcpus_of
from tests.infra_bootstrap.accounts import Account, Deployment
from tests.infra_bootstrap.stacks.test_least_privilege import fleet

names = json.loads(sys.argv[2])
experiment = {
    "env_id": "CartPole-v1", "algo": "ppo", "total_timesteps": 40_960, "checkpoint_every": 40_960,
    "compute": {"instance_types": names},
    "evaluation": {"return_range": [0, 500], "crash_below": 50},
}
compute = read_experiment(experiment, 'new').compute
with_a_gpu = {"instance_types": names[1:]}
account = Account(Path(sys.argv[1]))
with account.reachable():
    dev = Deployment(account)
    dev.deploy()
    launched = {}
    for name in names:
        request = fleet(dev, InstanceType=name) | {"DryRun": False}
        answer = dev.as_role("launcher").ec2.create_fleet(**request)
        launched[name] = [one["InstanceType"] for one in answer["Instances"]] or answer["Errors"]
    at = Situation(account.clients(), dev.settings)
    checks = make_check("zones", at) + make_check("vCPUs", at)
print(json.dumps({
    "auto": AUTO_TYPES,
    "form": [instance_types_of(compute), slots_of(compute)],
    "form with a GPU": read_experiment(
        experiment | {"compute": with_a_gpu}, "new"
    ).compute.instance_types,
    "dearest": highest_on_demand_usd(names),
    "types": {
        name: [
            vcpus_of(name), processor_of(name), quota_code(name, "spot"),
            table_usd(name, "spot"), table_usd(name, "on-demand"),
        ]
        for name in names
    },
    "launched": launched,
    "checks": {check.name: check.found for check in checks},
}))
"""


@pytest.fixture(scope="module")
def table_with_new_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the contract into its own folder and add rows to its table."""
    room = tmp_path_factory.mktemp("lifecycle")
    shutil.copytree(Path(machines.__file__).parents[1], room / "rl_lifecycle")
    table = room / "rl_lifecycle/machines/instance_types.json"
    document = json.loads(table.read_text())
    table.write_text(json.dumps({**document, "types": [*document["types"], *NEW_ROWS]}))
    return table


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory, table_with_new_rows: Path) -> Iterator[Account]:
    """A local AWS that was started with the changed table."""
    account = Account(
        tmp_path_factory.mktemp("types") / "state", "--instance-types", str(table_with_new_rows)
    )
    yield account
    account.down()


@pytest.fixture(scope="module")
def answers(newer: Account, table_with_new_rows: Path) -> dict[str, Any]:
    """What the pipeline answers about the new types, and what the launcher could launch."""
    rooms = (table_with_new_rows.parents[2], ROOT)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            QUESTIONS,
            str(newer.state),
            json.dumps([row["name"] for row in NEW_ROWS]),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, rooms))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_new_row_is_all_that_the_pipeline_needs(answers: dict[str, Any]) -> None:
    """`auto`, prices, quotas, processors, pools, experiments and preflight know the type."""
    assert answers["auto"][0] == "c9x.large"
    assert "w9.medium" not in answers["auto"]
    assert answers["form"] == [["c9x.large", "w9.medium"], 6]
    assert answers["form with a GPU"] == ["w9.medium"]
    assert answers["dearest"] == 0.9
    assert answers["types"] == {
        "c9x.large": [2, "next-lake", "L-34B43A08", 0.02, 0.08],
        "w9.medium": [6, "w9", "L-3819A6DF", 0.3, 0.9],
    }
    assert answers["checks"]["zones with c9x.large"] == "eu-west-1a, eu-west-1b, eu-west-1c"
    assert "zones with w9.medium" not in answers["checks"]


def test_a_new_row_is_all_that_the_launcher_needs(answers: dict[str, Any]) -> None:
    """The deployed policy allows the new type, and the local AWS starts such a machine."""
    assert answers["launched"] == {"c9x.large": ["c9x.large"], "w9.medium": ["w9.medium"]}


def test_a_new_row_is_all_that_the_local_aws_needs(newer: Account) -> None:
    """The local AWS describes the type, offers it in every zone, and prices it."""
    with newer.reachable():
        clients = newer.clients()
        names = [str(row["name"]) for row in NEW_ROWS]
        found = clients.ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
        assert [
            (kind["VCpuInfo"]["DefaultVCpus"], kind["MemoryInfo"]["SizeInMiB"]) for kind in found
        ] == [(2, 4096), (6, 12288)]
        assert [kind.get("GpuInfo", {}).get("TotalGpuMemoryInMiB") for kind in found] == [
            None,
            49152,
        ]
        history = clients.ec2.describe_spot_price_history(
            InstanceTypes=["c9x.large"], ProductDescriptions=["Linux/UNIX"]
        )["SpotPriceHistory"]
        assert all(0.015 < float(entry["SpotPrice"]) < 0.025 for entry in history)
        products = clients.client("pricing").get_products(
            ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "c9x.large"}],
        )["PriceList"]
        assert [json.loads(text)["product"]["attributes"]["vcpu"] for text in products] == ["2"]


def test_a_killed_local_aws_keeps_the_types_of_its_start(newer: Account) -> None:
    """After a crash the local AWS restarts with the copy in its state folder."""
    newer.local_aws("fault", "restart", "--json")
    with newer.reachable():
        found = newer.clients().ec2.describe_instance_types(InstanceTypes=["c9x.large"])
    assert len(found["InstanceTypes"]) == 1


def test_the_launcher_of_a_new_environment_may_launch_every_type_that_has_a_price(
    dev: Deployment,
) -> None:
    """The template's list and the added families allow every type that has a price."""
    planned = plan_parameters(
        dev.account.clients(), DeploymentSettings("other"), Concern.IDENTITY, None
    )
    patterns = planned[ALLOWED_TYPES].split(", ")
    assert patterns[: len(DEFAULT.split(", "))] == DEFAULT.split(", ")
    for name in FALL_BACK:
        assert any(fnmatchcase(name, pattern) for pattern in patterns), name


def test_families_of_new_rows_are_added_to_a_list_that_was_not_narrowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New families are added to the default or a widened list, not to a narrowed one."""
    before = allow_types_of_the_table(DEFAULT, DEFAULT)
    row = replace(next(iter(INSTANCE_TYPES.values())), name="c9x.large")
    monkeypatch.setitem(INSTANCE_TYPES, row.name, row)  # type: ignore[arg-type]
    monkeypatch.setitem(FALL_BACK, row.name, FALL_BACK["c7i.large"])
    assert allow_types_of_the_table(DEFAULT, DEFAULT) == f"{before}, c9x.*"
    assert allow_types_of_the_table(f"{before}, c9x.*", DEFAULT) == f"{before}, c9x.*"
    assert allow_types_of_the_table(f"{before}, p5.*", DEFAULT) == f"{before}, p5.*, c9x.*"
    assert allow_types_of_the_table("c7i.*", DEFAULT) == "c7i.*"


def test_a_person_may_still_choose_the_list(dev: Deployment) -> None:
    """A list that a person gave is used unchanged."""
    settings = DeploymentSettings("other", parameters={ALLOWED_TYPES: "m5.*"})
    planned = plan_parameters(dev.account.clients(), settings, Concern.IDENTITY, None)
    assert planned[ALLOWED_TYPES] == "m5.*"


def test_what_the_deployment_names_is_in_the_table() -> None:
    """The first run's types and the template's default type have a price."""
    default = parameters_of(Concern.TRAINING)["InstanceType"]["Default"]
    assert {default, *smoke.INSTANCE_TYPES} <= set(FALL_BACK)


def test_preflight_looks_at_the_smallest_types_of_each_quota() -> None:
    """Preflight checks the smallest types of `auto` and the smallest GPU types."""
    least = {"c7i.large", "c6i.large", "g4dn.xlarge", "g5.xlarge", "g6.xlarge"}
    assert least <= set(WANTED_TYPES)
    assert set(VCPU_QUOTAS) >= {
        ("standard, spot", "L-34B43A08", 2, True),
        ("standard, on-demand", "L-1216C47A", 2, True),
        ("G and VT (GPU), spot", "L-3819A6DF", 4, False),
        ("G and VT (GPU), on-demand", "L-DB2E81BA", 4, False),
    }
