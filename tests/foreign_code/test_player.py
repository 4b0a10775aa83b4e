"""Code of an experiment, which the player loads, can write nothing but the shard it was asked for.

Each test is a wheel that tries something, on the local AWS with the functions of this repository.
"""

from __future__ import annotations

import json
import time

import pytest

from rl_lifecycle.evaluation.requests import Shard
from tests.foreign_code.places import FunctionsUnderTest

#: Try a call with the player's credentials. The result is the error's code.
TRY = """
import boto3, os
from botocore.config import Config
once = Config(retries={{"total_max_attempts": 1}}, read_timeout=5)
try:
    boto3.client({service!r}, config=once).{call}
except Exception as error:
    return getattr(error, "response", {{}}).get("Error", {{}}).get("Code", repr(error))
return "done"
"""
#: What belongs to others: a report, a verdict, a shard, a policy, a spec and a champion.
FOREIGN_KEYS = (
    "evaluations/other/night-1/gate-candidate/report.json",
    "verdicts/other/night-1/gate-candidate.json",
    "evaluations/other/night-1/gate-candidate/shards/0000.json",
    "evaluations/mine/night-2/gate-candidate/shards/0000.json",
    "policies/other/night-1/seed-0/000000000512.onnx",
    "specs/other/night-1/spec.json",
    "registry/other/champion.json",
    "verdicts/mine/night-1/gate-candidate.json",
)
#: Find the addresses of this invocation in the memory of the process.
FIND_STORE = """
import gc
from rl_evaluator.playing.url_store import UrlStore
store = next(one for one in gc.get_objects() if isinstance(one, UrlStore))
"""
SEND = """
import urllib.request, urllib.error
def send(url, data, headers):
    request = urllib.request.Request(url, data=data, headers=headers, method="PUT")
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
"""


def trying(service: str, call: str) -> str:
    """Write the lines that try one call."""
    return TRY.format(service=service, call=call)


@pytest.mark.parametrize("key", FOREIGN_KEYS)
def test_the_players_credentials_write_no_object(functions: FunctionsUnderTest, key: str) -> None:
    """The attack that once promoted a policy: a wheel writes another experiment's report."""
    call = f"put_object(Bucket={functions.bucket!r}, Key={key!r}, Body=b'forged', IfNoneMatch='*')"
    assert set(functions.check("mine", functions.wheel(trying("s3", call)))) == {"AccessDenied"}
    found = functions.as_role("administrator").s3.list_objects_v2(
        Bucket=functions.bucket, Prefix=key
    )
    assert found["KeyCount"] == 0


@pytest.mark.parametrize(
    ("service", "call", "refusals"),
    [
        (
            "s3",
            "get_object(Bucket={bucket!r}, Key='specs/other/night-1/spec.json')",
            "AccessDenied",
        ),
        ("s3", "list_objects_v2(Bucket={bucket!r})", "AccessDenied"),
        ("lambda", "invoke(FunctionName='nightshift-dev-evaluator:live')", "AccessDeniedException"),
        ("lambda", "invoke(FunctionName='nightshift-dev-judge:1')", "AccessDeniedException"),
        (
            "lambda",
            "invoke(FunctionName='nightshift-dev-player:1', TenantId='other')",
            "AccessDeniedException",
        ),
        (
            "sts",
            "assume_role(RoleArn='arn:aws:iam::{account}:role/nightshift-dev-promoter', "
            "RoleSessionName='xyz')",
            "AccessDenied",
        ),
        (
            "sts",
            "assume_role(RoleArn='arn:aws:iam::{account}:role/nightshift-dev-judge', "
            "RoleSessionName='xyz')",
            "AccessDenied",
        ),
        (
            "sqs",
            "send_message(QueueUrl='{endpoint}/{account}/nightshift-dev-dead-letters', "
            "MessageBody='x')",
            "AccessDenied",
        ),
        ("iam", "list_roles()", "AccessDenied"),
        ("ec2", "describe_instances()", "UnauthorizedOperation"),
    ],
)
def test_the_players_role_leads_nowhere(
    functions: FunctionsUnderTest, service: str, call: str, refusals: str
) -> None:
    """With its credentials, a wheel reads nothing, calls no function and becomes no other role."""
    filled = call.format(
        bucket=functions.bucket,
        account=functions.account.account_id,
        endpoint=functions.account.endpoint_url,
    )
    assert set(functions.check("mine", functions.wheel(trying(service, filled)))) == {refusals}


def test_an_address_writes_its_own_key_once(functions: FunctionsUnderTest) -> None:
    """A wheel uses its address for another key, without the condition, and twice."""
    wheel = functions.wheel(
        FIND_STORE
        + SEND
        + """
first = store.write.replace("/mine/", "/other/")
once = {"If-None-Match": "*"}
return [
    send(first, b"{}", once),
    send(store.write.replace("gate-candidate", "gate-champion"), b"{}", once),
    send(store.write, b"{}", {}),
    send(store.write, b"{}", {"If-Match": "*"}),
    send(next(iter(store.reads.values())), b"{}", once),
]
"""
    )
    policy = functions.policy()
    answer = functions.evaluate("mine", wheel, policy, run="addresses")
    assert answer.get("complete") is True, answer
    log = functions.player_log()
    assert "ATTACK [403, 403, 403, 403, 403]" in log

    s3 = functions.as_role("administrator").s3
    keys = [
        item["Key"]
        for item in s3.list_objects_v2(Bucket=functions.bucket, Prefix="evaluations/").get(
            "Contents", []
        )
    ]
    assert not [key for key in keys if "/other/" in key or "gate-champion" in key]


def test_an_address_copies_no_other_object(functions: FunctionsUnderTest) -> None:
    """A wheel lets the dispatcher's rights copy another experiment's spec to its own shard."""
    secret = "specs/other/copied/spec.json"
    functions.as_role("launcher").s3.put_object(
        Bucket=functions.bucket, Key=secret, Body=b"secret", IfNoneMatch="*"
    )
    wheel = functions.wheel(
        FIND_STORE
        + SEND
        + f"""
once = {{"If-None-Match": "*"}}
return [
    send(store.write, b"", {{**once, "x-amz-copy-source": "/{functions.bucket}/{secret}"}}),
    send(store.write, b"{{}}", {{**once, "x-amz-storage-class": "GLACIER"}}),
    send(store.write, b"{{}}", {{**once, "x-amz-tagging": "a=b"}}),
]
"""
    )
    answer = functions.evaluate("mine", wheel, functions.policy(), run="copy")
    assert answer.get("complete") is True, answer
    assert "ATTACK [403, 403, 403]" in functions.player_log()


def test_a_shard_is_never_replaced(functions: FunctionsUnderTest) -> None:
    """A wheel that writes its shard itself decides its own returns, once."""
    wheel = functions.wheel(
        FIND_STORE
        + SEND
        + """
return [send(store.write, b"not a shard", {"If-None-Match": "*"}) for _ in range(2)]
"""
    )
    answer = functions.evaluate("mine", wheel, functions.policy(), run="twice")
    assert answer["errorType"] == "InvalidRecordError", answer
    assert "ATTACK [200, 412]" in functions.player_log()


def test_an_impossible_shard_does_not_count(functions: FunctionsUnderTest) -> None:
    """A shard of other seeds than the requested ones is refused by name."""
    shard = Shard(
        env_id="foreign:Foreign-v0",
        policy_sha256="0" * 64,
        first_seed=7,
        returns=(1.0,),
        lengths=(1,),
        ends=("terminated",),
        steps=1,
        seconds=1.0,
    ).to_json()
    wheel = functions.wheel(
        FIND_STORE + SEND + f"return send(store.write, {shard!r}, {{'If-None-Match': '*'}})\n"
    )
    answer = functions.evaluate("mine", wheel, functions.policy(), run="seeds")
    assert "holds episodes of another policy, environment or seed range" in answer["errorMessage"]


def test_a_kept_process_sees_no_other_experiment(functions: FunctionsUnderTest) -> None:
    """A wheel leaves itself behind in the process. The next experiment's event is elsewhere."""
    spy = functions.wheel(
        """
import sys, os
kept = sys.__dict__.setdefault("_kept", [])
kept.append(os.getpid())
import gc
from rl_evaluator.messages import PlayRequest
seen = {one.asked.experiment for one in gc.get_objects() if isinstance(one, PlayRequest)}
return (sorted(seen), sorted(set(kept)))
"""
    )
    mine = functions.check("mine", spy)
    again = functions.check("mine", spy)
    other = functions.check("other", spy)
    processes = {
        name: {json.loads(line.split(", [")[1].rstrip(")]").split(",")[0]) for line in lines}
        for name, lines in {"mine": mine, "again": again, "other": other}.items()
    }
    assert processes["mine"] == processes["again"], "the process was not kept"
    assert not processes["mine"] & processes["other"]
    assert all("'other'" not in line for line in (*mine, *again))


@pytest.mark.parametrize("role", ["airflow-worker", "launcher", "promoter", "judge"])
def test_only_the_dispatcher_calls_the_player(functions: FunctionsUnderTest, role: str) -> None:
    """No other role may call the player, with or without a tenant."""
    client = functions.as_role(role).client("lambda")
    with pytest.raises(client.exceptions.ClientError, match="not authorized"):
        client.invoke(FunctionName="nightshift-dev-player:1", TenantId="mine", Payload=b"{}")


def test_the_player_needs_a_tenant(functions: FunctionsUnderTest) -> None:
    """Even the dispatcher cannot call the player without saying for whom."""
    client = functions.as_role("evaluator").client("lambda")
    described = (
        functions.as_role("administrator")
        .client("lambda")
        .get_function_configuration(FunctionName="nightshift-dev-player")
    )
    assert described["TenancyConfig"] == {"TenantIsolationMode": "PER_TENANT"}
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="tenant ID"):
        client.invoke(FunctionName="nightshift-dev-player:1", Payload=b"{}")


def test_nothing_of_an_address_is_logged(functions: FunctionsUnderTest) -> None:
    """Neither the dispatcher's log nor the player's holds a signature."""
    functions.evaluate("mine", None, functions.policy(), run="logged")
    missing = functions.policy().model_copy(update={"sha256": "0" * 64})
    assert "errorMessage" in functions.evaluate("mine", None, missing, run="logged", shard=9)
    for log in (functions.player_log(), functions.log_of("evaluator")):
        assert log
        assert "X-Amz-" not in log


def test_an_event_reaches_the_player_through_the_dispatcher(functions: FunctionsUnderTest) -> None:
    """A request that no caller waits for is played later, and its shard names the evaluator."""
    policy = functions.policy()
    answer = functions.evaluate("mine", None, policy, run="later", wait=False)
    assert answer.get("started") is True, answer
    s3 = functions.as_role("administrator").s3
    end = time.monotonic() + 60
    while not s3.list_objects_v2(Bucket=functions.bucket, Prefix=answer["key"])["KeyCount"]:
        assert time.monotonic() < end, functions.player_log()
        time.sleep(0.5)
    stored = s3.get_object(Bucket=functions.bucket, Key=answer["key"])["Body"].read()
    assert Shard.from_json(stored).versions["evaluator"].startswith("code ")
    assert functions.evaluate("mine", None, policy, run="later")["complete"] is True
