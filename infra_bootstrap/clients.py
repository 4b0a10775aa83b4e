"""AWS clients of one identity. Each client is made when it is first used."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

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
CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 6},
    max_pool_connections=16,
    user_agent_extra="nightshift",
)


class Clients:
    """The clients of a session.

    :param session: a boto3 session; it brings credentials and region.
    """

    def __init__(self, session: boto3.Session) -> None:
        self.session = session

    def client(self, service: str) -> Any:
        """Make a client of any service, by boto3's name of the service."""
        return self.session.client(service, config=CONFIG)  # type: ignore[call-overload]

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        """CloudFormation."""
        return self.session.client("cloudformation", config=CONFIG)

    @cached_property
    def ec2(self) -> EC2Client:
        """EC2."""
        return self.session.client("ec2", config=CONFIG)

    @cached_property
    def iam(self) -> IAMClient:
        """IAM."""
        return self.session.client("iam", config=CONFIG)

    @cached_property
    def lambda_(self) -> LambdaClient:
        """Lambda."""
        return self.session.client("lambda", config=CONFIG)

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return self.session.client("s3", config=CONFIG)

    @cached_property
    def service_quotas(self) -> ServiceQuotasClient:
        """Service Quotas."""
        return self.session.client("service-quotas", config=CONFIG)

    @cached_property
    def sns(self) -> SNSClient:
        """SNS."""
        return self.session.client("sns", config=CONFIG)

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS."""
        return self.session.client("sqs", config=CONFIG)

    @cached_property
    def ssm(self) -> SSMClient:
        """Systems Manager, for its public parameters."""
        return self.session.client("ssm", config=CONFIG)

    @cached_property
    def sts(self) -> STSClient:
        """Security Token Service."""
        return self.session.client("sts", config=CONFIG)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Who is calling: `Account`, `Arn`, `UserId`."""
        caller = self.sts.get_caller_identity()
        return {"Account": caller["Account"], "Arn": caller["Arn"], "UserId": caller["UserId"]}

    @property
    def account_id(self) -> str:
        """The account's twelve digits."""
        return self.identity["Account"]

    @property
    def region(self) -> str:
        """The region that the clients speak to."""
        return str(self.sts.meta.region_name)

    @property
    def partition(self) -> str:
        """`aws`, or another partition's name."""
        return self.identity["Arn"].split(":")[1]

    def role_arn(self, name: str) -> str:
        """The ARN of a role of this account that has no path."""
        return f"arn:{self.partition}:iam::{self.account_id}:role/{name}"

    def assume(self, role_arn: str, session_name: str = "nightshift-bootstrap") -> Clients:
        """Become a role, for an hour.

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
            )
        )


def as_clients(session_or_clients: boto3.Session | Clients) -> Clients:
    """Take a session or clients."""
    return (
        session_or_clients
        if isinstance(session_or_clients, Clients)
        else Clients(session_or_clients)
    )


def code_of(error: ClientError) -> str:
    """AWS's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """AWS's message of an error."""
    return str(error.response.get("Error", {}).get("Message", error))


def is_refusal(error: ClientError) -> bool:
    """Whether AWS said that the caller may not."""
    return code_of(error) in REFUSED


def refused_or_same(error: ClientError, action: str) -> Exception:
    """Turn a refusal into our error, leave any other as it is."""
    return AccessRefusedError(action, message_of(error)) if is_refusal(error) else error


def role_of_arn(arn: str) -> str | None:
    """Read the role's name off a session's or role's ARN; None for a user.

    >>> role_of_arn("arn:aws:sts::123456789012:assumed-role/airflow-worker/task-1")
    'airflow-worker'
    """
    kind, _, rest = arn.split(":", 5)[5].partition("/")
    if kind == "assumed-role":
        return rest.split("/")[0]
    return rest.rsplit("/", 1)[-1] if kind == "role" else None
