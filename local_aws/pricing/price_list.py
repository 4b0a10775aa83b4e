"""On-demand prices, as AWS's Price List service answers them.

Source:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

from local_aws.ec2.catalog import CATALOG, OfferedType
from local_aws.pricing.json_service import Data, RequestError, page
from local_aws.pricing.products import PRODUCTS, describe

LOCATIONS = {
    "eu-west-1": "EU (Ireland)",
    "us-east-1": "US East (N. Virginia)",
    "eu-central-1": "EU (Frankfurt)",
}
"""The Price List's own names of regions."""
SERVICES = tuple(dict.fromkeys(["AmazonEC2", *(one.service for one in PRODUCTS)]))
"""The codes of the services that have prices here."""


class PriceList:
    """Answers the operations of `pricing`."""

    def __init__(self, region: str) -> None:
        self._region = region
        self.actions: dict[str, Callable[[Data], Data]] = {
            "GetProducts": self.get_products,
            "DescribeServices": self.describe_services,
        }

    def get_products(self, data: Data) -> Data:
        """List the products that pass every filter."""
        service = data.get("ServiceCode")
        if service not in SERVICES:
            raise RequestError(
                "NotFoundException",
                f"Invalid ServiceCode {service!r}: the local AWS prices {', '.join(SERVICES)} only",
            )
        location = LOCATIONS.get(self._region, self._region)
        products = [
            describe(other, self._region, location)
            for other in PRODUCTS
            if other.service == service
        ]
        if service == "AmazonEC2":
            products += [product(entry, self._region) for entry in CATALOG.values()]
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
                {"ServiceCode": code, "AttributeNames": ["regionCode", "usagetype", "group"]}
                for code in SERVICES
            ],
        }


def passes(attributes: Mapping[str, str], filters: Iterable[Mapping[str, str]]) -> bool:
    """Say whether a product passes every filter.

    :raises RequestError: for an unknown type of filter.
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
