"""Policies let each role write its own classes of keys and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import (
    ARTIFACTS,
    CHECKPOINTS,
    EVALUATIONS,
    GANGS,
    LEDGER,
    POLICIES,
    REGISTRY,
    SPECS,
    VERDICTS,
    WRITERS,
)
from tests.infra_bootstrap.accounts import REFUSALS, Deployment, refusal
from tests.infra_bootstrap.accounts import ROLES as OWN_ROLES

#: The roles that write, and those that never do, such as an administrator.
ROLES = (*OWN_ROLES, "airflow-worker", "administrator")
#: The bucket's policy allows the deployer, for a future without the launcher; the deployer's own
#: policy does not.
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
    VERDICTS: "verdicts/exp/run/gate.json",
    REGISTRY: "registry/exp/champion.json",
    LEDGER: "ledger/2026-11/exp/run.json",
}


def key_of(prefix: str, suffix: str = "") -> str:
    """Return a key of a class."""
    return KEYS.get(prefix, f"{prefix}exp/run/seed-0.json") + suffix


#: What AWS's message has only if a policy refused the call: the action and the kind of policy.
EVALUATED = re.compile(
    r"is not authorized to perform: ([a-z0-9-]+:\w+) .*?"
    r"(with an explicit deny in an? [\w-]+ policy|because no [\w-]+ policy allows the \1 action)"
)


def assert_refused(call: Callable[..., Any], **arguments: Any) -> str:
    """Assert that a policy refuses the call, and not a missing resource.

    :return: AWS's message
    """
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    code, message = refusal(caught.value)
    assert code in REFUSALS, f"{code}: {message}"
    assert EVALUATED.search(message), message
    return message


@pytest.mark.parametrize(("role", "prefix"), FOREIGN)
def test_a_class_is_refused_to_all_but_its_writer(dev: Deployment, role: str, prefix: str) -> None:
    """Other roles cannot write a class, even with a good bucket and good credentials."""
    s3 = dev.as_role(role).s3
    assert_refused(
        s3.put_object, Bucket=dev.bucket, Key=key_of(prefix, f".{role}"), Body=b"", IfNoneMatch="*"
    )


@pytest.mark.parametrize(("role", "prefix"), sorted(WRITES))
def test_a_class_is_written_by_its_writer(dev: Deployment, role: str, prefix: str) -> None:
    """The writer of a class can write it under the condition of the contract."""
    key = key_of(prefix, f".{role}")
    s3 = dev.as_role(role).s3
    answer = s3.put_object(Bucket=dev.bucket, Key=key, Body=b"{}", IfNoneMatch="*")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("role", ROLES)
def test_no_role_writes_outside_of_the_contract(dev: Deployment, role: str) -> None:
    """No role can write a key outside the classes."""
    assert_refused(
        dev.as_role(role).s3.put_object, Bucket=dev.bucket, Key=f"elsewhere/{role}", Body=b""
    )


@pytest.mark.parametrize(
    ("role", "prefix"),
    [
        ("launcher", ARTIFACTS),
        ("launcher", SPECS),
        ("evaluator", f"{EVALUATIONS}exp/run/gate/shards/"),
        ("judge", VERDICTS),
        ("trainer", GANGS),
        ("promoter", "registry/exp/versions/000001/"),
        ("promoter", "registry/exp/history/"),
    ],
)
def test_a_write_once_class_needs_a_condition(dev: Deployment, role: str, prefix: str) -> None:
    """Even a class's writer needs If-None-Match to write a key that is written once."""
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
    """A pointer is written only with If-None-Match, or with If-Match and the ETag that was read."""
    s3 = dev.as_role(role).s3
    assert_refused(s3.put_object, Bucket=dev.bucket, Key=key, Body=b"1")
    etag = s3.put_object(Bucket=dev.bucket, Key=key, Body=b"1", IfNoneMatch="*")["ETag"]
    assert_refused(s3.put_object, Bucket=dev.bucket, Key=key, Body=b"2")
    s3.put_object(Bucket=dev.bucket, Key=key, Body=b"2", IfMatch=etag)


@pytest.mark.parametrize("prefix", [ARTIFACTS, SPECS, EVALUATIONS, VERDICTS, LEDGER, REGISTRY])
@pytest.mark.parametrize(
    "role", ["promoter", "evaluator", "player", "judge", "launcher", "viewer", "administrator"]
)
def test_no_role_deletes_history(dev: Deployment, role: str, prefix: str) -> None:
    """Not even an administrator can delete plans, verdicts, promotions and costs."""
    s3 = dev.as_role(role).s3
    assert_refused(s3.delete_object, Bucket=dev.bucket, Key=key_of(prefix))
    assert_refused(s3.delete_object, Bucket=dev.bucket, Key=key_of(prefix), VersionId="null")


@pytest.mark.parametrize("prefix", [POLICIES, CHECKPOINTS])
def test_old_versions_stay(dev: Deployment, prefix: str) -> None:
    """No role can delete an object's version; only the lifecycle rules do."""
    assert_refused(
        dev.as_role("administrator").s3.delete_object,
        Bucket=dev.bucket,
        Key=key_of(prefix),
        VersionId="null",
    )


def test_plain_http_is_refused_by_the_policy(dev: Deployment) -> None:
    """The bucket's first statement denies every request without TLS."""
    found = json.loads(
        dev.as_role("administrator").s3.get_bucket_policy(Bucket=dev.bucket)["Policy"]
    )
    first: Mapping[str, Any] = found["Statement"][0]
    assert (first["Effect"], first["Action"], first["Condition"]) == (
        "Deny",
        "s3:*",
        {"Bool": {"aws:SecureTransport": "false"}},
    )


@pytest.mark.parametrize(
    "kept",
    [
        {"StorageClass": "GLACIER"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": "arn:aws:kms:eu-west-1:999999999999:key/foreign",
        },
    ],
)
def test_a_trainer_cannot_make_an_object_that_nobody_else_can_read(
    dev: Deployment, kept: dict[str, Any]
) -> None:
    """Airflow reads the heartbeats of all experiments together."""
    key = f"heartbeats/exp/run/{sha256_hex(repr(kept).encode())[:8]}.json"
    s3 = dev.as_role("trainer").s3
    assert_refused(s3.put_object, Bucket=dev.bucket, Key=key, Body=b"{}", **kept)
    s3.put_object(Bucket=dev.bucket, Key=key, Body=b"{}", StorageClass="STANDARD")
