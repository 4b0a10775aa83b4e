"""The name under which a process is known to Airflow, as a container's host name is."""

import os


def get_host_name() -> str:
    """Return the process's own name, which Airflow stores with its jobs and tasks."""
    return os.environ["HOSTNAME"]
