"""AWS clients of one identity. Each client is made when it is first used."""

from __future__ import annotations

import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra_bootstrap.call_log import CallLog
from infra_bootstrap.errors import AccessRefusedError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

REFUSED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403"}
)
#: A NAT gateway forgets a connection that was idle for 350 s, and a call of a function waits for up
#: to 900 s. So TCP sends a probe after every minute. Three probes in a row may stay unanswered.
#: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
KEEP_ALIVE_S, MOST_UNANSWERED = 60, 3
#: The error codes of services for something that does not exist, besides those with `NotFound`.
MISSING = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchEntity",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
    }
)
CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 6},
    max_pool_connections=16,
    user_agent_extra="nightshift",
)


class Clients:
    """The clients of a session.

    :param session: a boto3 session, which has the credentials and the region.
    :param calls: the log of the calls. The clients of an assumed role share it.
    """

    def __init__(self, session: boto3.Session, calls: CallLog | None = None) -> None:
        self.session = session
        self.calls = calls or CallLog()

    def client(self, service: str, region: str | None = None) -> Any:
        """Make a client of any service, by boto3's name of the service.

        :param region: None means the session's region.
        """
        made = self.session.client(service, region_name=region, config=CONFIG)  # type: ignore[call-overload]
        keep_connections_alive(made)
        self.calls.watch(made)
        return made

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """The client of CloudFormation."""
        return cast("CloudFormationClient", self.client("cloudformation"))

    @cached_property
    def ec2(self) -> EC2Client:
        """The client of EC2."""
        return cast("EC2Client", self.client("ec2"))

    @cached_property
    def iam(self) -> IAMClient:
        """The client of IAM."""
        return cast("IAMClient", self.client("iam"))

    @cached_property
    def lambda_(self) -> LambdaClient:
        """The client of Lambda."""
        return cast("LambdaClient", self.client("lambda"))

    @cached_property
    def s3(self) -> S3Client:
        """The client of S3."""
        return cast("S3Client", self.client("s3"))

    @cached_property
    def service_quotas(self) -> ServiceQuotasClient:
        """The client of Service Quotas."""
        return cast("ServiceQuotasClient", self.client("service-quotas"))

    @cached_property
    def sns(self) -> SNSClient:
        """The client of SNS."""
        return cast("SNSClient", self.client("sns"))

    @cached_property
    def sqs(self) -> SQSClient:
        """The client of SQS."""
        return cast("SQSClient", self.client("sqs"))

    @cached_property
    def ssm(self) -> SSMClient:
        """The client of Systems Manager, which has public parameters such as image ids."""
        return cast("SSMClient", self.client("ssm"))

    @cached_property
    def sts(self) -> STSClient:
        """The client of the Security Token Service."""
        return cast("STSClient", self.client("sts"))

    @cached_property
    def identity(self) -> dict[str, str]:
        """The caller's identity: `Account`, `Arn` and `UserId`."""
        caller = self.sts.get_caller_identity()
        return {"Account": caller["Account"], "Arn": caller["Arn"], "UserId": caller["UserId"]}

    @property
    def account_id(self) -> str:
        """The caller's account: twelve digits."""
        return self.identity["Account"]

    @property
    def region(self) -> str:
        """The region of the clients, such as `eu-west-1`."""
        return str(self.sts.meta.region_name)

    @property
    def partition(self) -> str:
        """The caller's partition: `aws`, or another one such as `aws-cn`."""
        return self.identity["Arn"].split(":")[1]

    def role_arn(self, name: str) -> str:
        """Return the ARN of a role of this account. The role has no path."""
        return f"arn:{self.partition}:iam::{self.account_id}:role/{name}"

    def assume(self, role_arn: str, session_name: str = "nightshift-bootstrap") -> Clients:
        """Assume a role for an hour, and return its clients.

        :raises AccessRefusedError: if the role does not trust the caller.
        """
        try:
            given = self.sts.assume_role(RoleArn=role_arn, RoleSessionName=session_name)[
                "Credentials"
            ]
        except ClientError as error:
            raise refused_or_same(error, f"sts:AssumeRole {role_arn}") from error
        return Clients(
            boto3.Session(
                aws_access_key_id=given["AccessKeyId"],
                aws_secret_access_key=given["SecretAccessKey"],
                aws_session_token=given["SessionToken"],
                region_name=self.region,
            ),
            self.calls,
        )


def keep_connections_alive(client: Any, every_s: int = KEEP_ALIVE_S) -> None:
    """Let TCP probe the idle connections of a client, so that NAT gateways remember them.

    botocore's own `tcp_keepalive` leaves the time to the kernel, whose default is two hours.
    Source: https://github.com/boto/botocore/issues/2916

    :param client: a boto3 client that has made no call yet.
    :param every_s: seconds without traffic before a probe, and between two probes.
    """
    # The name of the option in macOS is that of the switch elsewhere.
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options += [(socket.IPPROTO_TCP, idle, every_s)] if idle else []
    options += [
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, MOST_UNANSWERED),
    ]
    client._endpoint.http_session._socket_options.extend(options)  # botocore has no public way


def as_clients(session_or_clients: boto3.Session | Clients) -> Clients:
    """Return clients as they are, and make clients of a session."""
    return (
        session_or_clients
        if isinstance(session_or_clients, Clients)
        else Clients(session_or_clients)
    )


def code_of(error: ClientError) -> str:
    """Return AWS's code of an error, or an empty text if it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Return AWS's message of an error."""
    return str(error.response.get("Error", {}).get("Message", error))


def is_refusal(error: ClientError) -> bool:
    """Tell whether AWS refused the call, because the caller lacks a permission."""
    return code_of(error) in REFUSED


def is_missing(error: ClientError) -> bool:
    """Tell whether an error says that a resource does not exist."""
    code = code_of(error)
    return code in MISSING or "NotFound" in code


def refused_or_same(error: ClientError, action: str) -> Exception:
    """Return :class:`AccessRefusedError` for a refusal, and any other error as it is."""
    return AccessRefusedError(action, message_of(error)) if is_refusal(error) else error


def role_of_arn(arn: str) -> str | None:
    """Read the role's name in the ARN of a role or of its session. A user's ARN gives None.

    >>> role_of_arn("arn:aws:sts::123456789012:assumed-role/airflow-worker/task-1")
    'airflow-worker'
    """
    kind, _, rest = arn.split(":", 5)[5].partition("/")
    if kind == "assumed-role":
        return rest.split("/")[0]
    return rest.rsplit("/", 1)[-1] if kind == "role" else None
