"""The instruction set of instance types."""

import pytest

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.architectures import architecture_of, refuse_other_architectures
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES

X86_64 = (
    "c7i.large",
    "c7i-flex.large",
    "g4dn.xlarge",
    "g6e.xlarge",
    "gr6.4xlarge",
    "p5en.48xlarge",
)
ARM64 = (
    "c6gn.large",
    "c8gd.large",
    "is4gen.large",
    "t4g.small",
    "x2gd.large",
    "p6e-gb200.36xlarge",
)


def test_a_types_name_says_its_architecture() -> None:
    """The option `g` after the generation is a Graviton processor; a family's first `g` is not."""
    assert {architecture_of(name) for name in X86_64} == {"x86_64"}
    assert {architecture_of(name) for name in ARM64} == {"arm64"}


def test_the_name_agrees_with_the_table() -> None:
    """For each type of the table the rule of names gives the architecture of its row."""
    rows = INSTANCE_TYPES.values()
    assert {row.name for row in rows if architecture_of(f"{row.family}.x") != row.architecture} == (
        set()
    )


def test_only_the_types_that_cannot_work_are_named() -> None:
    """The refusal names the arm64 types alone."""
    refuse_other_architectures(X86_64)
    with pytest.raises(LaunchRefusedError, match=r"^t4g\.small, c8gd\.large: arm64"):
        refuse_other_architectures(("c7i.large", "t4g.small", "c8gd.large"))
