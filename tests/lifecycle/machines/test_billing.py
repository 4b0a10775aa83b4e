"""Everything that a launch is billed for is in its reservation, and prices have a source."""

import json
import math
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import template
from rl_airflow.evaluation import evaluator
from rl_airflow.trials import trigger
from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.machines import billing
from rl_lifecycle.machines.billing import (
    FunctionUse,
    MachineUse,
    bill_functions,
    bill_machine,
    estimate_evaluations,
    public_addresses,
    total,
    volumes_gib,
)
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.machines.prices import BILLED_AT_LEAST_S
from rl_lifecycle.machines.service_prices import PAGES, TABLE, ServicePrices, read_table
from rl_trainer.reporting.heartbeat import interval_s

PRICES = TABLE.prices
PINNED = Path(__file__).parents[2] / "stored_forms" / "night" / "night.tar.xz"

#: What each part of a launch template is billed for. A property that is not here fails the test
#: until the reservation knows it.
LAUNCH_TEMPLATE: dict[str, str] = {
    "ImageId": "nothing: our images are free of charge; preflight checks the image's root device",
    "InstanceType": "the machine: `instance`, at the highest price of the requested types",
    "IamInstanceProfile": "nothing",
    "SecurityGroupIds": "nothing",
    "InstanceInitiatedShutdownBehavior": "nothing",
    "MetadataOptions": "nothing",
    "BlockDeviceMappings": "the volumes: `volumes`",
    "TagSpecifications": "nothing",
    "UserData": "nothing",
}
#: The same for a volume.
VOLUME: dict[str, str] = {
    "Encrypted": "nothing: AWS's own key is free of charge",
    "KmsKeyId": "nothing: requests to a key of your own are not counted, as the documentation says",
    "VolumeType": "gp3; other types are refused",
    "VolumeSize": "the volumes: `volumes`",
    "DeleteOnTermination": "nothing, and the volume ends with its machine",
}
#: The same for the function.
FUNCTION: dict[str, str] = {
    **dict.fromkeys(
        (
            "FunctionName",
            "Description",
            "Runtime",
            "Handler",
            "Role",
            "Code",
            "Layers",
            "Environment",
            "Tags",
            "DeadLetterConfig",
            "ReservedConcurrentExecutions",
        ),
        "nothing",
    ),
    "Architectures": "x86_64, whose price is `lambda_gib_s`",
    "MemorySize": "`duration`",
    "Timeout": "`duration`",
    "EphemeralStorage": "`storage`",
    "TenancyConfig": "a tenant's new environment costs extra; docs/machines.md: it is not counted",
}


def spec_of(**experiment: Any) -> Spec:
    """Freeze a run of an experiment."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 409_600,
        "trials": 3,
        "checkpoint_every": 40_960,
        "evaluation": {"return_range": [0, 500], "crash_below": 100, "max_pairs": 400},
        **experiment,
    }
    created_at = datetime(2026, 11, 30, tzinfo=UTC)
    return freeze_spec(read_experiment(document, "cartpole"), run_id="r", created_at=created_at)


def launch_template() -> dict[str, Any]:
    """Return the data of the launch template, with the volume's default size."""
    declared = template(Concern.TRAINING)
    data: dict[str, Any] = declared["Resources"]["LaunchTemplate"]["Properties"][
        "LaunchTemplateData"
    ]
    text = json.dumps(data).replace(
        '{"Ref": "VolumeGib"}', str(declared["Parameters"]["VolumeGib"]["Default"])
    )
    return dict(json.loads(text))


def test_everything_in_the_launch_template_is_in_the_reservation() -> None:
    """A new property of the template, of its volumes or of the function must be classified."""
    data = launch_template()
    assert set(data) == set(LAUNCH_TEMPLATE)
    (mapping,) = data["BlockDeviceMappings"]
    assert set(mapping) == {"DeviceName", "Ebs"}
    assert set(mapping["Ebs"]) == set(VOLUME)
    resources = template(Concern.EVALUATION)["Resources"]
    functions = {name: resources[name]["Properties"] for name in ("Evaluator", "Player", "Judge")}
    assert {key for function in functions.values() for key in function} == set(FUNCTION)
    for name, function in functions.items():
        assert function["Architectures"] == ["x86_64"]
        assert float(function["Timeout"]) <= billing.FUNCTION_TIME_LIMIT_S
        assert ("EphemeralStorage" in function) == (name == "Player")
    assert float(functions["Player"]["EphemeralStorage"]["Size"]) == billing.FUNCTION_STORAGE_MIB
    memory = template(Concern.EVALUATION)["Parameters"]["EvaluatorMemoryMib"]["Default"]
    assert float(memory) == billing.FUNCTION_MEMORY_MIB
    largest = template(Concern.IDENTITY)["Parameters"]["MaxVolumeGib"]["Default"]
    assert float(largest) == billing.LARGEST_VOLUME_GIB


def test_machines_get_no_public_address_and_ones_that_are_asked_for_are_counted() -> None:
    """The subnets give none, and an interface that asks for one is in the reservation."""
    subnets = [
        resource["Properties"]
        for name, resource in template(Concern.NETWORK)["Resources"].items()
        if resource["Type"] == "AWS::EC2::Subnet" and name != "PublicSubnet"
    ]
    assert subnets
    assert not any(subnet.get("MapPublicIpOnLaunch") for subnet in subnets)
    assert public_addresses(launch_template()) == 0
    interfaces = [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]
    assert public_addresses({"NetworkInterfaces": interfaces}) == 1
    bill = bill_machine(MachineUse(7200, 0.1, 100, 1, public_addresses=1), PRICES)
    assert bill["addresses"] == pytest.approx(0.01)


def test_a_second_volume_is_reserved_too() -> None:
    """All volumes of the template count; without a size the largest allowed one does."""
    data = launch_template()
    assert volumes_gib(data) == 100
    data["BlockDeviceMappings"].append({"Ebs": {"VolumeType": "gp3", "VolumeSize": 50}})
    assert volumes_gib(data) == 150
    assert volumes_gib({}) == billing.LARGEST_VOLUME_GIB


@pytest.mark.parametrize(
    "volume",
    [
        {"VolumeType": "io2", "VolumeSize": 100},
        {"VolumeType": "gp3", "VolumeSize": 100, "Iops": 6000},
        {"VolumeType": "gp3", "VolumeSize": 100, "Throughput": 500},
        {"VolumeType": "gp3"},
        {"VolumeSize": 100},
    ],
)
def test_a_volume_that_costs_more_is_refused(volume: dict[str, Any]) -> None:
    """Its price is not known, so the cost of the launch would have no limit."""
    with pytest.raises(LaunchRefusedError, match="use gp3 with a size"):
        volumes_gib({"BlockDeviceMappings": [{"Ebs": volume}]})


def test_every_price_of_the_table_is_in_a_bill() -> None:
    """A price that no bill uses would be a billed part that no reservation counts."""
    machine = MachineUse(3600, 0.1, 100, 10, public_addresses=1)
    functions = FunctionUse(100, 9000)

    def bill(prices: ServicePrices) -> float:
        return total(bill_machine(machine, prices)) + total(bill_functions(functions, prices))

    for name in PAGES:
        dearer = PRICES.with_known({name: getattr(PRICES, name) * 1000})
        assert bill(dearer) > bill(PRICES), name


def test_the_bills_are_those_of_awss_own_examples() -> None:
    """The formulas give the sums of the examples on AWS's pages.

    Sources: https://aws.amazon.com/ebs/pricing/ (a gp3 volume of 2,000 GB for 12 hours of a month
    of 30 days), https://aws.amazon.com/lambda/pricing/ (duration of 1,536 MB functions).
    """
    volume = bill_machine(MachineUse(43_200, 0.0, 2000, 0), PRICES)["volumes"]
    assert volume == pytest.approx(0.08 * 2000 * 43_200 / (86_400 * 30))
    use = FunctionUse(3_000_000, 3_000_000 * 0.12, memory_mib=1536, storage_mib=512)
    bill = bill_functions(use, PRICES)
    assert bill["duration"] == pytest.approx(540_000 * 0.0000166667)
    assert bill["requests"] == pytest.approx(0.60)
    assert bill["storage"] == 0


def test_each_attempt_is_billed_for_a_minute_at_least() -> None:
    """Ten attempts that end at once cost ten minutes of a machine and of its volume."""
    bill = bill_machine(MachineUse(1, 6.0, 100, 0), PRICES)
    assert bill["instance"] == pytest.approx(6.0 * BILLED_AT_LEAST_S / 3600)
    assert bill["volumes"] == pytest.approx(100 * 0.08 / (30 * 24 * 60))


@given(st.integers(1, 200_000))
def test_no_trainer_writes_more_heartbeats_than_are_billed(seconds: int) -> None:
    """The bound covers the trainer's own pauses, and is at most a quarter too high."""
    age, written = 0.0, 0
    while age < seconds:
        written += 1
        age += interval_s(age)
    assert written <= billing.heartbeats_at_most(seconds)
    assert seconds < 3600 or billing.heartbeats_at_most(seconds) <= 1.25 * written


def test_no_trial_is_watched_with_more_lists_than_are_billed() -> None:
    """The bound covers the pauses of the trigger with its default waiter delay."""
    age, looks = 0.0, 0
    while age < 14_400:
        looks += 1
        age += min(5.0, max(1.0, trigger.SHARE_OF_AGE * age))
    assert looks <= billing.looks_at_most(14_400)


def test_a_checkpoint_has_no_more_files_than_are_billed() -> None:
    """The stored night shows how many objects a trainer writes for a checkpoint."""
    import tarfile

    with tarfile.open(PINNED) as archive:
        names = [one.name for one in archive.getmembers() if one.isfile()]
    kinds = ("checkpoints", "policies", "metrics", "logs", "buffers")
    written = [
        name
        for name in names
        if re.match(rf"bucket/({'|'.join(kinds)})/stored_night/night-2/", name)
    ]
    checkpoints = sum(name.endswith("/manifest.json") for name in written)
    assert checkpoints > 1
    heads_and_logs = 2 * checkpoints
    assert len(written) + heads_and_logs <= checkpoints * billing.CHECKPOINT_WRITES


def test_evaluations_are_estimated_from_the_experiment() -> None:
    """Ten policies of each of three trials, the gate's pairs, and the other calls."""
    spec = spec_of()
    assert spec.n_segments == 10
    unknown = estimate_evaluations(spec)
    arrivals, selections, gate, calls = 30, 30 * 2, 2 * 8, 1 + 4 + 2
    assert unknown.invocations == arrivals + selections + gate + calls
    assert unknown.seconds == 900 * unknown.invocations
    known = estimate_evaluations(spec, episode_s=0.1)
    assert known.invocations == unknown.invocations
    assert known.seconds == arrivals * (10 + 3 * 100 * 0.1) + (selections + gate + calls) * 25
    assert evaluator.SHARD_EPISODES == billing.EPISODES_OF_INVOCATION


def test_scenarios_and_pairs_raise_the_estimate() -> None:
    """Each scenario is checked and played by both policies."""
    plain = estimate_evaluations(spec_of())
    limits = {"return_range": [0, 500], "crash_below": 100, "max_pairs": 400}
    noisy = {"noisy": {"perturbation": {"observation_noise": 0.1}}}
    more = estimate_evaluations(spec_of(evaluation={**limits, "scenarios": noisy}))
    assert more.invocations - plain.invocations == 1 + 2 * 8


def test_the_table_is_dated_and_every_price_has_a_page() -> None:
    """Each price names AWS's page, and the table can be written and read again."""
    assert TABLE.as_of >= date(2026, 11, 30)
    assert TABLE.region in TABLE.source or TABLE.region == "us-east-1"
    assert PAGES.keys() == vars(PRICES).keys()
    for page in PAGES.values():
        assert re.fullmatch(r"https://aws\.amazon\.com/[a-z0-9]+/pricing/", page)
    assert read_table(TABLE.to_json(PAGES)) == TABLE
    assert all(price > 0 and math.isfinite(price) for price in vars(PRICES).values())


README = (Path(__file__).parents[3] / "README.md").read_text()
#: README's word for each part of a bill.
WORDS = {
    "instance": "machines",
    "volumes": "volumes",
    "addresses": "machines",
    "s3": "S3 requests",
    "duration": "evaluations in Lambda",
    "storage": "evaluations in Lambda",
    "requests": "evaluations in Lambda",
    "logs": "logs",
}


def test_readme_names_what_counts_against_the_budget() -> None:
    """README's sentence lists the parts of the two bills, and no other part."""
    (sentence,) = re.findall(r"A run costs at most its `compute\.budget_usd`: (.*?)\.", README)
    bills = bill_machine(MachineUse(1, 1, 1, 1), PRICES) | bill_functions(FunctionUse(1, 1), PRICES)
    assert bills.keys() == WORDS.keys()
    assert set(re.split(r", | and (?=logs)", sentence)) == set(WORDS.values())


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(0.01, 1.0), st.floats(0.1, 1.0), st.booleans()),
        max_size=30,
    ),
    st.floats(0.0, 1.0),
    st.floats(0.5, 3.0),
)
def test_no_run_costs_more_than_its_budget(
    attempts: list[tuple[int, float, float, bool]], played: float, budget_usd: float
) -> None:
    """Machines end at any time, on any market; evaluations use any part of what was estimated."""
    spec = spec_of(compute={"budget_usd": budget_usd, "max_hours": 2})
    estimate = estimate_evaluations(spec, episode_s=0.05)
    books = Ledger(experiment="e", run="r", month="2026-11", budget_usd=budget_usd)
    left_s = dict.fromkeys(range(len(spec.trials)), 7200.0)
    for trial, share, price, is_settled in attempts:
        number = 1 + sum(entry.trial == str(trial) for entry in books.entries)
        most = MachineUse(left_s[trial], 0.1, 100, spec.n_segments)
        try:
            if not books.entries:
                books = books.reserve_evaluation(total(bill_functions(estimate, PRICES)))
            books = books.reserve(str(trial), number, total(bill_machine(most, PRICES)))
        except BudgetExceededError:
            continue
        seconds = left_s[trial] * share
        left_s[trial] = max(1.0, left_s[trial] - seconds)
        used = MachineUse(seconds, 0.1 * price, 100, math.ceil(spec.n_segments * share))
        if is_settled:
            usd = total(bill_machine(used, PRICES))
            books = books.settle(str(trial), number, usd=usd, seconds=seconds)
        assert books.committed_usd <= budget_usd + 1e-6
    if books.entries:
        use = estimate._replace(
            seconds=estimate.seconds * played, invocations=int(estimate.invocations * played)
        )
        books = books.settle_evaluation(total(bill_functions(use, PRICES)), 1, 1.0)
    assert books.spent_usd <= books.committed_usd + 1e-9 <= budget_usd + 1e-6
