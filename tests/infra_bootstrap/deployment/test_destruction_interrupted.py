"""A destroy that is interrupted anywhere, or disturbed by a writer, ends with nothing left."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.bucket import delete_bucket, empty_bucket
from infra_bootstrap.deployment.destroy import Destruction, command_of, destroy
from infra_bootstrap.deployment.leftovers import Proof, look, prove_gone
from infra_bootstrap.deployment.one_stack import StackOutcome
from infra_bootstrap.errors import AccessRefusedError, BucketNotEmptiedError
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from tests.infra_bootstrap.accounts import Account, Deployment
from tests.infra_bootstrap.preflight.test_preflight import FakeClients

KILLS = 7
PROCESS_KILLS = 3
EVENTS = ("before-send", "after-call")
STORED = ((Concern.IDENTITY,), (Concern.STORAGE,))


class Killed(BaseException):
    """The process ended here. It is no Exception, so nothing can catch it by chance."""


@contextmanager
def killed_at(clients: Clients, call: int, event: str) -> Iterator[None]:
    """End the program at its n-th request to AWS.

    :param event: `before-send`, or `after-call` for a request that took effect, but whose answer
        the program did not see.
    """
    left = [call]

    def count(**_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    session = clients.session._session
    session.register(event, count)
    for made in (value for value in vars(clients).values() if hasattr(value, "meta")):
        made.meta.events.register(event, count)
    try:
        yield
    finally:
        session.unregister(event, count)


def new_clients(fresh: Deployment) -> Clients:
    """Return an administrator's clients that no other test has."""
    found = fresh.as_role("administrator").session.get_credentials()
    assert found is not None
    frozen = found.get_frozen_credentials()
    return Clients(
        boto3.Session(frozen.access_key, frozen.secret_key, frozen.token, fresh.account.region)
    )


def finish(fresh: Deployment, clients: Clients | None = None) -> Destruction:
    """Destroy an environment with its bucket, without waiting for what is late."""
    return destroy(
        clients or fresh.as_role("administrator"),
        fresh.settings,
        fresh.settings.environment,
        fresh.printed.append,
        delete_bucket=True,
        settle_s=0.0,
    )


def put(fresh: Deployment, key: str) -> None:
    """Write an object as an administrator, in a class that has no writer of its own."""
    fresh.as_role("launcher").s3.put_object(Bucket=fresh.bucket, Key=key, Body=b"{}")


def nothing() -> Proof:
    """Return the proof that nothing is left and everything was looked at."""
    return Proof((), ())


def test_a_destroy_that_is_killed_anywhere_is_finished_by_the_same_command(
    fresh: Deployment,
) -> None:
    """Kill the destroy at random requests, again and again. Then the command finishes."""
    fresh.deploy()
    choose = random.Random(7)
    kills = 0
    while kills < KILLS:
        clients = new_clients(fresh)
        try:
            with killed_at(clients, choose.randrange(6, 50), choose.choice(EVENTS)):
                finish(fresh, clients)
        except Killed:
            kills += 1
        else:
            break
    assert kills >= 3
    assert finish(fresh).leftovers == ()
    assert look(fresh.as_role("administrator"), fresh.settings, set()) == nothing()


def test_a_destroy_whose_process_is_killed_is_finished_by_the_same_command(
    fresh: Deployment,
) -> None:
    """Send SIGKILL to the command at random moments. Then the same command finishes."""
    fresh.deploy(*STORED)
    put(fresh, "attempts/e/r/t/1.json")
    name = fresh.settings.environment
    command = ("destroy", "--environment", name, "--confirm", name, "--delete-bucket", "--json")
    choose = random.Random(3)
    ends = list[int]()
    while len(ends) < PROCESS_KILLS and 0 not in ends:  # 0: it was faster than the signal
        process = fresh.account.start_cli(*command)
        for _line in range(choose.randrange(1, 4)):  # its progress says that it is at work
            assert process.stderr is not None
            process.stderr.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        ends.append(process.returncode)
    assert ends[0] == -signal.SIGKILL
    assert set(ends) <= {-signal.SIGKILL, 0}
    done = fresh.account.cli(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["leftovers"] == []
    assert look(fresh.as_role("administrator"), fresh.settings, set()) == nothing()


def test_one_name_can_be_deployed_again_after_it_was_destroyed(fresh: Deployment) -> None:
    """Deploy, destroy and deploy one name: nothing of the first is in the way of the second."""
    fresh.deploy(*STORED)
    profile = f"nightshift-{fresh.settings.environment}-trainer"
    iam = fresh.as_role("administrator").iam
    assert iam.get_instance_profile(InstanceProfileName=profile)
    assert finish(fresh).leftovers == ()
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_instance_profile(InstanceProfileName=profile)
    assert {result.outcome for result in fresh.deploy(*STORED)} == {StackOutcome.CREATED}
    assert finish(fresh).leftovers == ()


def test_a_writer_that_never_stops_is_locked_out(fresh: Deployment) -> None:
    """A writer that writes during the whole destroy neither stops it nor leaves an object."""
    fresh.deploy(*STORED)
    launcher, bucket = fresh.as_role("launcher").s3, fresh.bucket
    stop, answers = threading.Event(), list[str]()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                launcher.put_object(Bucket=bucket, Key=f"attempts/e/r/t/{number}.json", Body=b"{}")
                answers.append("written")
            except ClientError as error:
                answers.append(str(error.response["Error"]["Code"]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = finish(fresh)
    finally:
        stop.set()
        writer.join()
    assert done.leftovers == ()
    assert bucket in done.deleted
    assert answers[0] == "written"
    assert "AccessDenied" in answers


def test_the_bucket_stays_locked_until_it_is_gone(fresh: Deployment) -> None:
    """A destroy that stops between the stack and the bucket leaves a bucket that takes nothing."""
    fresh.deploy(*STORED)
    put(fresh, "attempts/e/r/t/1.json")
    clients = new_clients(fresh)

    def stop(**_: Any) -> None:
        raise Killed

    clients.s3.meta.events.register("before-send.s3.DeleteBucket", stop)
    with pytest.raises(Killed):
        destroy(
            clients,
            fresh.settings,
            fresh.settings.environment,
            fresh.printed.append,
            delete_bucket=True,
        )
    assert find_stack(clients, stack_name(fresh.settings.environment, Concern.STORAGE)) is None
    with pytest.raises(ClientError, match="AccessDenied"):
        put(fresh, "attempts/e/r/t/2.json")
    assert finish(fresh).leftovers == ()


def orphan(fresh: Deployment) -> None:
    """Delete the storage stack by hand, as a person may do in the console."""
    administrator = fresh.as_role("administrator")
    name = stack_name(fresh.settings.environment, Concern.STORAGE)
    cloudformation = administrator.cloudformation
    cloudformation.update_termination_protection(StackName=name, EnableTerminationProtection=False)
    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def test_a_bucket_without_its_stack_keeps_its_policy_and_is_left_over(fresh: Deployment) -> None:
    """A plain destroy names the bucket, and says how to delete it or to take it over."""
    fresh.deploy(*STORED)
    put(fresh, "attempts/e/r/t/1.json")
    orphan(fresh)
    administrator = fresh.as_role("administrator")
    policy = administrator.s3.get_bucket_policy(Bucket=fresh.bucket)["Policy"]
    assert "NeverDeleted" in policy
    done = destroy(administrator, fresh.settings, fresh.settings.environment, fresh.printed.append)
    assert done.leftovers == (f"bucket {fresh.bucket}",)
    assert command_of(fresh.settings, delete_bucket=True) in fresh.printed[-1]
    assert finish(fresh).leftovers == ()


def test_a_bucket_without_its_stack_is_taken_over_by_the_next_deployment(
    fresh: Deployment,
) -> None:
    """The deployment imports the bucket, keeps what is in it, and sets its policy again."""
    fresh.deploy(*STORED)
    put(fresh, "attempts/e/r/t/1.json")
    orphan(fresh)
    administrator = fresh.as_role("administrator")
    with pytest.raises(AccessRefusedError, match="let an administrator run"):
        fresh.deploy((Concern.STORAGE,), clients=fresh.as_role("airflow-worker"))
    results = fresh.deploy((Concern.STORAGE,))
    assert [result.outcome for result in results] == [StackOutcome.UPDATED]
    assert [result.outcome for result in fresh.deploy((Concern.STORAGE,))] == [
        StackOutcome.UNCHANGED
    ]
    listed = administrator.s3.list_objects_v2(Bucket=fresh.bucket)
    assert [item["Key"] for item in listed["Contents"]] == ["attempts/e/r/t/1.json"]
    assert "NeverDeleted" in administrator.s3.get_bucket_policy(Bucket=fresh.bucket)["Policy"]
    stack = find_stack(administrator, stack_name(fresh.settings.environment, Concern.STORAGE))
    assert stack is not None
    assert stack.outputs["BucketName"] == fresh.bucket
    assert finish(fresh).leftovers == ()


# ---- the proof looks by name
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (
            lambda at, name: at.iam.create_instance_profile(InstanceProfileName=f"{name}-trainer"),
            "instance profile nightshift-ghost-trainer",
        ),
        (
            lambda at, name: at.client("logs").create_log_group(
                logGroupName="/nightshift/ghost/flow"
            ),
            "log group /nightshift/ghost/flow",
        ),
        (
            lambda at, name: at.sqs.create_queue(QueueName=f"{name}-dead-letters"),
            "queue nightshift-ghost-dead-letters",
        ),
        (
            lambda at, name: at.sns.create_topic(Name=f"{name}-alarms"),
            "topic nightshift-ghost-alarms",
        ),
        (
            lambda at, name: at.client("events").put_rule(
                Name=f"{name}-reap", ScheduleExpression="rate(15 minutes)"
            ),
            "rule nightshift-ghost-reap",
        ),
        (
            lambda at, name: at.client("cloudwatch").put_metric_alarm(
                AlarmName=f"{name}-reaper-silent",
                MetricName="Invocations",
                Namespace="AWS/Lambda",
                Statistic="Sum",
                Period=3600,
                EvaluationPeriods=1,
                Threshold=1.0,
                ComparisonOperator="LessThanThreshold",
            ),
            "alarm nightshift-ghost-reaper-silent",
        ),
        (
            lambda at, name: at.ec2.create_launch_template(
                LaunchTemplateName=f"{name}-trainer",
                LaunchTemplateData={"InstanceType": "c7i.large"},
            ),
            "launch template nightshift-ghost-trainer",
        ),
        (
            lambda at, name: at.client("budgets").create_budget(
                AccountId=at.account_id,
                Budget={
                    "BudgetName": f"{name}-monthly",
                    "BudgetType": "COST",
                    "TimeUnit": "MONTHLY",
                    "BudgetLimit": {"Amount": "1", "Unit": "USD"},
                },
            ),
            "budget nightshift-ghost-monthly",
        ),
    ],
    ids=lambda value: value.split(" nightshift")[0] if isinstance(value, str) else None,
)
def test_the_proof_finds_what_has_neither_stack_nor_tag(
    account: Account, make: Callable[[Clients, str], object], named: str
) -> None:
    """A resource with one of our names is found, also without a tag and without a stack."""
    administrator, settings = account.clients(), DeploymentSettings("ghost")
    before = look(administrator, settings, set()).left
    make(administrator, "nightshift-ghost")
    assert set(look(administrator, settings, set()).left) - set(before) == {named}


def test_the_proof_waits_for_what_goes_by_itself(account: Account) -> None:
    """A queue that is still found for a while after its deletion is not reported as left over."""
    administrator, settings = account.clients(), DeploymentSettings("late")
    url = administrator.sqs.create_queue(QueueName="nightshift-late-dead-letters")["QueueUrl"]
    pauses = list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            administrator.sqs.delete_queue(QueueUrl=url)

    assert prove_gone(administrator, settings, set(), 75.0, sleep) == nothing()
    assert len(pauses) == 3


def test_what_the_caller_may_not_look_at_is_unknown_and_not_gone(dev: Deployment) -> None:
    """A role without rights proves nothing: the proof says what it could not look at."""
    kept = set(Concern) - {Concern.IDENTITY}
    proof = look(dev.as_role("airflow-worker"), dev.settings, kept)
    assert "stack nightshift-dev-identity" in proof.left
    assert not [name for name in proof.left if "profile" in name]
    assert "instance profile nightshift-dev-trainer" in proof.unknown


# ---- answers of S3
def bucket_client(*answers: tuple[str, Any]) -> FakeClients:
    """Return clients whose S3 gives these answers."""
    client = boto3.client(
        "s3", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
    stub = Stubber(client)
    for call, answer in answers:
        if isinstance(answer, str):
            stub.add_client_error(call, service_error_code=answer)
        else:
            stub.add_response(call, answer)
    stub.activate()
    return FakeClients({"s3": client})


ONE = ("list_object_versions", {"Versions": [{"Key": "registry/x", "VersionId": "v1"}]})
BUSY = (
    "delete_objects",
    {"Errors": [{"Key": "registry/x", "Code": "InternalError", "Message": "again"}]},
)


def test_an_object_that_may_not_be_deleted_is_named() -> None:
    """`Errors` in a successful answer are read: AccessDenied stops the deletion and names it."""
    held = {"Errors": [{"Key": "registry/x", "Code": "AccessDenied", "Message": "held"}]}
    clients = bucket_client(ONE, ("delete_objects", held))
    with pytest.raises(AccessRefusedError, match=r"DeleteObjectVersion b/registry/x: AccessDenied"):
        empty_bucket(clients, "b")


def test_an_object_that_s3_could_not_delete_now_is_deleted_by_the_next_try() -> None:
    """A passing error of one object, or a bucket that is not empty, leads to another round."""
    rounds = [
        ("put_bucket_policy", {}),
        *(ONE, BUSY),
        *(ONE, ("delete_objects", {})),
        ("delete_bucket", "BucketNotEmpty"),
        ("list_object_versions", {}),
        ("delete_bucket", {}),
    ]
    pauses = list[float]()
    assert delete_bucket(bucket_client(*rounds), "b", "again", pauses.append)
    assert len(pauses) == 2


def test_a_bucket_that_is_never_empty_gives_the_command_that_continues() -> None:
    """The deletion of a bucket has an end, and its message keeps `--delete-bucket`."""
    rounds = [("put_bucket_policy", {}), *[ONE, BUSY] * 100]
    command = command_of(DeploymentSettings("dev"), delete_bucket=True)
    with pytest.raises(
        BucketNotEmptiedError,
        match=r"S3 answered InternalError for registry/x.*--confirm dev --delete-bucket` again",
    ):
        delete_bucket(bucket_client(*rounds), "b", command, lambda _: None)


def test_there_may_be_no_bucket() -> None:
    """A bucket that is already gone is no error, so the command can be repeated."""
    assert not delete_bucket(bucket_client(("put_bucket_policy", "NoSuchBucket")), "b", "again")
