"""A launch that can never fit a vCPU quota is refused; one that does not fit now waits."""

import pytest

from rl_lifecycle.aws_errors import ErrorKind, kind_of
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.quotas import (
    FULL,
    Usage,
    quota_code,
    refusals_of_full,
    refuse_hopeless,
    vcpus_of,
)

SPOT, G_SPOT = "L-34B43A08", "L-3819A6DF"


def test_a_quota_of_zero_is_refused_with_the_command_that_asks_for_more() -> None:
    """A quota of zero, as new accounts have for GPUs, is refused with the command."""
    with pytest.raises(
        LaunchRefusedError,
        match=rf"quota {G_SPOT} allows 0 vCPUs of spot.*--quota-code {G_SPOT} --desired-value 16",
    ):
        refuse_hopeless(["g5.xlarge", "g6.xlarge"], "spot", {G_SPOT: 0.0})


def test_a_quota_smaller_than_the_smallest_type_is_refused() -> None:
    """A quota of one vCPU is refused, because the smallest machine has two."""
    with pytest.raises(LaunchRefusedError, match=r"the smallest of .* has 2"):
        refuse_hopeless(AUTO_TYPES, "spot", {SPOT: 1.0})


def test_one_type_that_fits_is_enough() -> None:
    """One type within its quota is enough; a type of unknown quota is left to EC2."""
    with pytest.raises(LaunchRefusedError):
        refuse_hopeless(["g5.xlarge"], "spot", {G_SPOT: 0.0})
    refuse_hopeless(["g5.xlarge", "c7i.large"], "spot", {G_SPOT: 0.0, SPOT: 5.0})
    refuse_hopeless(["g5.xlarge", "trn1.2xlarge"], "spot", {G_SPOT: 0.0})
    refuse_hopeless(["g5.xlarge"], "spot", {})


def test_a_full_quota_refuses_every_pool_with_a_code_that_waits() -> None:
    """Each pool gets the refusal that EC2 would give."""
    pools = [("c7i.large", "eu-west-1a"), ("m7i.large", "eu-west-1b")]
    refusals = refusals_of_full(pools, "spot", {SPOT: Usage(64, 63)})
    assert [(one.instance_type, one.zone, one.code) for one in refusals] == [
        ("c7i.large", "eu-west-1a", "MaxSpotInstanceCountExceeded"),
        ("m7i.large", "eu-west-1b", "MaxSpotInstanceCountExceeded"),
    ]
    assert "63 of 64 vCPUs" in refusals[0].message
    assert {kind_of(code) for code in FULL.values()} == {ErrorKind.QUOTA}


def test_room_in_one_pool_is_left_to_ec2() -> None:
    """EC2 chooses among the pools that have room."""
    assert (
        refusals_of_full(
            [("g5.xlarge", "a"), ("c7i.large", "a")],
            "spot",
            {SPOT: Usage(64, 62), G_SPOT: Usage(0, 0)},
        )
        == ()
    )


def test_the_vcpus_of_the_types_that_auto_means() -> None:
    """Each type of `auto` has two vCPUs and counts against the standard spot quota."""
    assert {vcpus_of(name) for name in AUTO_TYPES} == {2}
    assert {quota_code(name, "spot") for name in AUTO_TYPES} == {SPOT}
