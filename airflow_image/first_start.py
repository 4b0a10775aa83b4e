"""Prepare the database: its tables, and the first administrator."""

from collections.abc import Mapping
from types import ModuleType

from airflow_image.errors import StartRefusedError
from airflow_image.services import ADMIN_PASSWORD


def prepare(environment: Mapping[str, str], _clock: ModuleType) -> int:
    """Migrate the database, then make the administrator `admin`. One that exists is left alone.

    :raises StartRefusedError: if a step fails. Its own output is above the line.
    """
    _call(["db", "migrate"], "the migration")
    person = ["--username", "admin", "--role", "Admin", "--email", "admin@localhost"]
    names = ["--firstname", "First", "--lastname", "Administrator"]
    secret = ["--password", environment[ADMIN_PASSWORD]]
    _call(["users", "create", *person, *names, *secret], "making the user admin")
    return 0


def _call(arguments: list[str], what: str) -> None:
    """Run a command of Airflow in this process, so that no list of processes shows a password."""
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(arguments)
    try:
        parsed.func(parsed)
    except SystemExit as error:
        if error.code:
            raise StartRefusedError(
                f"{what} failed: {error.code}; read the lines above, then run init again"
            ) from None
