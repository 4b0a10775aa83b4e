"""Starts, finds and stops the server process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from local_aws.errors import (
    EnvironmentMissingError,
    LocalAwsError,
    PortTakenError,
    StartFailedError,
)
from local_aws.machines.processes import MARK, is_zombie, kill_marked, send
from local_aws.state_folder import ROOT, Running, StateFolder

READY_WITHIN_S = 120.0
"""A quiet laptop needs 1.5 s. A busy one is waited for, and a server that ended is noticed."""
STOP_WITHIN_S = 8.0
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "LOCAL_AWS_CHECK_ANSWERS")


@dataclass(frozen=True)
class Options:
    """The options of a new server.

    :param port: a fixed loopback port. None means the last port again, or any free port.
    :param ami: the environment whose `bin` is first on every instance's PATH.
    :param pace: a name in :data:`local_aws.pace.PACES`.
    :param seed: decides for how long calls do not find each new instance.
    :param instance_types: a table of types to offer beside those of the catalogue, see
        :func:`local_aws.ec2.catalog.read_types`. It is copied into the state folder. None means
        the copy that the last start made.
    :param environment: the server's own virtual environment.
    """

    port: int | None
    region: str
    ami: Path
    pace: str = "fast"
    seed: int = 0
    instance_types: Path | None = None
    environment: Path = ROOT / ".venv-aws"


def start(state: StateFolder, options: Options) -> tuple[Running, bool]:
    """Start the server, or find the server that already runs.

    :return: the server, and whether this call started it.
    :raises PortTakenError: if another process uses the fixed port.
    :raises StartFailedError: if the server is not ready within :data:`READY_WITHIN_S`, with the end
        of its log, or if it already runs on another port.
    """
    state.prepare()
    with state.starting():
        if running := state.find_running():
            if options.port is not None and options.port != running.port:
                raise _refuse_port(options.port, running)
            return running, False

        _clear_after_crash(state)
        if options.port and _is_taken(options.port):
            raise PortTakenError(options.port)
        return _wait_until_ready(state, _spawn(state, options)), True


def _refuse_port(port: int, running: Running) -> LocalAwsError:
    """Return why a running server cannot use another fixed port."""
    if _is_taken(port):
        return PortTakenError(port)
    return StartFailedError(
        f"a local AWS of this state folder already runs on port {running.port}: "
        "stop it with `python -m local_aws down`, or leave out --port"
    )


def _clear_after_crash(state: StateFolder) -> None:
    """End the processes that a killed server may have left."""
    if left := state.last_known():
        kill_marked(MARK, left.process_mark)


def _is_taken(port: int) -> bool:
    """Say whether a process listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _spawn(state: StateFolder, options: Options) -> subprocess.Popen[bytes]:
    """Start the server in its own session; it inherits only :data:`KEPT_VARIABLES` from this
    process.
    """
    python = options.environment / "bin" / "python"
    if not python.exists():
        raise EnvironmentMissingError(
            f"the local AWS has no environment at {options.environment}: run `make setup`"
        )
    last = state.last_known()
    arguments = ["--state", str(state.path), "--region", options.region, "--ami", str(options.ami)]
    arguments += ["--pace", options.pace, "--seed", str(options.seed)]
    arguments += (
        ["--port", str(options.port)]
        if options.port
        else ["--prefer-port", str(last.port if last else 0)]
    )

    environ = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "HOME": str(state.path),
        "TMPDIR": str(state.scratch),
        "PYTHONUNBUFFERED": "1",
    }

    if options.instance_types:
        shutil.copyfile(options.instance_types, state.instance_types_file)
    state.server_file.unlink(missing_ok=True)
    with state.log_file.open("wb") as log:
        return subprocess.Popen(
            [str(python), "-m", "local_aws.server", *arguments],
            cwd=state.path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_ready(state: StateFolder, process: subprocess.Popen[bytes]) -> Running:
    """Wait until this process announces itself as ready.

    :raises StartFailedError: if the process ends, or is not ready in time.
    """
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        running = state.last_known()
        if running and running.pid == process.pid:
            return running
        if process.poll() is not None:
            raise StartFailedError(
                f"the local AWS ended with exit code {process.returncode}: {_last_words(state)}"
            )
        time.sleep(0.02)
    process.kill()
    raise StartFailedError(
        f"the local AWS was not ready after {READY_WITHIN_S:.0f} s: {_last_words(state)}"
    )


def _last_words(state: StateFolder, lines: int = 3) -> str:
    """Return the end of the server's log in one line, with the path of the log."""
    try:
        text = state.log_file.read_text(errors="replace").strip().splitlines()[-lines:]
    except OSError:
        text = []
    return (
        f"{' | '.join(line.strip() for line in text) or 'its log is empty'} (log: {state.log_file})"
    )


def stop(state: StateFolder) -> Running | None:
    """Stop the server and every process that it started. The saved state stays in the folder.

    :return: the server that was running, or None if none was running.
    """
    if not state.path.exists():
        return None
    with state.starting():
        running, known = state.find_running(), state.last_known()
        if running:
            send([running.pid], signal.SIGTERM)
            if not _is_released(state, STOP_WITHIN_S):
                send([running.pid], signal.SIGKILL)
                _is_released(state, STOP_WITHIN_S)
        if known:
            kill_marked(MARK, known.process_mark)
        return running


def _is_released(state: StateFolder, within_s: float) -> bool:
    """Wait until the server has released its folder and its process has ended.

    :return: whether this happened within the time.
    """
    known = state.last_known()
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not state.is_owned() and (known is None or is_zombie(known.pid)):
            return True
        time.sleep(0.02)
    return False


def await_release(state: StateFolder) -> None:
    """Wait until a killed server has released its folder.

    :raises StartFailedError: if it does not release the folder in time.
    """
    if not _is_released(state, STOP_WITHIN_S):
        raise StartFailedError(f"the killed local AWS still owns {state.path}")
