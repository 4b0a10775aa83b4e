"""Who may write what: every class of keys against every role, refused by policy and not by a
missing bucket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rl_lifecycle.storage.layout import (
    ARTIFACTS,
    CHECKPOINTS,
    EVALUATIONS,
    LEDGER,
    POLICIES,
    REGISTRY,
    SPECS,
    WRITERS,
)
from tests.infra_bootstrap.accounts import REFUSALS, Deployment, refusal

#: The roles that write, and those that never do: an administrator's hand included.
ROLES = (
    "trainer",
    "evaluator",
    "launcher",
    "promoter",
    "reaper",
    "deployer",
    "airflow-worker",
    "administrator",
)
#: The deployer may by the bucket's policy, for a future without the launcher; its own policy gives
#: it nothing.
WRITES = {(role, prefix) for prefix, roles in WRITERS.items() for role in roles} - {
    ("deployer", ARTIFACTS)
}
FOREIGN = sorted({(role, prefix) for role in ROLES for prefix in WRITERS} - WRITES)
#: A key of each class, as the layout spells it.
KEYS = {
    ARTIFACTS: f"artifacts/{'a' * 64}/x.whl",
    SPECS: "specs/exp/run/spec.json",
    CHECKPOINTS: "checkpoints/exp/run/seed-0/head.json",
    EVALUATIONS: "evaluations/exp/run/gate/shards/0000.json",
    REGISTRY: "registry/exp/champion.json",
    LEDGER: "ledger/2026-11/exp/run.json",
}


def key_of(prefix: str, suffix: str = "") -> str:
    """A key of a class."""
    return KEYS.get(prefix, f"{prefix}exp/run/seed-0.json") + suffix


#: What an evaluation of policies says, and no missing resource does: which action, and which kind
#: of policy decided.
EVALUATED = re.compile(
    r"is not authorized to perform: ([a-z0-9-]+:\w+) .*?"
    r"(with an explicit deny in an? [\w-]+ policy|because no [\w-]+ policy allows the \1 action)"
)


def assert_refused(call: Callable[..., Any], **arguments: Any) -> str:
    """Make a call that policies must refuse, by evaluating them and not because something is
    missing.
    :return: AWS's message.
    """
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    code, message = refusal(caught.value)
    assert code in REFUSALS, f"{code}: {message}"
    assert EVALUATED.search(message), message
    return message


@pytest.mark.parametrize(("role", "prefix"), FOREIGN)
def test_a_class_is_refused_to_all_but_its_writer(dev: Deployment, role: str, prefix: str) -> None:
    """A role that is not a class's writer cannot write it, though bucket and credentials are
    good.
    """
    s3 = dev.as_role(role).s3
    assert_refused(
        s3.put_object, Bucket=dev.bucket, Key=key_of(prefix, f".{role}"), Body=b"", IfNoneMatch="*"
    )


@pytest.mark.parametrize(("role", "prefix"), sorted(WRITES))
def test_a_class_is_written_by_its_writer(dev: Deployment, role: str, prefix: str) -> None:
    """The writer of a class can write it, with the condition that the contract asks for."""
    key = key_of(prefix, f".{role}")
    s3 = dev.as_role(role).s3
    answer = s3.put_object(Bucket=dev.bucket, Key=key, Body=b"{}", IfNoneMatch="*")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("role", ROLES)
def test_no_role_writes_outside_of_the_contract(dev: Deployment, role: str) -> None:
    """A key of no class can be written by nobody."""
    assert_refused(
        dev.as_role(role).s3.put_object, Bucket=dev.bucket, Key=f"elsewhere/{role}", Body=b""
    )


@pytest.mark.parametrize(
    ("role", "prefix"),
    [
        ("launcher", ARTIFACTS),
        ("launcher", SPECS),
        ("evaluator", EVALUATIONS),
        ("promoter", "registry/exp/versions/000001/"),
        ("promoter", "registry/exp/history/"),
    ],
)
def test_what_is_written_once_cannot_be_written_without_saying_so(
    dev: Deployment, role: str, prefix: str
) -> None:
    """A write without If-None-Match is refused, also by the class's own writer."""
    assert_refused(
        dev.as_role(role).s3.put_object,
        Bucket=dev.bucket,
        Key=f"{prefix}unconditional/x.json",
        Body=b"",
    )


@pytest.mark.parametrize(
    ("role", "key"),
    [("promoter", "registry/other/champion.json"), ("trainer", "checkpoints/e/r/t/head.json")],
)
def test_a_pointer_moves_only_by_comparing(dev: Deployment, role: str, key: str) -> None:
    """Without If-Match or If-None-Match a pointer cannot be written; with the ETag that was read it
    can.
    """
    s3 = dev.as_role(role).s3
    assert_refused(s3.put_object, Bucket=dev.bucket, Key=key, Body=b"1")
    etag = s3.put_object(Bucket=dev.bucket, Key=key, Body=b"1", IfNoneMatch="*")["ETag"]
    assert_refused(s3.put_object, Bucket=dev.bucket, Key=key, Body=b"2")
    s3.put_object(Bucket=dev.bucket, Key=key, Body=b"2", IfMatch=etag)


@pytest.mark.parametrize("prefix", [ARTIFACTS, SPECS, EVALUATIONS, LEDGER, REGISTRY])
@pytest.mark.parametrize("role", ["promoter", "evaluator", "launcher", "administrator"])
def test_nobody_rewrites_history(dev: Deployment, role: str, prefix: str) -> None:
    """What was planned, judged, promoted and paid cannot be deleted, not even by an
    administrator.
    """
    s3 = dev.as_role(role).s3
    assert_refused(s3.delete_object, Bucket=dev.bucket, Key=key_of(prefix))
    assert_refused(s3.delete_object, Bucket=dev.bucket, Key=key_of(prefix), VersionId="null")


@pytest.mark.parametrize("prefix", [POLICIES, CHECKPOINTS])
def test_old_versions_stay(dev: Deployment, prefix: str) -> None:
    """No version of any object can be deleted by hand; the lifecycle does that."""
    assert_refused(
        dev.as_role("administrator").s3.delete_object,
        Bucket=dev.bucket,
        Key=key_of(prefix),
        VersionId="null",
    )


def test_plain_http_is_refused_by_the_policy(dev: Deployment) -> None:
    """The bucket's first statement denies everything that does not come by TLS."""
    found = json.loads(
        dev.as_role("administrator").s3.get_bucket_policy(Bucket=dev.bucket)["Policy"]
    )
    first: Mapping[str, Any] = found["Statement"][0]
    assert (first["Effect"], first["Action"], first["Condition"]) == (
        "Deny",
        "s3:*",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
