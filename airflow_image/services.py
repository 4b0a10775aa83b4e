"""The services of a team's Airflow, and what each of them needs."""

from dataclasses import dataclass

DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
RESULTS = "AIRFLOW__CELERY__RESULT_BACKEND"
BROKER = "AIRFLOW__CELERY__BROKER_URL"
FERNET = "AIRFLOW__CORE__FERNET_KEY"
API_SECRET = "AIRFLOW__API__SECRET_KEY"  # noqa: S105  the name of a variable
JWT_SECRET = "AIRFLOW__API_AUTH__JWT_SECRET"  # noqa: S105
ADMIN_PASSWORD = "AIRFLOW_ADMIN_PASSWORD"  # noqa: S105

#: All variables that hold a secret, each with the variable of `.env` that it comes from.
SECRETS = {
    DATABASE: "POSTGRES_PASSWORD",
    RESULTS: "POSTGRES_CELERY_PASSWORD",
    BROKER: "REDIS_PASSWORD",
    FERNET: "AIRFLOW_FERNET_KEY",
    API_SECRET: "AIRFLOW_API_SECRET_KEY",
    JWT_SECRET: "AIRFLOW_JWT_SECRET",
    ADMIN_PASSWORD: ADMIN_PASSWORD,
}


@dataclass(frozen=True)
class Service:
    """What a service needs.

    :param secrets: the variables without which it cannot work.
    :param migrated: whether it needs the metadata database as its own Airflow has it.
    """

    secrets: tuple[str, ...]
    migrated: bool = True


#: Command → what it needs. docker-compose.yaml gives each service these secrets and no other.
SERVICES = {
    "init": Service((DATABASE, FERNET, ADMIN_PASSWORD), migrated=False),
    "api-server": Service((DATABASE, FERNET, API_SECRET, JWT_SECRET)),
    "scheduler": Service((DATABASE, FERNET, BROKER, RESULTS, JWT_SECRET)),
    "dag-processor": Service((DATABASE, FERNET)),
    "triggerer": Service((DATABASE, FERNET, API_SECRET)),
    "celery worker": Service((BROKER, RESULTS, API_SECRET), migrated=False),
    "clean-daily": Service((DATABASE, FERNET, RESULTS)),
}
