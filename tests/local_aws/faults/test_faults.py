"""Faults on demand: each occurs as described, is counted, and repeats with its seed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from local_aws.errors import FaultScriptError
from local_aws.faults import catalog, script
from local_aws.faults.engine import FaultEngine
from local_aws.pace import PACES, Lags
from tests.local_aws.conftest import (
    ACCOUNT,
    LocalAwsUnderTest,
    allow,
    code_of,
    run_cli,
    start,
    unique,
    until,
)
from tests.local_aws.imds import IMDS

SLEEPS = "#!/bin/sh\nsleep 300\n"


def strikes(aws: LocalAwsUnderTest, fault: dict[str, Any]) -> int:
    """Return how often a fault has occurred."""
    return next(
        int(f["strikes"]) for f in aws.cli("fault", "list")["faults"] if f["id"] == fault["id"]
    )


# --- Deciding ---


def decisions(seed: int, rate: float) -> list[bool]:
    """Return the decisions of a fault at its first fifty chances."""
    engine = FaultEngine()
    engine.add("late_visibility", catalog.read("late_visibility", {"rate": rate}), seed)
    return [engine.strike("late_visibility", "x") is not None for _ in range(50)]


def test_the_same_seed_decides_in_the_same_way() -> None:
    """A fault occurs in about its rate of the cases. The same seed gives the same cases."""
    assert decisions(7, 0.3) == decisions(7, 0.3)
    assert decisions(7, 0.3) != decisions(8, 0.3)
    assert 5 <= sum(decisions(7, 0.3)) <= 25
    assert not any(decisions(7, 0.0))


def test_a_script_replays_exactly_whatever_else_is_set(
    aws: LocalAwsUnderTest, tmp_path: Path
) -> None:
    """A second run of a script fails the same calls, although another fault was set meanwhile."""
    bucket, path = aws.bucket(), tmp_path / "night.yaml"
    path.write_text(
        f"seed: 11\nfaults:\n  - error: {{service: s3, action: PutObject, key: '{bucket}/*', "
        f"rate: 0.5}}\n"
    )
    outcomes = []
    for _ in range(2):
        made = aws.cli("fault", "run", str(path))["faults"][-1]
        s3, met = aws.client("s3"), []
        for n in range(12):
            try:
                s3.put_object(Bucket=bucket, Key=str(n), Body=b"")
                met.append("written")
            except s3.exceptions.ClientError as error:
                met.append(error.response["Error"]["Code"])
        outcomes.append(met)
        aws.cli("fault", "clear", made["id"])
        other = aws.cli("fault", "add", "slow", "service=nothing")["faults"][-1]
    aws.cli("fault", "clear", other["id"])
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) == 2


def test_a_count_is_a_limit() -> None:
    """A fault with a count occurs that many times and no more."""
    engine = FaultEngine()
    engine.add("late_visibility", catalog.read("late_visibility", {"count": 2}))
    assert [engine.strike("late_visibility", "x") is not None for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_fault_begins_and_ends_when_it_says() -> None:
    """after_s and for_s limit the time in which a fault occurs."""
    engine = FaultEngine()
    fault = engine.add(
        "late_visibility", catalog.read("late_visibility", {"after_s": 10, "for_s": 5})
    )
    assert [fault.is_on(fault.set_at + s) for s in (0, 9, 10, 14, 15)] == [
        False,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("faults: [", "YAML"),
        ("- capacity", "mapping"),
        ("faults: [{explode: {}}]", "explode"),
        ("faults: [{throttle: {colour: red}}]", "colour"),
        ("faults: [{throttle: {rate: fast}}]", "rate"),
        ("faults: [{throttle: {rate: 3}}]", "rate"),
        ("faults: [{a: {}, b: {}}]", "fault 1"),
        ("faults: []\nseed: x", "seed"),
        ("faults: []\ncolour: red", "colour"),
        ("faults: [{deny: {role: x}}]", "action"),
    ],
)
def test_a_broken_script_says_where(text: str, names: str) -> None:
    """Each error message names the wrong part in one line."""
    with pytest.raises(FaultScriptError, match=names) as caught:
        script.read(text)
    assert "\n" not in str(caught.value)


def test_the_command_line_explains_bad_faults(aws: LocalAwsUnderTest, tmp_path: Path) -> None:
    """An unknown kind, parameter, id or file: exit 2, one line, no traceback."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("faults: {")
    for words in (
        ["add", "explode"],
        ["add", "throttle", "colour=red"],
        ["add", "throttle", "red"],
        ["add"],
        ["clear", "f999"],
        ["run", "/no/file"],
        ["run", str(broken)],
    ):
        done = run_cli("fault", *words, "--state", str(aws.state))
        assert done.returncode == 2, words
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_script_sets_all_its_faults_with_its_seed(aws: LocalAwsUnderTest, tmp_path: Path) -> None:
    """`fault run` sets each entry."""
    path = tmp_path / "night.yaml"
    path.write_text(
        "seed: 7\nfaults:\n  - capacity: {type: nothing.*, for_s: 30}\n  - lost_event: {function: "
        "nobody, count: 1}\n"
    )
    made = aws.cli("fault", "run", str(path))["faults"][-2:]
    assert [(f["kind"], f["seed"]) for f in made] == [("capacity", 7), ("lost_event", 7)]
    for entry in made:
        aws.cli("fault", "clear", entry["id"])


# --- Machines ---


def test_capacity_is_refused_where_the_fault_says(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The fault refuses one type, zone and market; other launches succeed."""
    ec2, image = aws.client("ec2"), aws.image()
    fault("capacity", "type=r7i.*", "zone=*a", "market=spot")
    request = {
        "ImageId": image,
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": "eu-west-1a"},
        "InstanceMarketOptions": {"MarketType": "spot"},
    }
    assert (
        code_of(ec2.run_instances, InstanceType="r7i.large", **request)
        == "InsufficientInstanceCapacity"
    )
    aws.launch(
        SLEEPS,
        InstanceType="r7i.large",
        Placement={"AvailabilityZone": "eu-west-1b"},
        InstanceMarketOptions={"MarketType": "spot"},
    )
    aws.launch(SLEEPS, InstanceType="r7i.large", Placement={"AvailabilityZone": "eu-west-1a"})


NOTICE = f"""{IMDS}
echo ready
get meta-data/%s wait
echo; echo seen; sleep 60
"""


def test_an_interruption_is_announced_and_then_happens(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The metadata service shows the notice; then the instance ends with the spot reason."""
    machine = aws.launch(
        NOTICE % "spot/instance-action", InstanceMarketOptions={"MarketType": "spot"}
    )
    aws.await_console(machine, "ready")
    fault("interrupt", f"instance={machine}", "notice_s=5")
    assert '"action": "terminate"' in aws.await_console(machine, "seen")
    assert (
        aws.await_state(machine, "terminated")["StateReason"]["Code"]
        == "Server.SpotInstanceTermination"
    )


def test_a_rebalance_recommendation_is_shown(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The instance can read the recommendation and continues."""
    machine = aws.launch(
        NOTICE % "events/recommendations/rebalance", InstanceMarketOptions={"MarketType": "spot"}
    )
    aws.await_console(machine, "ready")
    fault("rebalance", f"instance={machine}")
    assert "noticeTime" in aws.await_console(machine, "seen")
    assert aws.instance(machine)["State"]["Name"] == "running"


def test_a_machine_is_killed_when_it_has_reached_a_step(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The host fails without a notice after the machine has written a step of at least five."""
    bucket, mark = aws.bucket(), unique("mark")
    profile = aws.instance_profile(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*"))
    fault("kill", f"tag=mark={mark}", f"at_key={bucket}/beats/*", "at_field=step", "at_least=5")
    source = f"""#!/bin/bash
trap 'echo goodbye' TERM
exec python3 -u - <<'PY'
import boto3, json, time
s3 = boto3.client("s3")
for step in range(1, 50):
    print("step", step)
    s3.put_object(Bucket="{bucket}", Key="beats/x.json", Body=json.dumps({{"step": step}}))
    time.sleep(0.3)
PY
"""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "mark", "Value": mark}]}]
    machine = aws.launch(source, IamInstanceProfile={"Name": profile}, TagSpecifications=tags)
    ended = aws.await_state(machine, "terminated")
    assert ended["StateReason"]["Code"] == "Server.InternalError"
    assert (
        json.loads(aws.client("s3").get_object(Bucket=bucket, Key="beats/x.json")["Body"].read())[
            "step"
        ]
        == 5
    )
    assert "goodbye" not in aws.console(machine)


BEATS = """#!/bin/bash
exec python3 -u - <<'PY'
import boto3, json, time
s3 = boto3.client("s3")
for step in range(1, 200):
    s3.put_object(Bucket="%s", Key="beats/x.json", Body=json.dumps({"step": step}))
    time.sleep(0.3)
PY
"""


@pytest.mark.parametrize("notice_s", [0, 3])
def test_a_spot_machine_is_interrupted_at_a_step(
    aws: LocalAwsUnderTest, fault: Any, notice_s: int
) -> None:
    """The machine is interrupted after it has written that step, with and without a notice."""
    bucket, mark, s3 = aws.bucket(), unique("mark"), aws.client("s3")
    profile = aws.instance_profile(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*"))
    made = fault(
        "interrupt",
        f"tag=mark={mark}",
        f"at_key={bucket}/beats/*",
        "at_field=step",
        "at_least=3",
        f"notice_s={notice_s}",
    )
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "mark", "Value": mark}]}]
    spot = {"MarketType": "spot"}
    machine = aws.launch(
        BEATS % bucket,
        IamInstanceProfile={"Name": profile},
        TagSpecifications=tags,
        InstanceMarketOptions=spot,
    )
    assert (
        aws.await_state(machine, "terminated")["StateReason"]["Code"]
        == "Server.SpotInstanceTermination"
    )
    assert json.loads(s3.get_object(Bucket=bucket, Key="beats/x.json")["Body"].read())["step"] >= 3
    assert strikes(aws, made) == 1


def test_credentials_end_and_renew_inside_a_machine(aws: LocalAwsUnderTest, fault: Any) -> None:
    """A revoked session gets ExpiredToken, and the metadata service has a new one that works."""
    bucket = aws.bucket()
    profile = aws.instance_profile(allow("s3:PutObject", f"arn:aws:s3:::{bucket}/*"))
    source = f"""#!/bin/bash
exec python3 -u - <<'PY'
import boto3, time
def write(s3):
    try:
        s3.put_object(Bucket="{bucket}", Key="x", Body=b"")
        return "written"
    except Exception as error:
        return error.response["Error"]["Code"]
def fresh():
    session = boto3.Session()
    return session.client("s3"), session.get_credentials().access_key
s3, key = fresh()
print("first", write(s3))
while (told := write(s3)) == "written":
    time.sleep(0.2)
again, other = fresh()
print("then", told, write(again), key != other)
PY
"""
    machine = aws.launch(source, IamInstanceProfile={"Name": profile})
    aws.await_console(machine, "first written")
    fault("expire_credentials", f"role={profile}")
    assert "then ExpiredToken written True" in aws.await_console(machine, "then ")


def test_a_hanging_machine_is_alive_and_does_not_move(aws: LocalAwsUnderTest) -> None:
    """The console does not change while the fault is set, and continues afterwards."""
    machine = aws.launch(
        "#!/bin/bash\nn=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done\n"
    )
    aws.await_console(machine, "tick 3")
    made = aws.cli("fault", "add", "hang", f"instance={machine}")["faults"][-1]
    until(lambda: strikes(aws, made) == 1, "the fault occurs")
    time.sleep(0.3)
    before = aws.console(machine)
    time.sleep(0.6)
    assert aws.console(machine) == before
    assert aws.instance(machine)["State"]["Name"] == "running"
    aws.cli("fault", "clear", made["id"])
    until(lambda: aws.console(machine) != before, "it goes on")


def test_a_new_instance_may_not_be_found_yet(aws: LocalAwsUnderTest, fault: Any) -> None:
    """Eventual consistency: a new instance is unknown right after its launch and found later."""
    fault("late_visibility", "seconds=5", "count=1")
    ec2, machine = aws.client("ec2"), aws.launch(SLEEPS)
    unknown = [
        code_of(ec2.describe_instances, InstanceIds=[machine]),
        code_of(ec2.terminate_instances, InstanceIds=[machine]),
        code_of(ec2.create_tags, Resources=[machine], Tags=[{"Key": "a", "Value": "b"}]),
    ]
    assert unknown == ["InvalidInstanceID.NotFound"] * 3
    until(lambda: is_found(aws, machine), "it is found")


@pytest.mark.parametrize("pace", ["fast", "real"])
def test_each_launch_lags_for_a_time_within_the_limits_of_its_pace(pace: str) -> None:
    """A seed draws the lags: every one is within the limits, and the same seed draws them again."""
    shortest, longest = PACES[pace].unseen_s
    first, again, other = (Lags(PACES[pace], seed) for seed in (7, 7, 8))
    drawn = [first.draw() for _ in range(200)]
    assert all(shortest <= seconds <= longest for lag in drawn for seconds in lag)
    assert [again.draw() for _ in range(200)] == drawn
    assert [other.draw() for _ in range(200)] != drawn
    assert shortest > 0
    assert {lag.by_id_s < lag.by_filter_s for lag in drawn} == {True, False}


def test_a_launch_is_late_by_itself(own_state: Path) -> None:
    """A new instance is unknown by id and not listed by tag, then found, without any fault.

    At this pace and with this seed, both lags of the first launch are longer than five seconds, so
    a busy machine is quick enough.
    """
    aws = start(own_state, "--pace", "real", "--seed", "0")
    ec2, mark = aws.client("ec2"), unique("mark")
    named = [{"ResourceType": "instance", "Tags": [{"Key": "mark", "Value": mark}]}]
    machine = aws.launch(SLEEPS, TagSpecifications=named)
    by_tag = [{"Name": "tag:mark", "Values": [mark]}]
    assert code_of(ec2.describe_instances, InstanceIds=[machine]) == "InvalidInstanceID.NotFound"
    assert ec2.describe_instances(Filters=by_tag)["Reservations"] == []
    until(lambda: ec2.describe_instances(Filters=by_tag)["Reservations"], "it is listed", 9)
    assert len(ec2.describe_volumes(Filters=attached_to(machine))["Volumes"]) == 1
    until(lambda: is_found(aws, machine), "it is found by its id", 9)


def attached_to(machine: str) -> list[dict[str, Any]]:
    """Return the filter for the disks of an instance."""
    return [{"Name": "attachment.instance-id", "Values": [machine]}]


def is_found(aws: LocalAwsUnderTest, machine: str) -> bool:
    """Say whether EC2 knows an instance by its id."""
    try:
        aws.instance(machine)
    except aws.client("ec2").exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "InvalidInstanceID.NotFound":
            return False
        raise
    return True


# --- Calls ---


@pytest.mark.parametrize(
    ("service", "action", "code"),
    [
        ("ec2", "describe_instances", "RequestLimitExceeded"),
        ("s3", "list_buckets", "SlowDown"),
        ("iam", "list_roles", "Throttling"),
        ("ssm", "describe_parameters", "ThrottlingException"),
    ],
)
def test_throttling_has_each_services_own_code(
    aws: LocalAwsUnderTest, fault: Any, service: str, action: str, code: str
) -> None:
    """Clients see the codes that botocore retries."""
    role = aws.role_with(allow("*"))
    name = aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1]
    fault("throttle", f"service={service}", f"role={name}")
    assert code_of(getattr(aws.client(service, role), action)) == code


def test_a_response_is_lost_after_the_write_took_effect(aws: LocalAwsUnderTest, fault: Any) -> None:
    """The connection breaks after the write; a second conditional write finds the object."""
    bucket, s3 = aws.bucket(), aws.client("s3")
    fault("lose_response", "service=s3", "action=PutObject", f"key={bucket}/once", "count=1")
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="once", Body=b"mine", IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="once")["Body"].read() == b"mine"
    assert (
        code_of(s3.put_object, Bucket=bucket, Key="once", Body=b"mine", IfNoneMatch="*")
        == "PreconditionFailed"
    )


def test_a_conditional_write_meets_a_conflict(aws: LocalAwsUnderTest, fault: Any) -> None:
    """Conditional writes get 409 ConditionalRequestConflict; other writes succeed."""
    bucket, s3 = aws.bucket(), aws.client("s3")
    fault("conflict", f"key={bucket}/*", "count=1")
    s3.put_object(Bucket=bucket, Key="plain", Body=b"")
    assert (
        code_of(s3.put_object, Bucket=bucket, Key="new", Body=b"", IfNoneMatch="*")
        == "ConditionalRequestConflict"
    )
    s3.put_object(Bucket=bucket, Key="new", Body=b"", IfNoneMatch="*")


def test_errors_and_slowness(aws: LocalAwsUnderTest, fault: Any) -> None:
    """A 503 of S3 has no effect; a slow call takes its time."""
    bucket, s3 = aws.bucket(), aws.client("s3")
    fault("error", "service=s3", f"key={bucket}/*", "status=503", "count=1")
    assert code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"") in ("ServiceUnavailable", "503")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    fault("slow", "service=s3", f"key={bucket}*", "seconds=1", "count=1")
    began = time.monotonic()
    s3.list_objects_v2(Bucket=bucket)
    assert time.monotonic() - began >= 1


def test_a_permission_goes_in_the_middle(aws: LocalAwsUnderTest, fault: Any) -> None:
    """A fault denies what was allowed before; after it is cleared, the call is allowed again."""
    bucket, role = aws.bucket(), aws.role_with(allow("s3:*"))
    name, s3 = (
        aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1],
        aws.client("s3", role),
    )
    s3.put_object(Bucket=bucket, Key="x", Body=b"")
    fault("deny", f"role={name}", "action=s3:PutObject", "count=1")
    assert code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"") == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="x", Body=b"")


def test_credentials_end_early(aws: LocalAwsUnderTest, fault: Any) -> None:
    """Revoked sessions get ExpiredToken; a request for new credentials succeeds."""
    role = aws.role_with(allow("s3:*"))
    name = aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1]
    fault("expire_credentials", f"role={name}")
    assert code_of(aws.client("s3", role).list_buckets) == "ExpiredToken"
    assert aws.client("s3", aws.assume(name)).list_buckets()["Buckets"] is not None


def test_credentials_can_be_short_lived(aws: LocalAwsUnderTest, fault: Any) -> None:
    """New credentials of services contain the earlier expiration."""
    role = aws.service_role("ecs-tasks.amazonaws.com")
    fault("short_credentials", "seconds=120")
    document = aws.credentials(role)
    left = time.mktime(time.strptime(document["Expiration"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(
        time.gmtime()
    )
    assert 60 < left <= 121


# --- Functions ---


def test_a_function_times_out_crashes_and_recovers(aws: LocalAwsUnderTest, fault: Any) -> None:
    """Each failure has Lambda's own error, and the third invocation succeeds."""
    name, client = (
        aws.function("def handler(event, context):\n    return 'fine'\n"),
        aws.client("lambda"),
    )
    fault("function_timeout", f"function={name}", "count=1")
    fault("function_crash", f"function={name}", "count=1")
    answers = [client.invoke(FunctionName=name) for _ in range(3)]
    payloads = [json.loads(a["Payload"].read()) for a in answers]
    assert [a.get("FunctionError") for a in answers] == ["Unhandled", "Unhandled", None]
    assert [p if isinstance(p, str) else p["errorType"] for p in payloads] == [
        "Sandbox.Timedout",
        "Runtime.ExitError",
        "fine",
    ]


def test_events_are_doubled_and_lost(aws: LocalAwsUnderTest, fault: Any) -> None:
    """A duplicated event arrives twice, and a lost event never arrives."""
    bucket = aws.bucket()
    source = (
        "import boto3, uuid\ndef handler(event, context):\n    "
        f"boto3.client('s3').put_object(Bucket='{bucket}', Key=event + '/' + "
        "uuid.uuid4().hex, Body=b'')\n"
    )
    name, client = aws.function(source, allow("s3:PutObject")), aws.client("lambda")
    fault("duplicate_event", f"function={name}", "count=1")
    client.invoke(FunctionName=name, InvocationType="Event", Payload='"first"')
    until(
        lambda: aws.client("s3").list_objects_v2(Bucket=bucket, Prefix="first/")["KeyCount"] == 2,
        "two deliveries",
    )
    fault("lost_event", f"function={name}", "count=1")
    client.invoke(FunctionName=name, InvocationType="Event", Payload='"second"')
    client.invoke(FunctionName=name, InvocationType="Event", Payload='"third"')
    until(
        lambda: aws.client("s3").list_objects_v2(Bucket=bucket, Prefix="third/")["KeyCount"] == 1,
        "the third arrives",
    )
    assert aws.client("s3").list_objects_v2(Bucket=bucket, Prefix="second/")["KeyCount"] == 0


def test_killed_and_started_again_it_has_lost_nothing(own_state: Path) -> None:
    """After `fault restart`, the endpoint, the sessions and every answered change are the same."""
    aws = start(own_state)
    bucket = aws.bucket()
    role = aws.service_role("ecs-tasks.amazonaws.com")
    aws.client("s3").put_object(Bucket=bucket, Key="x", Body=b"kept")
    answer = aws.cli("fault", "restart")
    assert answer["restarted"]["endpoint_url"] == aws.endpoint_url
    assert answer["restarted"]["pid"] != aws.pid
    assert aws.client("s3").get_object(Bucket=bucket, Key="x")["Body"].read() == b"kept"
    assert (
        aws.client("iam").get_role(RoleName=role)["Role"]["Arn"]
        == f"arn:aws:iam::{ACCOUNT}:role/{role}"
    )
