"""The image's entrypoint: `python -m airflow_image COMMAND…`.

COMMAND is one of Airflow's (`scheduler`, `celery worker`), or one of `OWN`, or a program with its
arguments; Airflow's Helm chart starts `bash -c "exec airflow scheduler"`. The checks of
:mod:`airflow_image.start_checks` run first, for the service that the command starts. Then the
process becomes the command, so signals reach it.
"""

import os
import re
import shutil
import sys
import time
from typing import NoReturn

from airflow_image import cleaning, first_start, heartbeats
from airflow_image.errors import StartRefusedError
from airflow_image.services import SERVICES
from airflow_image.start_checks import check_start

OWN = {
    "init": first_start.prepare,
    "clean-daily": cleaning.clean_daily,
    "check-cleaner": cleaning.check_cleaner,
    "check-dag-processor": heartbeats.check_heartbeat("DagProcessorJob"),
    "check-triggerer": heartbeats.check_heartbeat("TriggererJob"),
}


def service_of(arguments: list[str]) -> str | None:
    """Find the service that a command starts. None: the command starts no service.

    >>> service_of(["celery", "worker"]), service_of(["bash", "-c", "exec airflow scheduler"])
    ('celery worker', 'scheduler')
    >>> service_of(["db", "shell"]) is None
    True
    """
    words = re.sub(r"^.*\bairflow\s+", "", " ".join(arguments))
    return next((name for name in SERVICES if re.match(rf"{name}\b", words)), None)


def command_of(arguments: list[str]) -> list[str]:
    """Return the command to run: a program as it is, anything else as a command of Airflow.

    `celery` is both, and means Airflow's command here.

    >>> command_of(["celery", "worker"]), command_of(["python", "-V"])
    (['airflow', 'celery', 'worker'], ['python', '-V'])
    """
    is_program = arguments[0] != "celery" and shutil.which(arguments[0])
    return arguments if is_program else ["airflow", *arguments]


def main(arguments: list[str]) -> int:
    """Check the start, then become the command.

    :return: 2 if the service must not start, 1 if a health check fails; with one line on stderr.
        Docker reserves 2 in a health check: https://docs.docker.com/reference/dockerfile/#healthcheck
    """
    arguments = arguments or ["version"]
    try:
        if (service := service_of(arguments)) is not None:
            for warning in check_start(service, os.environ):
                print(f"warning: {warning}", file=sys.stderr, flush=True)
        if (own := OWN.get(arguments[0])) is not None:
            return own(os.environ, time)
    except StartRefusedError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1 if arguments[0].startswith("check-") else 2
    return become(command_of(arguments))


def become(command: list[str]) -> NoReturn:
    """Replace this process with a program, so that the program gets the signals."""
    sys.stderr.flush()
    os.execvp(command[0], command)  # noqa: S606  this is what an entrypoint is for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
