"""Current prices of what a run is billed for besides its machines."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from infra_bootstrap.stacks.price_list import PRICES_REGION, read_service_prices
from rl_airflow.errors import first_line
from rl_airflow.infrastructure.aws_errors import aws_errors
from rl_airflow.infrastructure.sessions import RoleSession
from rl_lifecycle.machines.service_prices import TABLE, ServicePrices

if TYPE_CHECKING:
    from mypy_boto3_pricing import PricingClient


def find_service_prices(
    make_pricing: "Callable[[], PricingClient]", region: str, log: logging.Logger
) -> ServicePrices:
    """Read a region's prices. A price that AWS's price list does not give is the table's."""
    try:
        return TABLE.prices.with_known(read_service_prices(make_pricing(), region))
    except (*aws_errors(), LookupError, TypeError, ValueError) as error:
        log.warning(
            "the price list could not be read (%s); the table of %s is used, which has the prices "
            "of %s, and %s may be dearer",
            first_line(error),
            TABLE.as_of,
            TABLE.region,
            region,
        )
        return TABLE.prices


def prices_of_session(session: RoleSession, log: logging.Logger) -> ServicePrices:
    """Read the prices of a session's region."""
    return find_service_prices(
        lambda: session.client_in(PRICES_REGION, "pricing"),
        session.client("s3").meta.region_name,
        log,
    )
