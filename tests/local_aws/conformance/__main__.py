"""Run the conformance table on the account of this shell, and print it.

    python -m tests.local_aws.conformance            # says what would run, and its highest cost
    python -m tests.local_aws.conformance --yes      # runs it; the table is on stdout
    python -m tests.local_aws.conformance --clean    # only removes what a killed run has left

It needs administrator rights in an account for tests, as a role. It removes what it creates, and
first what an earlier run has left. Each machine ends by itself after a quarter of an hour.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.local_aws.conformance.account import INSTANCE_TYPE, LAUNCH_USD, Account, Row, Seen
from tests.local_aws.conformance.leftovers import remove_leftovers
from tests.local_aws.conformance.table import TABLE

MOST_USD = 0.10
CONFIG = Config(retries={"total_max_attempts": 5, "mode": "standard"}, max_pool_connections=32)
REAL_PATIENCE_S = 120.0


def cost_usd(rows: Sequence[Row]) -> float:
    """Return what rows cost at most: their machines. Requests cost less than a thousandth."""
    return 0.001 + sum(row.launches for row in rows) * LAUNCH_USD


def plan_of(rows: Sequence[Row]) -> str:
    """Say in one line what would run and what it costs."""
    launches = sum(row.launches for row in rows)
    return (
        f"{len(rows)} rows, at most {launches} machines ({INSTANCE_TYPE}, 15 minutes each): "
        f"at most USD {cost_usd(rows):.3f}"
    )


def real_account() -> Account:
    """Return the account of this shell's credentials and region."""
    session = boto3.Session()

    def client(service: str, other: boto3.Session | None = None) -> Any:
        return (other or session).client(service, config=CONFIG)  # type: ignore[call-overload]

    return Account(client, str(session.region_name), REAL_PATIENCE_S)


def run(account: Account, rows: Sequence[Row]) -> list[tuple[Row, Seen]]:
    """Check rows one after another, and clean up after each."""
    seen = []
    for row in rows:
        try:
            found = row.look(account)
        except (ClientError, BotoCoreError, AssertionError) as error:
            found = Seen(False, f"{type(error).__name__}: {error}")
        finally:
            account.clean()
        print(f"{'ok' if found.holds else 'NO':3} {row.name}  {found.what}", file=sys.stderr)
        seen.append((row, found))
    return seen


def as_table(seen: Sequence[tuple[Row, Seen]], region: str, at: dt.datetime) -> str:
    """Return the table to paste. It names no account."""
    lines = [
        f"Conformance on {at:%Y-%m-%d}, region {region}, boto3 {boto3.__version__}: "
        f"{sum(found.holds for _, found in seen)} of {len(seen)} rows hold.",
        "",
        "| row | holds | seen | source |",
        "|---|---|---|---|",
    ]
    for row, found in seen:
        what = " ".join(found.what.split()).replace("|", "/")[:160]
        lines.append(f"| {row.name} | {'yes' if found.holds else 'NO'} | {what} | {row.source} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. :return: 0 if every row holds, 1 if one does not, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m tests.local_aws.conformance")
    parser.add_argument("--yes", action="store_true", help="run the table on this shell's account")
    parser.add_argument("--clean", action="store_true", help="only remove what a run has left")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="rows with this text in their names"
    )
    arguments = parser.parse_args(argv)
    rows = [row for row in TABLE if arguments.only in row.name]
    print(plan_of(rows), file=sys.stderr)
    if not rows or cost_usd(rows) > MOST_USD:
        print("choose at least one row, and rows for less than USD 0.10", file=sys.stderr)
        return 2
    if not arguments.yes and not arguments.clean:
        print("add --yes to run it on the account of this shell", file=sys.stderr)
        return 0
    try:
        account = real_account()
        for name in remove_leftovers(account):
            print(f"removed {name}", file=sys.stderr)
        if arguments.clean:
            return 0
        seen = run(account, rows)
    except (ClientError, BotoCoreError) as error:
        print(f"{error}: check this shell's credentials and region", file=sys.stderr)
        return 2
    print(as_table(seen, account.region, dt.datetime.now(dt.UTC)))
    return 0 if all(found.holds for _, found in seen) else 1


if __name__ == "__main__":
    raise SystemExit(main())
