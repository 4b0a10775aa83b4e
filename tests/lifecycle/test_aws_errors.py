"""Every error code that AWS documents for our calls has a kind, and the kinds fit AWS's own data.

`aws_error_codes.json` holds the codes of the two pages that AWS publishes for EC2 and S3, with the
date on which they were read. For the other services, botocore's models list the errors of each
operation, and the operations are those that our code calls.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from infra_bootstrap.clients import REFUSED
from rl_lifecycle.aws_errors import ErrorKind, error_code, kind_of

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "aws_error_codes.json").read_text())
NOT_OURS = "not_ours"
DOCUMENTED = [
    (page, kind, code)
    for page, table in TABLE["pages"].items()
    for kind, codes in table["codes"].items()
    for code in codes
]
NEVER = {code for codes in TABLE["modeled_but_never"].values() for code in codes}
SERVICES = (
    "budgets",
    "cloudformation",
    "ec2",
    "iam",
    "lambda",
    "pricing",
    "resourcegroupstaggingapi",
    "s3",
    "service-quotas",
    "sns",
    "sqs",
    "ssm",
    "sts",
)
ROOMS = ("lifecycle", "trainer", "evaluator", "plugins", "infra_bootstrap")
#: botocore repeats this code for any service. Where our calls get it, it means a quota.
AMBIGUOUS = {"LimitExceededException"}


def names_called() -> set[str]:
    """Return the names of all methods that our code calls or pages through."""
    names = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                names.add(node.func.attr)
                if node.func.attr == "get_paginator" and isinstance(node.args[0], ast.Constant):
                    names.add(str(node.args[0].value))
    return names


def modeled_errors() -> dict[str, set[str]]:
    """Return the error codes of the operations that our code may call, with the operations.

    A name such as `get_policy` belongs to two services; then both count.
    """
    called, session = names_called(), botocore.session.get_session()
    found: dict[str, set[str]] = defaultdict(set)
    for service in SERVICES:
        model = session.get_service_model(service)
        for operation in model.operation_names:
            if xform_name(operation) in called:
                for shape in model.operation_model(operation).error_shapes:
                    found[shape.error_code or shape.name].add(f"{service}:{operation}")
    return found


def test_the_pinned_codes_are_dated_and_each_has_one_kind() -> None:
    """The table names its pages and its date. No code stands under two kinds."""
    assert len(TABLE["as_of"]) == 10
    for page, table in TABLE["pages"].items():
        assert table["source"].startswith("https://docs.aws.amazon.com/"), page
        codes = [code for listed in table["codes"].values() for code in listed]
        assert len(codes) == len(set(codes)) > 100
        assert set(table["codes"]) <= {*ErrorKind, NOT_OURS}


@pytest.mark.parametrize(("page", "kind"), sorted({(page, kind) for page, kind, _ in DOCUMENTED}))
def test_each_documented_code_of_our_calls_has_its_kind(page: str, kind: str) -> None:
    """A code that none of our calls can get is neither repeated nor waited for."""
    codes = [code for p, k, code in DOCUMENTED if (p, k) == (page, kind)]
    found = {code: kind_of(code) for code in codes}
    safe = {ErrorKind.UNKNOWN, ErrorKind.BAD_REQUEST} if kind == NOT_OURS else {ErrorKind(kind)}
    assert {code: got for code, got in found.items() if got not in safe} == {}


def test_each_error_that_a_model_lists_for_our_calls_has_a_kind() -> None:
    """The others are listed with the reason why we never get them, and each is in a model."""
    errors = modeled_errors()
    unknown = {code for code in errors if kind_of(code) is ErrorKind.UNKNOWN}
    assert unknown - NEVER == set(), {code: errors[code] for code in unknown - NEVER}
    assert unknown == NEVER


def test_the_calls_are_found() -> None:
    """The search sees the calls whose errors matter most, also those through paginators."""
    called = names_called()
    wanted = {"create_fleet", "terminate_instances", "put_object", "invoke", "describe_instances"}
    assert wanted <= called


@pytest.mark.parametrize(
    "codes",
    [
        ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
        TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    ],
)
def test_what_botocore_repeats_counts_as_repeatable(codes: list[str]) -> None:
    """Botocore's own lists are an independent source."""
    kinds = {code: kind_of(code) for code in codes if code not in AMBIGUOUS}
    assert set(kinds.values()) == {ErrorKind.RETRY}, kinds


def test_a_missing_permission_is_denied_everywhere() -> None:
    """The codes for which our commands name the missing permission are of this kind."""
    assert {kind_of(code) for code in REFUSED} == {ErrorKind.DENIED}


@pytest.mark.parametrize("code", ["", "SomethingNew", "NewLimitExceeded", "insufficientcapacity"])
def test_an_unknown_code_is_unknown(code: str) -> None:
    """Nothing is guessed from a part of a name."""
    assert kind_of(code) is ErrorKind.UNKNOWN


def test_a_code_is_read_from_an_answer_of_aws_alone() -> None:
    """Other errors have no code."""
    answer: Any = {"Error": {"Code": "SlowDown", "Message": "slow"}}
    assert error_code(ClientError(answer, "PutObject")) == "SlowDown"
    assert error_code(ConnectionError("no answer")) == ""
