"""A task waits for AWS by the table: in time, not in tries. On the local AWS, with its faults."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from rl_airflow.infrastructure.patience import Outage, repeat, wait_in_client
from rl_lifecycle.aws_errors import BELIEVED_AFTER_S, WAITING, waiting_for
from tests.infra_bootstrap.accounts import Account

QUICK = Config(retries={"mode": "standard", "total_max_attempts": 1})
#: Pauses of a second together, instead of the table's hour.
SHORT = (0.02,) * 50
pytestmark = pytest.mark.local_aws


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A local AWS for these tests."""
    account = Account(tmp_path_factory.mktemp("patience") / "state")
    yield account
    account.down()


@pytest.fixture
def client(account: Account, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return clients of the administrator that make one try."""
    for name, value in account.variables("administrator").items():
        monkeypatch.setenv(name, value)
    return lambda service: boto3.session.Session().client(service, config=QUICK)


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("ec2", lambda ec2: ec2.describe_instances()),
        ("s3", lambda s3: s3.list_buckets()),
        ("lambda", lambda functions: functions.list_functions()),
        ("sts", lambda sts: sts.get_caller_identity()),
        ("sns", lambda sns: sns.list_topics()),
    ],
)
def test_a_throttled_service_is_waited_for(
    account: Account, client: Callable[[str], Any], service: str, call: Callable[[Any], Any]
) -> None:
    """A call that is refused twelve times in a row succeeds in the end."""
    patient = client(service)
    wait_in_client(patient, service, lambda: False, lambda: SHORT)
    with account.fault("throttle", f"service={service}", "count=12"):
        assert call(patient)["ResponseMetadata"]["RetryAttempts"] == 12


def test_a_broken_service_is_waited_for_and_a_refusal_by_policy_is_not(
    account: Account, client: Callable[[str], Any]
) -> None:
    """Code 500 may pass. A denied call is raised at once."""
    patient = client("s3")
    wait_in_client(patient, "s3", lambda: False, lambda: SHORT)
    with account.fault("error", "service=s3", "count=6"):
        assert patient.list_buckets()["ResponseMetadata"]["RetryAttempts"] == 6
    denied = client("ec2")
    wait_in_client(denied, "ec2", lambda: False, lambda: SHORT)
    with (
        account.fault("deny", "action=ec2:DescribeInstances"),
        pytest.raises(ClientError, match="UnauthorizedOperation") as refused,
    ):
        denied.describe_instances()
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_the_wait_ends_when_its_time_is_up_or_the_process_is_being_killed(
    account: Account, client: Callable[[str], Any]
) -> None:
    """The error of the last try is raised. In a hurry there is no wait at all."""
    for hurries, tries in ((False, 5), (True, 0)):
        patient = client("sns")
        wait_in_client(patient, "sns", lambda now=hurries: now, lambda: (0.01,) * 5)  # type: ignore[misc]
        with (
            account.fault("throttle", "service=sns"),
            pytest.raises(ClientError) as refused,
        ):
            patient.list_topics()
        assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == tries


def test_a_first_call_is_repeated_while_aws_refuses_but_not_without_an_answer(
    account: Account, client: Callable[[str], Any]
) -> None:
    """A region that does not exist gives no answer, so the task must not wait for it."""
    sts, slept = client("sts"), []
    with account.fault("throttle", "service=sts", "count=9"):
        repeat(sts.get_caller_identity, "sts", (0.01,) * 20, slept.append)
    assert len(slept) == 9
    nowhere = boto3.client("sts", endpoint_url="http://127.0.0.1:1", config=QUICK)
    with pytest.raises(EndpointConnectionError):
        repeat(nowhere.get_caller_identity, "sts", (0.01,), slept.append)
    assert len(slept) == 9


def test_looks_that_fail_are_counted_in_time() -> None:
    """A busy service is waited for as the table says, a denial is believed after two minutes."""
    now = [0.0]
    busy = ClientError({"Error": {"Code": "SlowDown"}}, "ListObjectsV2")
    denied = ClientError({"Error": {"Code": "AccessDenied"}}, "ListObjectsV2")
    outage = Outage("s3", lambda: now[0])
    for seconds, error, over in (
        (0.0, busy, False),
        (BELIEVED_AFTER_S + 1, busy, False),
        (WAITING["s3"].most_s - 1, busy, False),
        (WAITING["s3"].most_s, busy, True),
    ):
        now[0] = seconds
        assert outage.is_over(error) is over
    outage.end()
    assert not outage.is_on
    assert not outage.is_over(denied)
    now[0] += BELIEVED_AFTER_S
    assert outage.is_over(denied)


def test_each_wait_of_the_table_has_its_reason() -> None:
    """The services that a run cannot do without are waited for longest."""
    assert all(one.why for one in WAITING.values())
    assert min(WAITING[name].most_s for name in ("ec2", "s3", "lambda")) >= 1800
    assert waiting_for("sns").most_s < 60 <= waiting_for("another").most_s
