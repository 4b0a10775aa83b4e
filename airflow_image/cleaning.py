"""Delete old rows once a day: from Airflow's metadata database and from Celery's results."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

from airflow_image.errors import StartRefusedError
from airflow_image.services import RESULTS
from airflow_image.start_checks import connect

KEEP = "AIRFLOW_KEEP_DAYS"
#: A run may wait a week for an approval, and needs its rows until it is over.
FEWEST_DAYS = 30
DAY_S = 24 * 3600.0
#: After a failure the next try comes sooner.
RETRY_S = 3600.0
#: Its modification time says when the last cleaning succeeded.
STAMP = Path(tempfile.gettempdir()) / "airflow-cleaned"


def clean_daily(environment: Mapping[str, str], clock: ModuleType) -> int:
    """Clean now, and again each day, for as long as the container runs."""
    days = keep_days(environment)
    while True:
        cleaned = clean(environment, datetime.fromtimestamp(clock.time(), UTC), days)
        if cleaned:
            STAMP.touch()
        clock.sleep(DAY_S if cleaned else RETRY_S)


def keep_days(environment: Mapping[str, str]) -> int:
    """Read how many days stay.

    :raises StartRefusedError: if it is no number, or so small that a waiting run loses its rows.
    """
    value = environment.get(KEEP, "")
    if not value.isdecimal() or int(value) < FEWEST_DAYS:
        raise StartRefusedError(
            f"{KEEP} is {value or 'not set'}: set it to {FEWEST_DAYS} or more, because a run that "
            "waits for an approval needs its rows"
        )
    return int(value)


def clean(environment: Mapping[str, str], now: datetime, days: int) -> bool:
    """Delete what is older. :return: whether both databases were cleaned."""
    before = now - timedelta(days=days)
    command = ["airflow", "db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure"]
    done = subprocess.run(
        [*command, "--clean-before-timestamp", before.isoformat()],
        env=dict(environment),
        check=False,
    )
    return _clean_results(environment[RESULTS], before) and done.returncode == 0


def _clean_results(address: str, before: datetime) -> bool:
    import psycopg2

    try:
        connection = connect(address)
    except StartRefusedError as error:
        sys.stderr.write(f"Celery's results were not cleaned: {error}\n")
        return False
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM celery_taskmeta WHERE date_done < %s", (before,))
    except psycopg2.errors.UndefinedTable:
        pass  # no task has run yet
    finally:
        connection.close()
    return True


def check_cleaner(_environment: Mapping[str, str], clock: ModuleType) -> int:
    """Say for the health check whether a cleaning succeeded within the last day and two hours."""
    if STAMP.exists() and clock.time() - STAMP.stat().st_mtime < DAY_S + 2 * RETRY_S:
        return 0
    raise StartRefusedError("no cleaning has succeeded within a day: read this container's log")
