"""Read a region's prices from AWS's price list.

Source: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
Each product's filters were chosen from the published price list, for example
https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonS3/current/us-east-1/index.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from rl_lifecycle.machines.service_prices import TABLE

if TYPE_CHECKING:
    from mypy_boto3_pricing import PricingClient
    from mypy_boto3_pricing.type_defs import FilterTypeDef

#: The price list has endpoints in three regions; this one is in the same partition as most.
#: https://docs.aws.amazon.com/general/latest/gr/billing.html
PRICES_REGION = "us-east-1"
#: A price that differs from the table by more than this factor is not the price of the same unit.
MOST_DIFFERENT = 10.0


class Product(NamedTuple):
    """Where the price list has a price.

    :param service: the price list's code of the service.
    :param attributes: the attributes that the product has, besides its region.
    :param usage: its usage type, without the prefix of the region.
    """

    service: str
    attributes: Mapping[str, str]
    usage: str


PRODUCTS: Mapping[str, Product] = {
    "gp3_gib_month": Product("AmazonEC2", {"volumeApiName": "gp3"}, "EBS:VolumeUsage.gp3"),
    "public_ipv4_hour": Product("AmazonVPC", {}, "PublicIPv4:InUseAddress"),
    "lambda_gib_s": Product("AWSLambda", {"group": "AWS-Lambda-Duration"}, "Lambda-GB-Second"),
    "lambda_request": Product("AWSLambda", {"group": "AWS-Lambda-Requests"}, "Request"),
    "lambda_storage_gib_s": Product(
        "AWSLambda", {"group": "AWS-Lambda-Storage-Duration"}, "Lambda-Storage-GB-Second"
    ),
    "s3_write": Product("AmazonS3", {"group": "S3-API-Tier1"}, "Requests-Tier1"),
    "s3_read": Product("AmazonS3", {"group": "S3-API-Tier2"}, "Requests-Tier2"),
    "logs_gib": Product("AmazonCloudWatch", {"group": "Ingested Logs"}, "DataProcessing-Bytes"),
}
#: The attributes of a machine's Linux price: shared hardware, no reserved capacity.
LINUX_MACHINE: Mapping[str, str] = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
    "capacitystatus": "Used",
}


def read_service_prices(pricing: PricingClient, region: str) -> dict[str, float]:
    """Read a region's prices of everything that is billed besides machines.

    The first step of a stepped price counts, because it is the highest.

    :param pricing: a client of the price list in :data:`PRICES_REGION`.
    :return: prices by their name in the table. A price that the list does not have, or that has
        another unit, is left out.
    """
    found = {name: _read_price(pricing, region, product) for name, product in PRODUCTS.items()}
    known = asdict(TABLE.prices)
    return {
        name: price
        for name, price in found.items()
        if price is not None and 1 / MOST_DIFFERENT <= price / known[name] <= MOST_DIFFERENT
    }


def read_machine_price(pricing: PricingClient, region: str, instance_type: str) -> float | None:
    """Read the on-demand price of one hour of a type, with Linux and no other software.

    :return: None if the price list has no price for the type in this region.
    """
    machine = Product("AmazonEC2", {**LINUX_MACHINE, "instanceType": instance_type}, "")
    prices = [
        price
        for item in _products(pricing, region, machine)
        for price in dimensions(item, unit="Hrs")
    ]
    return max((price for price in prices if price > 0), default=None)


def _read_price(pricing: PricingClient, region: str, product: Product) -> float | None:
    prices = [
        price
        for item in _products(pricing, region, product)
        if _has_usage(item["product"]["attributes"].get("usagetype", ""), product.usage)
        for price in dimensions(item)
    ]
    return max((price for price in prices if price > 0), default=None)


def _products(pricing: PricingClient, region: str, product: Product) -> Iterator[dict[str, Any]]:
    wanted = {**product.attributes, "regionCode": region}
    filters: list[FilterTypeDef] = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()
    ]
    pages = pricing.get_paginator("get_products").paginate(
        ServiceCode=product.service, Filters=filters
    )
    for page in pages:
        for text in page["PriceList"]:
            yield json.loads(text)


def _has_usage(usage_type: str, usage: str) -> bool:
    """Tell whether a usage type is the wanted one, with or without a region's prefix.

    >>> [_has_usage(name, "Request") for name in ("Request", "EU-Request", "Lambda-Edge-Request")]
    [True, True, False]
    """
    return re.fullmatch(rf"([A-Z]{{2,4}}[0-9]?-)?{re.escape(usage)}", usage_type) is not None


def dimensions(item: Mapping[str, Any], unit: str | None = None) -> list[float]:
    """Return all on-demand prices of a product, US dollars for one unit.

    :param unit: the unit that the prices must be for; None takes any.
    """
    return [
        float(dimension["pricePerUnit"]["USD"])
        for term in item["terms"].get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
        if unit is None or dimension.get("unit") == unit
    ]
