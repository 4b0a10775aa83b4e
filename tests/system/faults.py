"""Find what to strike in a team's Airflow: queued messages, and which process does what."""

import socket
from typing import Any

import psycopg2

from laptop.stack.team import TeamStack

#: The list in Redis that holds the messages for Celery's workers.
QUEUE = "default"


def queued(stack: TeamStack) -> int:
    """Count the messages in Redis that no worker has taken. -1 while Redis is away."""
    password = stack.variables["REDIS_PASSWORD"]
    try:
        with socket.create_connection(("127.0.0.1", stack.ports.redis), timeout=5) as connection:
            connection.sendall(f"AUTH {password}\r\nLLEN {QUEUE}\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                part = connection.recv(1024)
                if not part:
                    return -1
                answer += part
    except OSError:
        return -1
    count = answer.split(b"\r\n")[1]
    return int(count[1:]) if count.startswith(b":") else -1


def ask(stack: TeamStack, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the metadata database."""
    address = stack.services["airflow-scheduler"].environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    here = address.replace("+psycopg2", "").replace(
        "@postgres/", f"@127.0.0.1:{stack.ports.postgres}/"
    )
    connection = psycopg2.connect(here)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())
    finally:
        connection.close()


def triggerer_of(stack: TeamStack, run_id: str, task_id: str) -> str | None:
    """Find the triggerer that waits for a deferred task."""
    found = ask(
        stack,
        "SELECT job.hostname FROM task_instance"
        " JOIN trigger ON trigger.id = task_instance.trigger_id"
        " JOIN job ON job.id = trigger.triggerer_id"
        " WHERE task_instance.run_id = %s AND task_instance.task_id = %s",
        run_id,
        task_id,
    )
    return str(found[0][0]) if found else None


def worker_of(stack: TeamStack, run_id: str, task_id: str) -> str | None:
    """Find the worker on which a task runs now."""
    found = ask(
        stack,
        "SELECT hostname FROM task_instance"
        " WHERE run_id = %s AND task_id = %s AND state = 'running'",
        run_id,
        task_id,
    )
    return str(found[0][0]) if found and found[0][0] else None
