"""The table of instance types is complete and agrees with the rules for other types."""

from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES, read_rows
from rl_lifecycle.machines.launch_requests import processor_of
from rl_lifecycle.machines.prices import FALL_BACK
from rl_lifecycle.machines.quotas import QUOTA_CODES, quota_code, vcpus_of


def test_every_row_says_what_its_columns_promise() -> None:
    """Sizes are positive, quotas are known, and a type has both prices or none."""
    for name, row in INSTANCE_TYPES.items():
        assert row.name == name
        assert row.vcpus > 0
        assert row.memory_gib > 0
        assert row.architecture in ("x86_64", "arm64"), name
        assert row.quota is None or row.quota in QUOTA_CODES, name
        assert (row.on_demand_usd is None) == (row.spot_usd is None), name
        assert row.on_demand_usd is None or 0 < row.spot_usd < row.on_demand_usd, name
        assert row.gpu is None or min(row.gpu.count, row.gpu.memory_gib) > 0, name


def test_no_name_has_two_rows() -> None:
    """No type has two rows, because the second would silently replace the first."""
    names = [row.name for row in read_rows()]
    assert len(names) == len(set(names)) == len(INSTANCE_TYPES)


def test_a_family_has_one_processor() -> None:
    """All rows of a family name one processor, which the family's other types get too."""
    for name, row in INSTANCE_TYPES.items():
        assert processor_of(name) == row.processor


def test_a_type_that_auto_may_choose_is_like_the_one_that_was_measured() -> None:
    """A type for `auto` has two vCPUs on x86, no GPU and a price."""
    marked = [row for row in INSTANCE_TYPES.values() if row.auto]
    for row in marked:
        assert (row.vcpus, row.architecture, row.gpu) == (2, "x86_64", None), row.name
        assert row.name in FALL_BACK
    assert set(AUTO_TYPES) <= {row.name for row in marked}


def test_functions_read_the_row() -> None:
    """The functions return the values of the type's row."""
    for name, row in INSTANCE_TYPES.items():
        assert vcpus_of(name) == row.vcpus
        codes = QUOTA_CODES[row.quota] if row.quota else {}
        assert quota_code(name, "spot") == codes.get("spot")
        assert quota_code(name, "on-demand") == codes.get("on-demand")


def test_types_without_a_row_are_derived_from_their_names() -> None:
    """Size, family letter and family decide for a type without a row."""
    others = ("c7i.24xlarge", "r7i.2xlarge", "p4d.24xlarge", "p5.48xlarge", "g4ad.xlarge")
    assert not set(others) & set(INSTANCE_TYPES)
    assert [vcpus_of(name) for name in others] == [96, 8, 96, 192, 4]
    assert [quota_code(name, "spot") for name in others] == [
        "L-34B43A08",
        "L-34B43A08",
        "L-7212CCBC",
        None,
        "L-3819A6DF",
    ]
    assert [processor_of(name) for name in others] == [
        "sapphire-rapids",
        "sapphire-rapids",
        "p4d",
        "p5",
        "g4ad",
    ]
