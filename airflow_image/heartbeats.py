"""Health checks of the services that only have a heartbeat in the database.

`airflow jobs check` answers the same after it has imported Airflow, which takes seconds of CPU time
in each container at each check.
"""

from collections.abc import Callable, Mapping
from types import ModuleType

from airflow_image.errors import StartRefusedError
from airflow_image.services import DATABASE
from airflow_image.start_checks import connect

#: A service beats every five seconds.
#: https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
LONGEST_SILENCE_S = 60.0


def check_heartbeat(job_type: str) -> Callable[[Mapping[str, str], ModuleType], int]:
    """Return the check of a service.

    :param job_type: the name under which Airflow's table `job` has it, e.g. `TriggererJob`.
    """

    def check(environment: Mapping[str, str], _clock: ModuleType) -> int:
        silence_s = ask_silence(environment[DATABASE], job_type, environment["HOSTNAME"])
        if silence_s is None or silence_s > LONGEST_SILENCE_S:
            how = "none is there" if silence_s is None else f"the last is {silence_s:.0f} s old"
            raise StartRefusedError(f"no heartbeat of {job_type}: {how}; read this container's log")
        return 0

    return check


def ask_silence(address: str, job_type: str, host: str) -> float | None:
    """Return the age of a running service's last heartbeat on a host, in seconds; None: no such."""
    connection = connect(address)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM now() - max(latest_heartbeat)) FROM job"
                " WHERE job_type = %s AND hostname = %s AND state = 'running'",
                (job_type, host),
            )
            (silence_s,) = cursor.fetchone()
        return None if silence_s is None else float(silence_s)
    finally:
        connection.close()
