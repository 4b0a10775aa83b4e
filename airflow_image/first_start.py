"""Prepare the database: its tables, the first administrator, and the user of the runs' notes."""

from collections.abc import Mapping
from types import ModuleType

from airflow_image.errors import StartRefusedError
from airflow_image.services import ADMIN_PASSWORD, API_PASSWORD

#: User → its password's variable, role and name. A user that exists is left as it is.
USERS = {
    "admin": (ADMIN_PASSWORD, "Admin", "First administrator"),
    "nightshift": (API_PASSWORD, "RunNotes", "Notes of runs"),
}


def prepare(environment: Mapping[str, str], _clock: ModuleType) -> int:
    """Migrate the database, then make the users that are missing.

    :raises StartRefusedError: if a step fails. Its own output is above the line.
    """
    _call(["db", "migrate"], "the migration")
    for user, (password, role, name) in USERS.items():
        first, _, last = name.partition(" ")
        names = ["--firstname", first, "--lastname", last, "--email", f"{user}@localhost"]
        secret = ["--password", environment[password]]
        _call(
            ["users", "create", "--username", user, "--role", role, *names, *secret],
            f"making the user {user}",
        )
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
