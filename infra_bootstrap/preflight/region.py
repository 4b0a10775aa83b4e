"""Checks of the region: its partition, its services, and whether the account may use it."""

from collections.abc import Iterator

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_refusal
from infra_bootstrap.preflight.results import Check, CheckResult, Situation

#: The one partition that the templates, the images and the prices are made for.
PARTITION = "aws"
#: A region that every account can use, so it can say which other regions the account may use. A
#: region that is not enabled refuses all credentials, and so cannot say it.
#: https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html
ASKED_REGION = "us-east-1"
#: The regional services that the stacks and the commands use, by boto3's names.
SERVICES = (
    "cloudformation",
    "cloudwatch",
    "ec2",
    "events",
    "lambda",
    "logs",
    "resourcegroupstaggingapi",
    "s3",
    "service-quotas",
    "sns",
    "sqs",
    "ssm",
    "sts",
)
OPEN = ("opt-in-not-required", "opted-in")
#: The commercial Regions without Lambda's tenant isolation, which keeps the code of experiments
#: apart. https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
WITHOUT_TENANT_ISOLATION = ("ap-southeast-6",)


def check_region(at: Situation) -> Iterator[Check]:
    """Check that the stacks can exist in the region, and that the account has enabled it.

    The check needs no call to the region itself, because a region that is not enabled answers none.
    """
    clients = at.clients
    region = clients.region
    partition = clients.session.get_partition_for_region(region)
    if partition != PARTITION:
        yield _failed(
            f"{region} belongs to the partition {partition}",
            f"choose a region of the partition {PARTITION}: the templates, the images and the "
            "prices are made for it alone",
        )
        return
    if missing := missing_services(clients, SERVICES):
        yield _failed(f"{region} has no {', '.join(missing)}", "choose another region")
        return
    isolation = at.settings.parameters.get("PlayerIsolation", "per-tenant")
    if region in WITHOUT_TENANT_ISOLATION and isolation == "per-tenant":
        yield _failed(
            f"Lambda has no tenant isolation in {region}, so code of one experiment could read the "
            "requests of another",
            "choose another region; or, if all experiments of the environment trust each other, "
            "add --parameter PlayerIsolation=shared",
        )
        return
    yield _opted_in(clients)


def missing_services(clients: Clients, services: tuple[str, ...]) -> list[str]:
    """List the services that a region lacks, by the endpoints that botocore ships."""
    return [
        service
        for service in services
        if clients.region not in clients.session.get_available_regions(service, PARTITION)
    ]


def _opted_in(clients: Clients) -> Check:
    region = clients.region
    try:
        found = clients.client("ec2", ASKED_REGION).describe_regions(
            RegionNames=[region], AllRegions=True
        )["Regions"]
    except ClientError as error:
        if not is_refusal(error):
            raise
        return Check(
            name="region",
            verdict=CheckResult.WARNING,
            found=f"{region}; whether it is enabled cannot be looked at: {code_of(error)}",
            fix=f"allow ec2:DescribeRegions in {ASKED_REGION}",
        )
    status = str(found[0].get("OptInStatus", OPEN[0])) if found else "unknown"
    if status in OPEN:
        return Check(name="region", verdict=CheckResult.GOOD, found=f"{region}, {status}")
    return _failed(
        f"{region}, {status}",
        f"aws account enable-region --region-name {region} (it takes minutes to hours), or choose "
        "another region",
    )


def _failed(found: str, fix: str) -> Check:
    return Check(name="region", verdict=CheckResult.FAILED, found=found, fix=fix)
