"""AWS sessions by role: a task acts as the launcher, the promoter, the reaper or the deployer.

The API server acts as the viewer, and its own credentials take the place of the worker's.

If the Airflow connection `nightshift_<role>` exists, the session uses it. (For the worker's own
session it is `nightshift_airflow`; `aws_conn_id` can name another one.) Without a connection,
the credentials of the Airflow worker assume the role `nightshift-<environment>-<role>` in their own
account. The amazon provider renews such a session before it expires. The deployer is the role of
CloudFormation, which no user can assume. A deployment uses the caller's own credentials and passes
that role to CloudFormation.
"""

import json
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from rl_airflow.infrastructure.patience import repeat, wait_in_client

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_service_quotas import ServiceQuotasClient
    from mypy_boto3_sns import SNSClient

Role = Literal["launcher", "promoter", "reaper", "viewer", "deployer"]

#: The limits of one call. How long a call is repeated is in :mod:`rl_lifecycle.aws_errors`.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 10, 60, 4
#: A function may run for 900 s.
LAMBDA_TIMEOUT_S = 910
#: The loggers of botocore that tell for each client where its endpoint and credentials come from.
CHATTY_LOGGERS = ("botocore.configprovider", "botocore.credentials", "botocore.tokens")


def quieten_botocore() -> None:
    """Keep lines such as "Found endpoint for s3 via: environment_global." out of task logs.

    A level that you set with Airflow's option `[logging] namespace_levels` is kept.
    """
    for name in CHATTY_LOGGERS:
        chatty = logging.getLogger(name)
        chosen = chatty.level or logging.getLogger("botocore").level
        if not chosen and chatty.getEffectiveLevel() == logging.INFO:
            chatty.setLevel(logging.WARNING)


class RoleSession:
    """A session of one role in one environment, made when it is first used.

    :param role: the role to use. None means the Airflow worker's own credentials.
    :param aws_conn_id: the connection to use. None means the default connection, if it is defined.
    :param region_name: the region. None means the connection's region, or AWS's usual default.
    :param opening: botocore's settings for the calls that open the session, which wait for minutes
        without any. A connection with settings of its own keeps them.
    """

    def __init__(
        self,
        role: Role | None,
        environment: str,
        aws_conn_id: str | None = None,
        region_name: str | None = None,
        opening: Mapping[str, Any] | None = None,
    ) -> None:
        self.role, self.environment = role, environment
        self.aws_conn_id, self.region_name = aws_conn_id, region_name
        self.opening = opening
        self._clients: dict[str, Any] = {}
        self._hurries = False

    def hurry(self) -> Self:
        """Let all calls fail after a few quick tries, also a call that is waiting now.

        This is for a process that is being killed, and for a trigger, which looks again by itself.
        """
        self._hurries = True
        return self

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
        """Return the client of a service. It waits as long as the table says if AWS is busy.

        Later calls return the same client. Lambda's client has a long time-out and never retries,
        because a retry would run the function again (boto/boto3#1104). Who invokes a function
        decides what to repeat.
        """
        if service not in self._clients:
            from botocore.config import Config

            from infra_bootstrap.clients import keep_connections_alive

            patient = service == "lambda"
            config = Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=LAMBDA_TIMEOUT_S if patient else READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": 1 if patient else ATTEMPTS},
            )
            self._clients[service] = self.session.client(service, config=config)  # type: ignore[call-overload]
            keep_connections_alive(self._clients[service])
            if not patient:
                wait_in_client(self._clients[service], service, lambda: self._hurries)
        return self._clients[service]

    def client_in(self, region_name: str, service: Literal["pricing"]) -> "PricingClient":
        """Return the client of a service with endpoints in few regions. It makes one quick try.

        Use it only for optional calls.
        """
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
        return self.session.client(service, region_name=region_name, config=config)

    @cached_property
    def session(self) -> "Session":
        """The boto3 session, whose credentials are renewed."""
        return repeat(self._make_session, "sts", () if self._hurries else None)

    def _make_session(self) -> "Session":
        quieten_botocore()
        connection = self._find_connection()
        if connection is None:
            return (
                self._own_session()
                if self.role in (None, "deployer")
                else self._assumed_session(self.role)
            )
        from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory

        config = None if "config_kwargs" in connection.extra_dejson else self._opening_config()
        session: Session = BaseSessionFactory(
            conn=connection, region_name=self.region_name, config=config
        ).create_session()
        return session

    def _opening_config(self) -> "Config | None":
        from botocore.config import Config

        return Config(**self.opening) if self.opening else None

    def _find_connection(self) -> Any:
        """Find the connection. A named connection must exist; the default one can be missing."""
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
        config = self._opening_config()
        caller = own.client("sts", config=config).get_caller_identity()["Arn"]
        extra = {
            "role_arn": role_arn(caller, self.environment, role),
            "region_name": own.region_name,
            "assume_role_kwargs": {"RoleSessionName": f"airflow-{role}"},
        }
        connection = Connection(
            conn_id=f"nightshift_{role}", conn_type="aws", extra=json.dumps(extra)
        )
        wrapper = AwsConnectionWrapper(
            conn=connection, region_name=own.region_name, botocore_config=config
        )
        session: Session = BaseSessionFactory(
            conn=wrapper, region_name=own.region_name
        ).create_session()
        return session


def role_arn(caller_arn: str, environment: str, role: Role | None) -> str:
    """Return the ARN of a role in the caller's partition and account.

    >>> role_arn("arn:aws:sts::123456789012:assumed-role/airflow-worker/x", "dev", "launcher")
    'arn:aws:iam::123456789012:role/nightshift-dev-launcher'
    """
    _, partition, _, _, account, _ = caller_arn.split(":", 5)
    return f"arn:{partition}:iam::{account}:role/nightshift-{environment}-{role}"
