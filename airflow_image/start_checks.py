"""Refuse a start that would fail later, in one line.

A service that starts with a wrong setting fails at night, in a task's log. These checks look when
it starts. A check that refuses ends the container, and compose starts it again, which is right for
a database that is away.
"""

import base64
import binascii
import importlib.metadata
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_image.errors import StartRefusedError
from airflow_image.services import DATABASE, FERNET, RESULTS, SECRETS, SERVICES

#: The first Airflow in which all DAG files of this project can be parsed.
OLDEST_AIRFLOW = (3, 2)
EXPERIMENTS = "AIRFLOW__NIGHTSHIFT__EXPERIMENTS_FOLDER"
EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
CELERY = ("CeleryExecutor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor")
#: A secret of fewer characters can be guessed.
FEWEST_CHARACTERS = 16
#: What stands in tutorials in the place of a secret.
EXAMPLES = re.compile(
    r"(admin|airflow|change|example|insert|password|placeholder|postgres|redis|replace|secret|test"
    r"|todo|your)",
    re.I,
)
#: A command that no shell has run, or words for a person. The commands of .env.example make none.
NO_SECRET = re.compile(r"\$[({]|<.*>|[\s`]")
#: Sixteen random characters have more different ones, also if all are hexadecimal digits.
FEWEST_DIFFERENT = 5
#: An address with a password that needs no quoting. `%` begins a quoted character.
ADDRESS = re.compile(r"[a-z][a-z0-9+]*://[\w.-]*:(?P<password>[^@/]*)@[\w.:-]+(/[\w-]*)?")
#: An address in which the password is missing.
NO_PASSWORD = re.compile(r"[a-z][a-z0-9+]*://([\w.-]*:?@)?[\w.:-]+(/[\w-]*)?")
URL_SAFE = re.compile(r"[A-Za-z0-9._~-]+")
CONNECT_TIMEOUT_S = 10


def check_start(service: str, environment: Mapping[str, str]) -> list[str]:
    """Check what a service needs.

    :return: warnings, for what harms only one experiment.
    :raises StartRefusedError: if the service would not work.
    """
    check_airflow(importlib.metadata.version("apache-airflow-core"))
    check_executor(environment)
    check_secrets(service, environment)
    needs = SERVICES[service]
    for name in (DATABASE, RESULTS):
        if name in needs.secrets:
            revision = ask_database(environment[name], name == DATABASE and needs.migrated)
            if revision is not None:
                check_revision(revision, newest_revision())
    return list(missing_wheels(environment)) if service == "celery worker" else []


def check_airflow(version: str) -> None:
    """Refuse an Airflow that cannot parse the DAG files."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST_AIRFLOW:
        raise StartRefusedError(
            f"Airflow {version} is too old: the DAGs need "
            f"{'.'.join(map(str, OLDEST_AIRFLOW))} or newer; build the image from locks/airflow.txt"
        )


def check_executor(environment: Mapping[str, str]) -> None:
    """Refuse another executor: the services here are Celery's."""
    if (found := environment.get(EXECUTOR, "")) not in CELERY:
        raise StartRefusedError(
            f"{EXECUTOR} is {found or 'not set'}, and this image runs tasks on Celery's workers: "
            "set it to CeleryExecutor"
        )


def check_secrets(service: str, environment: Mapping[str, str]) -> None:
    """Refuse a secret that is missing, can be guessed, is used twice, or breaks its address."""
    seen: dict[str, str] = {}
    for name in SERVICES[service].secrets:
        setting, value = SECRETS[name], environment.get(name, "")
        if not value:
            raise StartRefusedError(f"{name} is missing: set {setting} in .env")
        if NO_SECRET.search(value):
            raise StartRefusedError(
                f"{setting} has $(…), <…>, a blank or a backtick, like a command that was not run: "
                "run the command in .env.example, and set what it prints"
            )
        secret = _password_of(value, name) if "://" in value else value
        if name == FERNET:
            _check_fernet_key(value)
        elif (
            len(secret) < FEWEST_CHARACTERS
            or len(set(secret)) < FEWEST_DIFFERENT
            or EXAMPLES.match(secret)
        ):
            raise StartRefusedError(
                f"{setting} can be guessed: use at least {FEWEST_CHARACTERS} random characters; "
                ".env.example has a command that makes them"
            )
        if secret in seen:
            raise StartRefusedError(
                f"{setting} and {seen[secret]} are the same: give each secret a value of its own"
            )
        seen[secret] = setting


def _password_of(address: str, name: str) -> str:
    setting = SECRETS[name]
    if NO_PASSWORD.fullmatch(address):
        raise StartRefusedError(f"{name} has no password in its address: set {setting} in .env")
    found = ADDRESS.fullmatch(address)
    if found is None or not URL_SAFE.fullmatch(found["password"]):
        raise StartRefusedError(
            f"{setting} becomes part of an address, so it may hold only letters, digits, and "
            "- . _ ~; .env.example has a command that makes such a password"
        )
    return found["password"]


def _check_fernet_key(value: str) -> None:
    try:
        key = base64.urlsafe_b64decode(value)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise StartRefusedError(
            "AIRFLOW_FERNET_KEY is no Fernet key (32 bytes in base64): "
            ".env.example has the command that makes one"
        )
    if len(set(key)) < FEWEST_DIFFERENT:
        raise StartRefusedError(
            "AIRFLOW_FERNET_KEY can be guessed: .env.example has the command that makes one"
        )


def ask_database(address: str, for_revision: bool) -> str | None:
    """Log in to a database.

    :param for_revision: also ask which revision of Airflow's tables it has.
    :return: the revision; "" for a database without tables; None if it was not asked for.
    :raises StartRefusedError: if the database is away or refuses the password.
    """
    import psycopg2

    connection = connect(address)
    try:
        if not for_revision:
            return None
        with connection.cursor() as cursor:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
        return str(row[0]) if row else ""
    except psycopg2.errors.UndefinedTable:
        return ""
    finally:
        connection.close()


def connect(address: str) -> Any:
    """Log in to a database.

    :param address: as Airflow or Celery writes it.
    :raises StartRefusedError: if the database is away or refuses the password.
    """
    import psycopg2

    plain = re.sub(r"^(db\+)?postgresql(\+\w+)?://", "postgresql://", address)
    try:
        return psycopg2.connect(plain, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg2.OperationalError as error:
        raise StartRefusedError(
            f"the database does not answer: {' '.join(str(error).split())}; "
            "start it, or correct its address and password"
        ) from None


def newest_revision() -> str:
    """Return the revision of the tables that this Airflow needs.

    Airflow's own command answers the same after seconds of imports, in each service.
    """
    core = importlib.metadata.distribution("apache-airflow-core")
    folder = Path(str(core.locate_file("airflow/migrations/versions")))
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    own = {found[1] for text in texts if (found := re.search(r'^revision = "(\w+)"', text, re.M))}
    before = {
        found[1] for text in texts if (found := re.search(r'^down_revision = "(\w+)"', text, re.M))
    }
    (newest,) = own - before
    return newest


def check_revision(found: str, wanted: str) -> None:
    """Refuse a database that another version of Airflow made.

    :param found: its revision. "" if it has no tables.
    """
    if found != wanted:
        state = f"has the tables of another Airflow ({found})" if found else "has no tables yet"
        raise StartRefusedError(
            f"the database {state}, and this Airflow needs {wanted}: stop all services, then run "
            "docker compose run --rm airflow-init"
        )


def missing_wheels(environment: Mapping[str, str]) -> Iterator[str]:
    """Name each wheel of an experiment that this worker does not have, or cannot read.

    A file that cannot be read as an experiment is left out, because its own DAG says what is wrong.
    It must not keep a worker from starting, so it is read within the limits of the DAG files.
    """
    from rl_lifecycle.errors import LifecycleError
    from rl_lifecycle.experiment.files import parse_yaml, read_text

    folder = _experiments_folder(environment)
    for path in sorted(folder.glob("*.y*ml")):  # .yaml and .yml
        try:
            document = parse_yaml(read_text(path, path.name), path.name)
        except LifecycleError:
            continue
        named = document.get("requirements") if isinstance(document, dict) else None
        for name in named if isinstance(named, list) else ():
            if not _is_wheel(folder / str(name)):
                yield (
                    f"{path.name} needs {name}, and {folder / str(name)} is no wheel "
                    "that this worker can read: the experiment's night will fail; add the file to "
                    "the image"
                )


def _is_wheel(path: Path) -> bool:
    """Whether a file is an archive. A name that no file can have is none."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except (OSError, ValueError):
        return False


def _experiments_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the experiments: the setting's, else the usual ones."""
    dags = Path(environment["AIRFLOW__CORE__DAGS_FOLDER"]).resolve()
    usual = ("../experiments", "experiments")
    names = [setting] if (setting := environment.get(EXPERIMENTS)) else usual
    tried = [(dags / name).resolve() for name in names]
    return next((folder for folder in tried if folder.is_dir()), tried[0])
