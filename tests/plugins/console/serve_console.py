"""Serve Airflow's UI with the console over a stored night, until standard input ends.

It prints a token of an administrator when it answers. Airflow reads `[api] base_url` when it is
imported, so a test of a base path needs a process of its own.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.plugins.console.stored_console import NOW, add_runs, opened_app, token_of, write_bucket
from tests.plugins.fake_ec2 import FakeEc2

AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
NAME = "cartpole_ppo"
#: The beginning of the line with the token.
ANSWERS = "token: "


def main(port: int) -> None:
    """Serve on a port of the loopback address."""
    import uvicorn

    with tempfile.TemporaryDirectory() as folder:
        store = write_bucket(Path(folder), NAME)
        with opened_app(AUTH_MANAGER, store, FakeEc2(lambda: NOW)) as app:
            add_runs(f"retrain_{NAME}", "night-1", "night-2", "night-3")
            server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.05)
            sys.stdout.write(f"\n{ANSWERS}{token_of('admin')}\n")
            sys.stdout.flush()
            sys.stdin.read()
            server.should_exit = True
            thread.join(10)


if __name__ == "__main__":
    main(int(sys.argv[1]))
