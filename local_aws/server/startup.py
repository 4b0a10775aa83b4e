"""Starts the server and runs it until SIGTERM.

:mod:`local_aws.commands.server_process` starts it with `python -m local_aws.server`; do not start
it by hand. The server binds a loopback port, loads the emulator with the replaced parts, restores
the last state, creates the account's first roles and announces itself. SIGTERM ends the server and
every process that it started. After SIGKILL, its reaper ends those processes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from local_aws.ec2 import catalog
from local_aws.server import overwrites
from local_aws.state_folder import Running, StateFolder

ACCOUNT_ID = "123456789012"
log = logging.getLogger("local_aws")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(prog="python -m local_aws.server")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--ami", type=Path, required=True)
    parser.add_argument("--pace", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--prefer-port", type=int, default=0)
    return parser.parse_args(argv)


def bind(port: int | None, preferred: int) -> socket.socket:
    """Return a socket that listens on loopback.

    :param port: the fixed port; None for the preferred port, or any port if that one is taken.
    :raises SystemExit: if the fixed port is taken.
    """
    for candidate in (port,) if port else (preferred, 0):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", candidate or 0))
        except OSError:
            bound.close()
            continue
        bound.listen(512)
        return bound
    raise SystemExit(f"port {port} is taken")


def configure_emulator(state: StateFolder, port: int, region: str) -> None:
    """Set the environment variables that the emulator reads at its import.

    Call this before the first import of the emulator.
    """
    os.environ.update(
        {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": region,
            "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
            "AUTH": "true",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(state.emulator),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(state.objects),
            "DOCKER_HOST": "unix:///nonexistent",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_DEFAULT_REGION": region,
        }
    )


async def serve(listening: socket.socket, app: object) -> None:
    """Serve requests until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = importlib.import_module("hypercorn.config").Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.loglevel, config.keep_alive_timeout, config.graceful_timeout = "WARNING", 75.0, 0.5
    config.h11_max_incomplete_size = 1 << 20
    await importlib.import_module("hypercorn.asyncio").serve(
        app, config, shutdown_trigger=stop.wait
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server and return its exit status."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    log.setLevel(logging.INFO)
    arguments = parse(argv)
    state = StateFolder(arguments.state)
    state.prepare()

    owned = state.own()
    if owned is None:
        raise SystemExit(f"another server owns {state.path}")
    if undone := overwrites.recover(state.objects):
        log.warning(
            "undid %d writes of objects that a crash interrupted; their callers got no answer",
            undone,
        )
    if state.instance_types_file.exists():
        catalog.add_types(state.instance_types_file)

    listening = bind(arguments.port, arguments.prefer_port)
    port = int(listening.getsockname()[1])
    configure_emulator(state, port, arguments.region)
    endpoint = f"http://127.0.0.1:{port}"
    running = Running(
        pid=os.getpid(),
        port=port,
        endpoint_url=endpoint,
        account_id=ACCOUNT_ID,
        region=arguments.region,
        process_mark=secrets.token_hex(8),
        control_token=secrets.token_urlsafe(24),
    )
    # This imports the emulator, which reads the environment variables that are set above.
    from local_aws.server.local_account import LocalAccount

    account = LocalAccount(state, running, arguments.ami, arguments.pace, arguments.seed)
    try:
        asyncio.run(serve(listening, account.app))
    finally:
        account.close()
        owned.close()
    return 0
