"""Read a quota of the account."""

from typing import TYPE_CHECKING

from rl_lifecycle.aws_errors import error_code

if TYPE_CHECKING:
    from mypy_boto3_service_quotas import ServiceQuotasClient


def find_quota(quotas: "ServiceQuotasClient", service: str, code: str) -> float:
    """Read a quota. Service Quotas may know only AWS's default of one that was never changed.

    Source: https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """
    from botocore.exceptions import ClientError  # Airflow parses its DAGs without it

    try:
        answer = quotas.get_service_quota(ServiceCode=service, QuotaCode=code)
    except ClientError as error:
        if error_code(error) != "NoSuchResourceException":
            raise
        default = quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)
        return float(default["Quota"]["Value"])
    return float(answer["Quota"]["Value"])
