"""Functions run the uploaded code, as their own role and within their limits."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.local_aws.conftest import (
    ACCOUNT,
    LocalAwsUnderTest,
    allow,
    code_of,
    policy,
    trust,
    unique,
    until,
    zipped,
)

WHO = """import boto3, sys
import numpyish
def handler(event, context):
    print("hello from", context.function_name)
    return {
        "who": boto3.client("sts").get_caller_identity()["Arn"],
        "python": "python%d.%d" % sys.version_info[:2],
        "layer": numpyish.N,
        "left": context.get_remaining_time_in_millis(),
        "emulator": any("ministack" in name for name in sys.modules),
    }
"""
DOES = """import os, time
def handler(event, context):
    do = event.get("do")
    if do == "raise": raise ValueError("boom")
    if do == "sleep": time.sleep(event["s"])
    if do == "eat":
        hoard = bytearray(event["mib"] << 20)
        time.sleep(1)
    if do == "exit": os._exit(3)
    if do == "big": return "x" * (6 * 1024 * 1024 + 1)
    return os.getpid()
"""


def call(
    aws: LocalAwsUnderTest, name: str, event: Any = None, **arguments: Any
) -> tuple[str | None, Any]:
    """Invoke a function; return its error and its payload."""
    answer = aws.client("lambda").invoke(
        FunctionName=name, Payload=json.dumps(event or {}), **arguments
    )
    return answer.get("FunctionError"), json.loads(answer["Payload"].read() or b"null")


@pytest.fixture(scope="module")
def doing(aws: LocalAwsUnderTest) -> str:
    """A function that does what its event requests."""
    return aws.function(DOES, Timeout=2, MemorySize=128)


def test_zip_and_layer_run_as_the_functions_role_under_its_runtime(aws: LocalAwsUnderTest) -> None:
    """The function sees boto3 and its layer, not the emulator's packages, and has its role."""
    client = aws.client("lambda")
    layer = client.publish_layer_version(
        LayerName=unique("layer"), Content={"ZipFile": zipped({"python/numpyish.py": "N = 7"})}
    )["LayerVersionArn"]
    name = aws.function(WHO, Layers=[layer])
    error, payload = call(aws, name)
    assert error is None, payload
    assert payload["who"].endswith(f"/{name}")
    assert (payload["layer"], payload["emulator"]) == (7, False)
    assert payload["python"] == client.get_function(FunctionName=name)["Configuration"]["Runtime"]
    assert 15_000 < payload["left"] <= 20_000


def test_what_a_function_prints_is_its_log(aws: LocalAwsUnderTest) -> None:
    """The output is in the answer's tail, and in the log group if the role may write there."""
    source, logs = (
        "def handler(event, context):\n    print('hello', event['n'])\n",
        aws.client("logs"),
    )
    mute = aws.function(source)
    assert call(aws, mute, {"n": 1})[0] is None
    assert logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{mute}")["logGroups"] == []
    name = aws.function(
        source, allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"])
    )
    answer = aws.client("lambda").invoke(FunctionName=name, Payload=b'{"n": 1}', LogType="Tail")
    assert "hello 1" in base64.b64decode(answer["LogResult"]).decode()
    stream = logs.describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"][0][
        "logStreamName"
    ]
    messages = [
        e["message"]
        for e in logs.get_log_events(logGroupName=f"/aws/lambda/{name}", logStreamName=stream)[
            "events"
        ]
    ]
    assert any("hello 1" in m for m in messages)
    assert any(m.startswith("REPORT RequestId") for m in messages)


def test_errors_have_lambdas_own_form(aws: LocalAwsUnderTest, doing: str) -> None:
    """Exceptions, limits of time, memory and answer size, and exits have Lambda's errors."""
    error, payload = call(aws, doing, {"do": "raise"})
    assert error == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "boom")
    assert len(payload["requestId"]) == 36
    assert 'raise ValueError("boom")' in payload["stackTrace"][-1]
    kinds = {
        do: call(aws, doing, event)[1]["errorType"]
        for do, event in {
            "time": {"do": "sleep", "s": 5},
            "memory": {"do": "eat", "mib": 300},
            "exit": {"do": "exit"},
            "large": {"do": "big"},
        }.items()
    }
    assert kinds == {
        "time": "Sandbox.Timedout",
        "memory": "Runtime.ExitError",
        "exit": "Runtime.ExitError",
        "large": "Function.ResponseSizeTooLarge",
    }
    assert call(aws, doing)[0] is None, "the next invocation gets a new environment"


def test_a_handler_that_cannot_be_loaded_says_so(aws: LocalAwsUnderTest) -> None:
    """A missing module, a missing function and a syntax error have their own errors."""
    found = [
        call(aws, aws.function(source, Handler=handler))[1]["errorType"]
        for source, handler in (
            ("import nothing_like_it\n", "index.handler"),
            ("x = 1\n", "index.handler"),
            ("def (\n", "index.handler"),
            ("x = 1\n", "nonsense"),
        )
    ]
    assert found == [
        "Runtime.ImportModuleError",
        "Runtime.HandlerNotFound",
        "Runtime.UserCodeSyntaxError",
        "Runtime.MalformedHandlerName",
    ]


def test_an_environment_is_used_again_and_replaced_after_a_change(aws: LocalAwsUnderTest) -> None:
    """Warm invocations share a process; a new configuration starts a new process."""
    name, client = aws.function(DOES), aws.client("lambda")
    first, second = call(aws, name)[1], call(aws, name)[1]
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"A": "B"}})
    until(
        lambda: (
            client.get_function(FunctionName=name)["Configuration"]["LastUpdateStatus"]
            == "Successful"
        ),
        "updated",
    )
    third = call(aws, name)[1]
    assert first == second != third


def test_a_runtime_that_is_not_here_is_refused_with_those_that_are(aws: LocalAwsUnderTest) -> None:
    """CreateFunction and UpdateFunctionConfiguration name the available runtimes."""
    here = aws.cli("status")["lambda_runtimes"]
    absent = next(
        r for r in ("python3.14", "python3.13", "python3.12", "python3.8") if r not in here
    )
    role = f"arn:aws:iam::{ACCOUNT}:role/{aws.service_role('lambda.amazonaws.com')}"
    client = aws.client("lambda")
    request = {
        "FunctionName": unique("f"),
        "Runtime": absent,
        "Handler": "a.b",
        "Role": role,
        "Code": {"ZipFile": zipped({"a.py": ""})},
    }
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=here[0]):
        client.create_function(**request)
    name = aws.function(DOES)
    assert (
        code_of(client.update_function_configuration, FunctionName=name, Runtime=absent)
        == "InvalidParameterValueException"
    )


def test_a_role_must_be_passed_and_must_trust_lambda(aws: LocalAwsUnderTest) -> None:
    """The caller needs iam:PassRole, and Lambda must be able to assume the role."""
    good, bad = aws.service_role("lambda.amazonaws.com"), aws.service_role("ec2.amazonaws.com")
    maker = aws.client(
        "lambda",
        aws.role_with(
            allow("lambda:*"), allow("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{bad}")
        ),
    )
    request = {
        "FunctionName": unique("f"),
        "Runtime": aws.cli("status")["lambda_runtimes"][0],
        "Handler": "a.b",
        "Code": {"ZipFile": zipped({"a.py": ""})},
    }
    assert (
        code_of(maker.create_function, Role=f"arn:aws:iam::{ACCOUNT}:role/{good}", **request)
        == "AccessDeniedException"
    )
    assert (
        code_of(maker.create_function, Role=f"arn:aws:iam::{ACCOUNT}:role/{bad}", **request)
        == "InvalidParameterValueException"
    )


def test_a_function_that_invokes_a_function_does_not_wait_for_itself(
    aws: LocalAwsUnderTest,
) -> None:
    """More nested calls than slots do not block each other."""
    inner = aws.function(
        "import time\ndef handler(event, context):\n    time.sleep(0.3)\n    return 1\n"
    )
    source = (
        "import boto3\ndef handler(event, context):\n    return "
        f"boto3.client('lambda').invoke(FunctionName='{inner}')['StatusCode']\n"
    )
    outer = aws.function(source, allow("lambda:InvokeFunction"), Timeout=60)
    with ThreadPoolExecutor(16) as pool:
        assert {call(aws, outer)[1] for _ in pool.map(lambda _: call(aws, outer), range(16))} == {
            200
        }


def test_reserved_concurrency_throttles(aws: LocalAwsUnderTest) -> None:
    """With a limit of one, the second invocation is throttled, also through an alias."""
    name, client = (
        aws.function("import time\ndef handler(event, context):\n    time.sleep(1.5)\n"),
        aws.client("lambda"),
    )
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, aws, name, {}, Qualifier="live")
        time.sleep(0.6)
        assert (
            code_of(client.invoke, FunctionName=name, Qualifier="live")
            == "TooManyRequestsException"
        )
        assert running.result()[0] is None


def test_a_failed_event_is_tried_again_and_then_kept(aws: LocalAwsUnderTest) -> None:
    """After three tries, the record goes to the destination and the event to the dead letters."""
    sqs, client, bucket = aws.client("sqs"), aws.client("lambda"), aws.bucket()
    queues = {
        kind: sqs.create_queue(QueueName=unique(kind))["QueueUrl"]
        for kind in ("letters", "records")
    }
    arns = {
        kind: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for kind, url in queues.items()
    }
    source = (
        "import boto3, uuid\ndef handler(event, context):\n    "
        f"boto3.client('s3').put_object(Bucket='{bucket}', Key=uuid.uuid4().hex, Body=b'')\n "
        "   raise RuntimeError('no')\n"
    )
    name = aws.function(
        source,
        allow("s3:PutObject"),
        allow("sqs:SendMessage", list(arns.values())),
        DeadLetterConfig={"TargetArn": arns["letters"]},
    )
    client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=2,
        DestinationConfig={"OnFailure": {"Destination": arns["records"]}},
    )
    assert (
        client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 1}')["StatusCode"]
        == 202
    )

    def receive(kind: str) -> dict[str, Any]:
        found = sqs.receive_message(QueueUrl=queues[kind], MessageAttributeNames=["All"]).get(
            "Messages", []
        )
        return dict(found[0]) if found else {}

    record = json.loads(until(lambda: receive("records"), "the record")["Body"])
    letter = until(lambda: receive("letters"), "the dead letter")
    assert aws.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 3
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert (record["requestContext"]["approximateInvokeCount"], record["requestPayload"]) == (
        3,
        {"n": 1},
    )
    assert record["responsePayload"]["errorMessage"] == "no"
    assert json.loads(letter["Body"]) == {"n": 1}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no"


def test_an_arriving_object_wakes_a_function_if_its_policy_allows(aws: LocalAwsUnderTest) -> None:
    """S3 reaches Lambda through EventBridge, if the function's policy allows that rule."""
    bucket, events, client = aws.bucket(), aws.client("events"), aws.client("lambda")
    aws.client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    source = (
        "import boto3\ndef handler(event, context):\n    "
        f"boto3.client('s3').put_object(Bucket='{bucket}', Key='seen/' + "
        "event['detail']['object']['key'], Body=b'')\n"
    )
    name, rule = aws.function(source, allow("s3:PutObject")), unique("rule")
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [bucket]},
            "object": {"key": [{"wildcard": "policies/*.json"}]},
        },
    }
    arn = events.put_rule(Name=rule, EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(
        Rule=rule,
        Targets=[
            {
                "Id": "f",
                "Arn": client.get_function(FunctionName=name)["Configuration"]["FunctionArn"],
            }
        ],
    )
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="policies/early.json", Body=b"")
    time.sleep(1)
    client.add_permission(
        FunctionName=name,
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=arn,
    )
    for key in ("policies/a.json", "policies/a.onnx", "other/a.json"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")

    def seen() -> list[str]:
        return [
            o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="seen/").get("Contents", [])
        ]

    until(lambda: "seen/policies/a.json" in seen(), "the function was woken")
    time.sleep(0.5)
    assert seen() == ["seen/policies/a.json"]


def test_payload_limits(aws: LocalAwsUnderTest, doing: str) -> None:
    """A payload of more than six megabytes or without JSON is refused before anything runs."""
    client = aws.client("lambda")
    assert code_of(
        client.invoke, FunctionName=doing, Payload=b'"' + b"x" * (6 * 1024 * 1024) + b'"'
    ) in (
        "RequestTooLargeException",
        "413",
    )
    assert (
        code_of(client.invoke, FunctionName=doing, Payload=b"{nonsense")
        == "InvalidRequestContentException"
    )


def test_a_lambda_role_without_trust_is_found_at_creation(aws: LocalAwsUnderTest) -> None:
    """CreateFunction refuses a role that does not trust Lambda."""
    name, iam = unique("role"), aws.client("iam")
    iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=trust({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
    )
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy(allow("*")))
    runtime = aws.cli("status")["lambda_runtimes"][0]
    request = {
        "Runtime": runtime,
        "Handler": "a.b",
        "Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
        "Code": {"ZipFile": zipped({"a.py": ""})},
    }
    assert (
        code_of(aws.client("lambda").create_function, FunctionName=unique("f"), **request)
        == "InvalidParameterValueException"
    )


KEEPS = """import os
seen = []
def handler(event, context):
    seen.append(event["n"])
    return {"pid": os.getpid(), "seen": seen, "tenant": context.tenant_id}
"""


def test_tenants_never_share_an_execution_environment(aws: LocalAwsUnderTest) -> None:
    """A process that kept a tenant's events is used for this tenant alone."""
    name = aws.function(KEEPS, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    described = aws.client("lambda").get_function_configuration(FunctionName=name)
    assert described["TenancyConfig"] == {"TenantIsolationMode": "PER_TENANT"}
    _, first = call(aws, name, {"n": 1}, TenantId="blue")
    _, other = call(aws, name, {"n": 2}, TenantId="green")
    _, again = call(aws, name, {"n": 3}, TenantId="blue")
    assert (first["tenant"], other["tenant"]) == ("blue", "green")
    assert (other["seen"], again["seen"]) == ([2], [1, 3])
    assert first["pid"] == again["pid"] != other["pid"]


def test_a_tenant_is_required_where_tenants_are_isolated_and_refused_elsewhere(
    aws: LocalAwsUnderTest, doing: str
) -> None:
    """Source: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-troubleshooting.html"""
    client = aws.client("lambda")
    isolating = aws.function(KEEPS, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    version = client.publish_version(FunctionName=isolating)["Version"]
    for target in (isolating, f"{isolating}:{version}"):
        wrong = code_of(client.invoke, FunctionName=target, Payload=b"{}")
        assert wrong == "InvalidParameterValueException"
    wrong = code_of(client.invoke, FunctionName=doing, Payload=b"{}", TenantId="blue")
    assert wrong == "InvalidParameterValueException"
    _, found = call(aws, isolating, {"n": 1}, TenantId="blue", Qualifier=version)
    assert found["tenant"] == "blue"


def test_an_asynchronous_event_reaches_its_tenant(aws: LocalAwsUnderTest) -> None:
    """An event that Lambda queues keeps its tenant."""
    bucket = aws.bucket()
    source = f"""import boto3
def handler(event, context):
    boto3.client("s3").put_object(Bucket={bucket!r}, Key=context.tenant_id, Body=b"")
"""
    writes = allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*")
    name = aws.function(source, writes, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    aws.client("lambda").invoke(
        FunctionName=name, InvocationType="Event", Payload=b"{}", TenantId="blue"
    )

    def keys() -> list[str]:
        found = aws.client("s3").list_objects_v2(Bucket=bucket)
        return [item["Key"] for item in found.get("Contents", [])]

    assert until(keys, "the event was played") == ["blue"]
