"""A resource type is left out of the stacks exactly in the regions that lack it.

`make check` lints the templates for every region, and so finds a type that a stack makes where it
does not exist. It cannot find a type that is left out where it does exist.
"""

from __future__ import annotations

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
def types_of(region: str) -> set[str]:
    """Return the types of our templates that a region has."""
    return every_type() & set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region))


def made_in(region: str) -> set[str]:
    """Return the types that the stacks have in a region if everything is turned on."""
    return {
        resource["Type"]
        for concern in Concern
        for resource in resources_made(concern, {**ALL_ON, "AWS::Region": region}).values()
    }


@pytest.mark.parametrize("kind", sorted(MISSING_SOMEWHERE))
def test_a_type_is_left_out_exactly_where_it_does_not_exist(kind: str) -> None:
    """The conditions leave a type out in the regions that lack it, and in no other."""
    lacking = {region for region in REGIONS if kind not in types_of(region)}
    left_out = {region for region in REGIONS if kind not in made_in(region)}
    assert lacking, f"every region has {kind} now: remove it from MISSING_SOMEWHERE"
    assert left_out == lacking


def test_all_switches_are_on() -> None:
    """The parameters of this module turn on every type in a region that has them all."""
    assert made_in("us-east-1") == every_type()


def test_every_type_that_a_region_lacks_is_listed() -> None:
    """MISSING_SOMEWHERE names every type of the templates that some region lacks."""
    lacking = set().union(*(every_type() - types_of(region) for region in REGIONS))
    assert lacking == set(MISSING_SOMEWHERE)
