"""Products of the price list besides machines, in the form in which AWS publishes them.

Each row has the attributes of the published list, such as
https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonS3/current/us-east-1/index.json,
and rounded list prices of eu-west-1. They are no quote. Among them are products that look alike,
because the published list has them, too: a reader must tell them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

Data = dict[str, Any]
PREFIX = "EU"
"""The prefix of usage types in eu-west-1."""


class ListedProduct(NamedTuple):
    """A product of the list.

    :param family: the product's family; empty for products that have none.
    :param usage: the usage type without the region's prefix.
    :param steps: the beginning of each step of the price, and US dollars for one unit.
    :param region: whether the product belongs to the region. Free tiers belong to none.
    """

    service: str
    family: str
    usage: str
    unit: str
    steps: tuple[tuple[str, float], ...]
    attributes: Mapping[str, str] = {}
    region: bool = True


def _lambda(group: str, usage: str, unit: str, *steps: tuple[str, float]) -> ListedProduct:
    return ListedProduct("AWSLambda", "Serverless", usage, unit, steps, {"group": group})


PRODUCTS: tuple[ListedProduct, ...] = (
    ListedProduct(
        "AmazonEC2",
        "Storage",
        "EBS:VolumeUsage.gp3",
        "GB-Mo",
        (("0", 0.088),),
        {"volumeApiName": "gp3", "volumeType": "General Purpose", "storageMedia": "SSD-backed"},
    ),
    ListedProduct(
        "AmazonEC2",
        "Storage",
        "EBS:VolumeUsage.gp2",
        "GB-Mo",
        (("0", 0.11),),
        {"volumeApiName": "gp2", "volumeType": "General Purpose", "storageMedia": "SSD-backed"},
    ),
    ListedProduct(
        "AmazonEC2",
        "System Operation",
        "EBS:VolumeP-IOPS.gp3",
        "IOPS-Mo",
        (("0", 0.0055),),
        {"volumeApiName": "gp3", "group": "EBS IOPS"},
    ),
    ListedProduct(
        "AmazonVPC",
        "",
        "PublicIPv4:InUseAddress",
        "Hrs",
        (("0", 0.005),),
        {"group": "VPCPublicIPv4Address"},
    ),
    ListedProduct("AmazonVPC", "VpcEndpoint", "VpcEndpoint-Hours", "Hrs", (("0", 0.011),)),
    _lambda(
        "AWS-Lambda-Duration",
        "Lambda-GB-Second",
        "Lambda-GB-Second",
        ("0", 0.0000166667),
        ("6000000000", 0.000015),
        ("15000000000", 0.0000133334),
    ),
    _lambda(
        "AWS-Lambda-Duration-ARM", "Lambda-GB-Second-ARM", "Lambda-GB-Second", ("0", 0.0000133334)
    ),
    _lambda("AWS-Lambda-Requests", "Request", "Requests", ("0", 0.0000002)),
    _lambda("AWS-Lambda-Requests", "Lambda-Edge-Request", "Requests", ("0", 0.0000006)),
    _lambda(
        "AWS-Lambda-Storage-Duration",
        "Lambda-Storage-GB-Second",
        "GB-Seconds",
        ("0", 0.000000034),
    ),
    ListedProduct(
        "AWSLambda",
        "Serverless",
        "Request",
        "Requests",
        (("0", 0.0),),
        {"group": "AWS-Lambda-Requests"},
        region=False,
    ),
    ListedProduct(
        "AmazonS3",
        "API Request",
        "Requests-Tier1",
        "Requests",
        (("0", 0.000005),),
        {"group": "S3-API-Tier1", "groupDescription": "PUT/COPY/POST or LIST requests"},
    ),
    ListedProduct(
        "AmazonS3",
        "API Request",
        "Requests-Tier2",
        "Requests",
        (("0", 0.0000004),),
        {"group": "S3-API-Tier2", "groupDescription": "GET and all other requests"},
    ),
    ListedProduct(
        "AmazonS3",
        "API Request",
        "Requests-SIA-Tier1",
        "Requests",
        (("0", 0.00001),),
        {"group": "S3-API-SIA-Tier1"},
    ),
    ListedProduct(
        "AmazonCloudWatch",
        "Data Payload",
        "DataProcessing-Bytes",
        "GB",
        (("0", 0.57),),
        {"group": "Ingested Logs"},
    ),
)


def describe(product: ListedProduct, region: str, location: str) -> Data:
    """Return a product as the price list shows it."""
    sku = hashlib.sha256(f"{product.service}/{product.usage}".encode()).hexdigest()[:16].upper()
    prefix = f"{PREFIX}-" if product.region else "Global-"
    attributes = {
        "servicecode": product.service,
        "usagetype": f"{prefix}{product.usage}",
        "operation": "",
        **product.attributes,
        **(
            {"regionCode": region, "location": location, "locationType": "AWS Region"}
            if product.region
            else {"location": "Any", "locationType": "Other"}
        ),
    }
    starts = [start for start, _ in product.steps]
    term = f"{sku}.JRTCKXETXF"
    prices = {
        f"{term}.{number:010d}": {
            "unit": product.unit,
            "beginRange": start,
            "endRange": end,
            "pricePerUnit": {"USD": f"{usd:.10f}"},
            "rateCode": f"{term}.{number:010d}",
            "description": f"${usd:.10f} per {product.unit}",
            "appliesTo": [],
        }
        for number, ((start, usd), end) in enumerate(
            zip(product.steps, [*starts[1:], "Inf"], strict=True)
        )
    }
    family = {"productFamily": product.family} if product.family else {}
    return {
        "product": {**family, "sku": sku, "attributes": attributes},
        "serviceCode": product.service,
        "terms": {
            "OnDemand": {
                term: {
                    "sku": sku,
                    "offerTermCode": "JRTCKXETXF",
                    "termAttributes": {},
                    "priceDimensions": prices,
                }
            }
        },
    }
