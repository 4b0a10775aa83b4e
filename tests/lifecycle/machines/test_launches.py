"""The next launch: market, pools, hours, back-off and request."""

from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.launch_requests import (
    BACK_OFF_MOST_S,
    MOST_OVERRIDES,
    back_off_s,
    build_fleet_request,
    explain_refusals,
    plan_deadline,
    plan_market,
    plan_pools,
    plan_types,
    trial_tags,
)
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, AttemptOutcome, client_token
from rl_lifecycle.storage.layout import TrialId

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
TRIAL = TrialId("cartpole", "r1", "seed-0")
SUBNETS = {"eu-west-1a": "subnet-a", "eu-west-1b": "subnet-b"}


def attempt(
    number: int, market: str = "spot", end: AttemptEnd | None = None, **outcome: Any
) -> Attempt:
    """Build an attempt as it is stored."""
    request = {"TargetCapacitySpecification": {"DefaultTargetCapacityType": market}}
    return Attempt(
        experiment="cartpole",
        run="r1",
        trial="seed-0",
        attempt=number,
        token=client_token(TRIAL, number),
        nonce="n",
        request=request,
        created_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
        price_reserved_usd=0.1,
        outcome=AttemptOutcome(end=end, **outcome),
    )


def test_spot_comes_first_then_on_demand_after_as_many_attempts_as_the_experiment_says() -> None:
    """Each spot attempt counts, also one that every pool refused."""
    compute = Compute(on_demand_after=2)
    first = attempt(1, end=AttemptEnd.NO_CAPACITY)
    second = attempt(2, end=AttemptEnd.INTERRUPTED)
    assert [plan_market(compute, tried) for tried in ([], [first], [first, second])] == [
        "spot",
        "spot",
        "on-demand",
    ]


def test_never_on_demand_when_the_experiment_says_zero() -> None:
    """`on_demand_after: 0` never uses on-demand."""
    many = [attempt(n, end=AttemptEnd.INTERRUPTED) for n in range(1, 20)]
    assert plan_market(Compute(on_demand_after=0), many) == "spot"


def test_on_demand_experiments_never_ask_for_spot() -> None:
    """An on-demand experiment never uses spot."""
    assert plan_market(Compute(market="on-demand"), []) == "on-demand"


def test_a_trial_with_checkpoints_stays_on_its_processor_generation() -> None:
    """A trial continues on its numeric class, where interrupted equals uninterrupted."""
    compute = Compute(instance_types=("c7i.large", "c7a.large", "m7i.large"))
    ran = attempt(1, end=AttemptEnd.INTERRUPTED, instance_type="c7i.large", committed_step=40_960)
    assert plan_types(compute, [ran]) == ("c7i.large", "m7i.large")


def test_a_trial_without_a_checkpoint_may_go_anywhere() -> None:
    """Without a checkpoint any type may be used."""
    ran = attempt(1, end=AttemptEnd.INTERRUPTED, instance_type="c7i.large", committed_step=0)
    assert plan_types(Compute(), [ran]) == AUTO_TYPES


def test_an_experiment_that_accepts_other_hardware_keeps_all_types() -> None:
    """`on_other_hardware: continue` gives up comparability for capacity."""
    ran = attempt(1, end=AttemptEnd.INTERRUPTED, instance_type="c7i.large", committed_step=40_960)
    assert plan_types(Compute(on_other_hardware="continue"), [ran]) == AUTO_TYPES


def test_pools_are_types_in_zones_that_offer_them() -> None:
    """A request contains only types in zones that offer them."""
    pools = plan_pools(
        ["c7i.large", "c7a.large"],
        SUBNETS,
        {"c7i.large": ["eu-west-1a", "eu-west-1b"], "c7a.large": ["eu-west-1b"]},
    )
    assert [(pool.instance_type, pool.zone) for pool in pools] == [
        ("c7i.large", "eu-west-1a"),
        ("c7i.large", "eu-west-1b"),
        ("c7a.large", "eu-west-1b"),
    ]


def test_no_subnet_with_the_type_is_refused_with_the_fix() -> None:
    """Without a matching subnet the launch is refused with the fix."""
    with pytest.raises(
        LaunchRefusedError, match=r"p5\.48xlarge is offered in the zones .*eu-west-1a.*choose other"
    ):
        plan_pools(["p5.48xlarge"], SUBNETS, {})


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["c7i.large", "m7i.large", "g5.xlarge"]), min_size=1),
    st.integers(1, 400),
)
def test_pools_never_exceed_what_ec2_takes(types: list[str], zones: int) -> None:
    """A request has at most EC2's number of overrides, without duplicates."""
    pools = plan_pools(types, {f"z{n}": f"subnet-{n}" for n in range(zones)})
    assert 0 < len(pools) <= MOST_OVERRIDES
    assert len(set(pools)) == len(pools)


def test_the_deadline_leaves_what_the_machines_before_did_not_use() -> None:
    """`max_hours` counts all attempts of the trial together."""
    used = attempt(1, end=AttemptEnd.INTERRUPTED, seconds=1800.0)
    assert plan_deadline(Compute(max_hours=2), [used], NOW) == NOW + timedelta(hours=1.5)


def test_used_up_hours_refuse_the_launch() -> None:
    """A launch whose deadline has passed is refused."""
    used = attempt(1, end=AttemptEnd.INTERRUPTED, seconds=7200.0)
    with pytest.raises(LaunchRefusedError, match=r"compute\.max_hours 2"):
        plan_deadline(Compute(max_hours=2), [used], NOW)


def test_back_off_grows_with_refusals_in_a_row_and_has_a_ceiling() -> None:
    """Back-off roughly doubles up to about ten minutes, with jitter from the token."""
    refused = [attempt(n, end=AttemptEnd.NO_CAPACITY) for n in range(1, 30)]
    waits = [back_off_s(refused[:n]) for n in range(1, 30)]
    assert waits[0] < 20
    assert waits[3] > 4 * waits[0] * 0.5
    assert max(waits) <= BACK_OFF_MOST_S * 1.25


def test_an_interruption_does_not_wait() -> None:
    """Only a refused launch is delayed, not one after an interruption."""
    assert (
        back_off_s([attempt(1, end=AttemptEnd.NO_CAPACITY), attempt(2, end=AttemptEnd.INTERRUPTED)])
        == 0
    )


@pytest.mark.parametrize("profile", [None, "arn:aws:iam::123456789012:instance-profile/p"])
@pytest.mark.parametrize("market", ["spot", "on-demand"])
def test_the_request_is_one_that_ec2s_own_model_accepts(market: Any, profile: str | None) -> None:
    """The request fits botocore's model of EC2, with the right types."""
    tags = trial_tags("dev", TRIAL, 1, "ab" * 32, NOW)
    request = build_fleet_request(
        launch_template_id="lt-0123456789abcdef0",
        launch_template_version="7",
        pools=plan_pools(AUTO_TYPES, SUBNETS),
        market=market,
        tags=tags,
        instance_profile_arn=profile,
    )
    model = botocore.session.get_session().get_service_model("ec2").operation_model("CreateFleet")
    report = ParamValidator().validate(
        {**request, "ClientToken": client_token(TRIAL, 1)}, model.input_shape
    )
    assert not report.has_errors(), report.generate_report()
    assert request["TargetCapacitySpecification"] == {
        "TotalTargetCapacity": 1,
        "DefaultTargetCapacityType": market,
    }
    assert "MaxPrice" not in str(request)
    configs: Any = request["LaunchTemplateConfigs"]
    profiles = [override.get("IamInstanceProfile") for override in configs[0]["Overrides"]]
    assert profiles == [{"Arn": profile} if profile else None] * len(profiles)


def test_a_machine_has_the_tags_that_the_trainer_and_the_reaper_need() -> None:
    """These tags are the contract between launcher, user data, adoption and reaper."""
    tags = trial_tags("dev", TRIAL, 3, "ab" * 32, NOW)
    assert {name.removeprefix("nightshift:") for name in tags} == {
        "Name",
        "environment",
        "experiment",
        "run",
        "trial",
        "attempt",
        "spec",
        "deadline",
    }
    assert tags["nightshift:deadline"] == "2026-11-22T02:00:00Z"
    assert tags["nightshift:attempt"] == "3"


def test_tokens_differ_by_trial_and_attempt_and_fit_ec2() -> None:
    """A token has at most 64 ASCII characters, and each attempt has its own."""
    tokens = {
        client_token(TrialId("e", "r", f"seed-{trial}"), number)
        for trial in range(20)
        for number in range(1, 20)
    }
    assert len(tokens) == 380
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_a_used_up_quota_is_refused_with_the_fix() -> None:
    """The message says what to do, because waiting alone does not free a quota."""
    assert "Service Quotas" in explain_refusals(
        ["VcpuLimitExceeded", "InsufficientInstanceCapacity"]
    )
    assert explain_refusals(["InsufficientInstanceCapacity"]) == ""
