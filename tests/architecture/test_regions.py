"""Every resource type of the templates exists in every region, except those that are listed.

`cfn-lint -r ALL_REGIONS` says the same after more than two minutes. It differs between regions in
the types that exist and in the schema of each; this module compares both directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import resources_made, template

#: The types that some regions lack. The template's conditions leave them out there.
MISSING_SOMEWHERE = {
    "AWS::Budgets::Budget": "budgets belong to the account; the Billing console makes them"
}
#: Parameters that turn on everything that a condition can leave out.
ALL_ON = {
    "MonthlyBudgetUsd": "50",
    "AlarmEmail": "you@example.com",
    "EnableNat": "true",
    "EnableSessionManager": "true",
    **{f"Zone{letter}": "zone" for letter in "BCDEF"},
}


def every_type() -> set[str]:
    """Return the types of all templates."""
    return {
        resource["Type"]
        for concern in Concern
        for resource in template(concern)["Resources"].values()
    }


@cache
def schemas(region: str) -> Mapping[str, str]:
    """Return the types that a region has, each with a name of its schema."""
    known = PROVIDER_SCHEMA_MANAGER.get_resource_types(region)
    return {
        kind: repr(sorted(PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind).schema.items()))
        for kind in every_type() & set(known)
    }


def made_in(region: str) -> set[str]:
    """Return the types that the stacks have in a region if everything is turned on."""
    return {
        resource["Type"]
        for concern in Concern
        for resource in resources_made(concern, {**ALL_ON, "AWS::Region": region}).values()
    }


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_every_type_that_the_stacks_make_there(region: str) -> None:
    """A region has each type that the conditions of the templates let a stack make there."""
    lacking = made_in(region) - set(schemas(region))
    assert not lacking, (
        f"{region} lacks {sorted(lacking)}: add a condition to the template, and a line to "
        "docs/aws-account.md"
    )


@pytest.mark.parametrize("kind", sorted(MISSING_SOMEWHERE))
def test_a_type_is_left_out_exactly_where_it_does_not_exist(kind: str) -> None:
    """The conditions leave a type out in the regions that lack it, and in no other."""
    lacking = {region for region in REGIONS if kind not in schemas(region)}
    left_out = {region for region in REGIONS if kind not in made_in(region)}
    assert lacking, f"every region has {kind} now: remove it from MISSING_SOMEWHERE"
    assert left_out == lacking


def test_all_switches_are_on() -> None:
    """The parameters of this module turn on every type in a region that has them all."""
    assert made_in("us-east-1") == every_type()
    assert {kind for kind in every_type() for region in REGIONS if kind not in schemas(region)} == (
        set(MISSING_SOMEWHERE)
    )


@pytest.mark.parametrize("region", REGIONS)
def test_a_type_has_the_same_schema_in_every_region(region: str) -> None:
    """No region has another schema, so what cfn-lint finds in one region holds in all."""
    here, there = schemas(region), schemas("us-east-1")
    assert {kind for kind in here if here[kind] != there[kind]} == set()
