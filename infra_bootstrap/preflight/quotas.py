"""Read a quota of the account."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_service_quotas import ServiceQuotasClient


def find_quota(quotas: "ServiceQuotasClient", service: str, code: str) -> float:
    """Read a quota. Service Quotas may know only AWS's default of one that was never changed.

    Source: https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """
    try:
        answer = quotas.get_service_quota(ServiceCode=service, QuotaCode=code)
    except quotas.exceptions.NoSuchResourceException:
        default = quotas.get_aws_default_service_quota(ServiceCode=service, QuotaCode=code)
        return float(default["Quota"]["Value"])
    return float(answer["Quota"]["Value"])
