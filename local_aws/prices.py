"""The Price List and Service Quotas, as far as launching machines needs them.

Sources:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html and
https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/Welcome.html
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from local_aws.ec2.catalog import CATALOG, QUOTAS, OfferedType
from local_aws.iam.authorization import Authorizer

Response = tuple[int, dict[str, str], bytes]
Data = dict[str, Any]
ROUTES = {"pricing": "AWSPriceListService.", "servicequotas": "ServiceQuotasV20190624."}
"""The prefix of the ``X-Amz-Target`` header of each."""
LOCATIONS = {
    "eu-west-1": "EU (Ireland)",
    "us-east-1": "US East (N. Virginia)",
    "eu-central-1": "EU (Frankfurt)",
}
LARGEST_PAGE = 100


class RequestError(ValueError):
    """A request that is refused.

    :param code: AWS's name for it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JsonService:
    """A service that speaks AWS's JSON protocol.

    :param actions: what each operation does.
    """

    def __init__(
        self, name: str, actions: Mapping[str, Callable[[Data], Data]], authorizer: Authorizer
    ) -> None:
        self._name = name
        self._actions = actions
        self._authorizer = authorizer

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request; it was authenticated before."""
        del method, path, query
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in self._actions:
            return answer(
                400,
                {"__type": "UnknownOperationException", "message": f"{action} is not known here"},
            )
        denial = self._authorizer.check(headers, f"{self._name}:{action}", "*", {})
        if denial:
            text = (
                f"User: {denial.principal_arn} is not authorized to perform: "
                f"{self._name}:{action} because no "
                f"identity-based policy allows the {self._name}:{action} action"
            )
            return answer(
                400, {"__type": "AccessDeniedException", "message": text, "Message": text}
            )
        try:
            return answer(200, self._actions[action](json.loads(body or b"{}")))
        except RequestError as error:
            return answer(400, {"__type": error.code, "message": str(error)})


def answer(status: int, data: Data) -> Response:
    """Return a JSON response."""
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(data).encode()


def page(items: list[Any], data: Data) -> tuple[list[Any], Data]:
    """Return one page and what leads to the next."""
    start = int(base64.b64decode(data["NextToken"])) if data.get("NextToken") else 0
    end = start + min(int(data.get("MaxResults") or LARGEST_PAGE), LARGEST_PAGE)
    return items[start:end], {
        "NextToken": base64.b64encode(str(end).encode()).decode()
    } if end < len(items) else {}


class PriceList:
    """``pricing``: the on-demand prices of machines."""

    def __init__(self, region: str) -> None:
        self._region = region
        self.actions: dict[str, Callable[[Data], Data]] = {
            "GetProducts": self.get_products,
            "DescribeServices": self.describe_services,
        }

    def get_products(self, data: Data) -> Data:
        """List products that pass every filter."""
        if data.get("ServiceCode") != "AmazonEC2":
            raise RequestError(
                "NotFoundException",
                f"Invalid ServiceCode {data.get('ServiceCode')!r}: the local AWS prices AmazonEC2 "
                "only",
            )
        products = [product(entry, self._region) for entry in CATALOG.values()]
        chosen = [
            p for p in products if passes(p["product"]["attributes"], data.get("Filters") or [])
        ]
        shown, after = page(chosen, data)
        return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(p) for p in shown], **after}

    def describe_services(self, data: Data) -> Data:
        """List the services that have prices."""
        del data
        return {
            "FormatVersion": "aws_v1",
            "Services": [
                {
                    "ServiceCode": "AmazonEC2",
                    "AttributeNames": ["instanceType", "regionCode", "operatingSystem"],
                }
            ],
        }


def passes(attributes: Mapping[str, str], filters: Iterable[Mapping[str, str]]) -> bool:
    """Say whether a product passes every filter.

    :raises RequestError: for a kind of filter that does not exist.
    """
    for wanted in filters:
        kind = wanted.get("Type", "TERM_MATCH")
        if kind not in ("TERM_MATCH", "EQUALS"):
            raise RequestError("InvalidParameterException", f"filter type {kind} is not known here")
        if attributes.get(wanted["Field"], "").lower() != wanted["Value"].lower():
            return False
    return True


def product(entry: OfferedType, region: str) -> Data:
    """Return an instance type as the price list shows it."""
    sku = hashlib.sha256(entry.name.encode()).hexdigest()[:16].upper()
    attributes = {
        "instanceType": entry.name,
        "regionCode": region,
        "location": LOCATIONS.get(region, region),
        "locationType": "AWS Region",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "licenseModel": "No License required",
        "servicecode": "AmazonEC2",
        "operation": "RunInstances",
        "marketoption": "OnDemand",
        "vcpu": str(entry.vcpus),
        "memory": f"{entry.memory_mib / 1024:g} GiB",
        "currentGeneration": "Yes",
        **({"gpu": str(entry.gpu.count)} if entry.gpu else {}),
    }
    rate = f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    price = {
        "unit": "Hrs",
        "pricePerUnit": {"USD": f"{entry.on_demand_usd:.10f}"},
        "rateCode": rate,
        "description": f"${entry.on_demand_usd} per On Demand Linux {entry.name} Instance Hour",
    }
    terms = {
        "OnDemand": {
            f"{sku}.JRTCKXETXF": {
                "sku": sku,
                "offerTermCode": "JRTCKXETXF",
                "termAttributes": {},
                "priceDimensions": {rate: price},
            }
        }
    }
    return {
        "product": {"productFamily": "Compute Instance", "sku": sku, "attributes": attributes},
        "serviceCode": "AmazonEC2",
        "terms": terms,
    }


OTHER_QUOTAS: dict[tuple[str, str], Data] = {
    ("vpc", "L-F678F1CE"): {
        "ServiceCode": "vpc", "ServiceName": "Amazon Virtual Private Cloud (Amazon VPC)", "QuotaName": "VPCs per Region", "Value": 50.0
    }
}  # fmt: skip
"""Quotas of other services than EC2. AWS begins with 5 VPCs; this account has asked for more."""


class Quotas:
    """``servicequotas``: how many virtual processors of each family may run."""

    def __init__(self, account_id: str, region: str) -> None:
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
            return {"Quota": self._describe(code) | OTHER_QUOTAS[data["ServiceCode"], code]}
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
        }
