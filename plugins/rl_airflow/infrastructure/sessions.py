"""AWS sessions by role: a task acts as the launcher, the promoter, the reaper or the deployer, and
as nobody else.

With a connection `nightshift_<role>` (`nightshift_airflow` for the worker's own, or another named
by `aws_conn_id`) that connection decides. Without one, the environment's own credentials (those of
the Airflow worker's role) assume `nightshift-<environment>-<role>` in their own account; the
provider renews such a session before it expires. The deployer is CloudFormation's own role, which
nobody else can assume: who deploys does it as themselves, and passes the role on.
"""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_sns import SNSClient

Role = Literal["launcher", "promoter", "reaper", "deployer"]

#: Calls that a launch hangs on are retried by whoever polls, not by the client behind our back for
#: minutes.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 10, 60, 4
#: A function may run for 900 s.
LAMBDA_TIMEOUT_S = 910


class RoleSession:
    """A session of one role in one environment, made when it is first used.

    :param role: whom to act as; None: the environment's own credentials (the Airflow worker's).
    :param aws_conn_id: a connection to use as it is; None: the default one's, if it is defined.
    :param region_name: None: the connection's, or AWS's usual default.
    """

    def __init__(
        self,
        role: Role | None,
        environment: str,
        aws_conn_id: str | None = None,
        region_name: str | None = None,
    ) -> None:
        self.role, self.environment = role, environment
        self.aws_conn_id, self.region_name = aws_conn_id, region_name
        self._clients: dict[str, Any] = {}

    @overload
    def client(self, service: Literal["ec2"]) -> "EC2Client": ...

    @overload
    def client(self, service: Literal["lambda"]) -> "LambdaClient": ...

    @overload
    def client(self, service: Literal["s3"]) -> "S3Client": ...

    @overload
    def client(self, service: Literal["service-quotas"]) -> "ServiceQuotasClient": ...

    @overload
    def client(self, service: Literal["sns"]) -> "SNSClient": ...

    def client(self, service: str) -> Any:
        """A client of a service with short time-outs and few retries; the same one when asked
        again.

        Lambda's is patient and never retries by itself: a retried call would run the function again
        (boto/boto3#1104).
        """
        if service not in self._clients:
            from botocore.config import Config

            patient = service == "lambda"
            config = Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=LAMBDA_TIMEOUT_S if patient else READ_TIMEOUT_S,
                tcp_keepalive=True,
                retries={"mode": "standard", "total_max_attempts": 1 if patient else ATTEMPTS},
            )
            self._clients[service] = self.session.client(service, config=config)  # type: ignore[call-overload]
        return self._clients[service]

    def client_in(self, region_name: str, service: Literal["pricing"]) -> "PricingClient":
        """A client of a service that has endpoints in few regions; one quick try, for what may be
        done without.
        """
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
        return self.session.client(service, region_name=region_name, config=config)

    @cached_property
    def session(self) -> "Session":
        """The boto3 session; it holds renewing credentials."""
        connection = self._find_connection()
        if connection is None:
            return (
                self._own_session()
                if self.role in (None, "deployer")
                else self._assumed_session(self.role)
            )
        from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory

        session: Session = BaseSessionFactory(
            conn=connection, region_name=self.region_name
        ).create_session()
        return session

    def _find_connection(self) -> Any:
        """Look the connection up. A named one must exist; the default one may."""
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        if self.aws_conn_id is not None:
            return BaseHook.get_connection(self.aws_conn_id)
        try:
            return BaseHook.get_connection(f"nightshift_{self.role or 'airflow'}")
        except AirflowNotFoundException:
            return None

    def _own_session(self) -> "Session":
        import boto3

        return boto3.session.Session(region_name=self.region_name)

    def _assumed_session(self, role: Role | None) -> "Session":
        from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory
        from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
        from airflow.sdk import Connection

        own = self._own_session()
        caller = own.client("sts").get_caller_identity()["Arn"]
        extra = {
            "role_arn": role_arn(caller, self.environment, role),
            "region_name": own.region_name,
            "assume_role_kwargs": {"RoleSessionName": f"airflow-{role}"},
        }
        connection = Connection(
            conn_id=f"nightshift_{role}", conn_type="aws", extra=json.dumps(extra)
        )
        wrapper = AwsConnectionWrapper(conn=connection, region_name=own.region_name)
        session: Session = BaseSessionFactory(
            conn=wrapper, region_name=own.region_name
        ).create_session()
        return session


def role_arn(caller_arn: str, environment: str, role: Role | None) -> str:
    """The role's ARN, in the partition and the account of whoever asks.

    >>> role_arn("arn:aws:sts::123456789012:assumed-role/airflow-worker/x", "dev", "launcher")
    'arn:aws:iam::123456789012:role/nightshift-dev-launcher'
    """
    _, partition, _, _, account, _ = caller_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:role/nightshift-{environment}-{role}"
