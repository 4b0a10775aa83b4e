"""The account's limits, as AWS's Service Quotas answers them.

Source: https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/Welcome.html
"""

from __future__ import annotations

from collections.abc import Callable

from local_aws.ec2.catalog import QUOTAS
from local_aws.pricing.json_service import Data, RequestError, page

OTHER_QUOTAS: dict[tuple[str, str], Data] = {
    ("vpc", "L-F678F1CE"): {
        "ServiceCode": "vpc",
        "ServiceName": "Amazon Virtual Private Cloud (Amazon VPC)",
        "QuotaName": "VPCs per Region",
        "Value": 50.0,
    }
}
"""Quotas of services other than EC2. AWS starts with 5 VPCs; this account has a raised limit."""


class Quotas:
    """Answers the operations of `servicequotas`: how many vCPUs of each family may run.

    :ivar changed: returns another value of a quota than the usual one, by its code, or None.
    """

    def __init__(self, account_id: str, region: str) -> None:
        self.changed: Callable[[str], float | None] = lambda _code: None
        self._account_id = account_id
        self._region = region
        self.actions: dict[str, Callable[[Data], Data]] = {
            "GetServiceQuota": self.get,
            "GetAWSDefaultServiceQuota": self.get,
            "ListServiceQuotas": self.list,
        }

    def get(self, data: Data) -> Data:
        """Return one quota."""
        code = data.get("QuotaCode", "")
        if (data.get("ServiceCode"), code) in OTHER_QUOTAS:
            found = self._describe(code) | OTHER_QUOTAS[data["ServiceCode"], code]
            return {"Quota": found | self._changed(code)}
        if data.get("ServiceCode") != "ec2" or code not in QUOTAS:
            raise RequestError(
                "NoSuchResourceException",
                f"The request failed because the specified service quota {code} does not exist.",
            )
        return {"Quota": self._describe(code)}

    def list(self, data: Data) -> Data:
        """List the quotas of EC2."""
        if data.get("ServiceCode") != "ec2":
            raise RequestError(
                "NoSuchResourceException",
                f"The request failed because the specified service {data.get('ServiceCode')} does "
                "not exist.",
            )
        shown, after = page([self._describe(code) for code in QUOTAS], data)
        return {"Quotas": shown, **after}

    def _changed(self, code: str) -> Data:
        value = self.changed(code)
        return {} if value is None else {"Value": value}

    def _describe(self, code: str) -> Data:
        """Return a quota as the service shows it."""
        name, value, _, _ = QUOTAS.get(code, (code, 0.0, "", ""))
        return {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaCode": code,
            "QuotaName": name,
            "Value": value,
            "QuotaArn": f"arn:aws:servicequotas:{self._region}:{self._account_id}:ec2/{code}",
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
            **self._changed(code),
        }
