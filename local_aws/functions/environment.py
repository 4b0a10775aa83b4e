"""One execution environment of a function: a process that serves its invocations one by one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local_aws.machines.bounds import TEMPLATE
from local_aws.machines.reaper import Reaper

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
INIT_LIMIT_S = 10.0
"""https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html"""
LOG_LIMIT = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Launch:
    """The program, paths, variables and limits of an environment's process.

    :param code: the folder of the unpacked zip.
    :param paths: the places from which the handler can import besides the standard library, in
        order.
    """

    interpreter: str
    code: Path
    paths: list[str]
    variables: Mapping[str, str]
    timeout_s: float
    memory_mib: int


@dataclass(frozen=True)
class InvocationOutcome:
    """The outcome of an invocation.

    :param payload: the handler's result as JSON text, or None.
    :param error: Lambda's error object, or None.
    :param init_s: seconds from the start of the process until the handler was loaded; None if it
        was loaded before.
    :param peak_mib: the largest measured memory.
    :param is_usable: whether the environment can serve another invocation.
    """

    payload: str | None
    error: dict[str, Any] | None
    log: str
    duration_s: float
    init_s: float | None
    peak_mib: int
    is_usable: bool


class Environment:
    """A running process that serves one invocation at a time."""

    def __init__(self, launch: Launch, reaper: Reaper) -> None:
        self._launch = launch
        self._reaper = reaper
        self._log: list[bytes] = []
        self._peak_mib = 0
        self._killed_for_memory = False
        self._timed_out = False
        self.started_at = time.monotonic()
        self._init_s: float | None = None
        self._start()

    def _start(self) -> None:
        """Start the process. It loads the handler at once."""
        request_read, request_write = os.pipe()
        response_read, response_write = os.pipe()
        command = [
            self._launch.interpreter,
            "-I",
            "-S",
            str(BOOTSTRAP),
            str(request_read),
            str(response_write),
        ]
        environ = {
            **self._launch.variables,
            "LOCAL_AWS_PATHS": json.dumps(self._launch.paths),
            "LOCAL_AWS_GUARD": str(TEMPLATE),
        }
        try:
            self._process = subprocess.Popen(
                command,
                cwd=self._launch.code,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_read, response_write),
                start_new_session=True,
            )
        finally:
            os.close(request_read)
            os.close(response_write)
        self._requests = os.fdopen(request_write, "wb")
        self._responses = os.fdopen(response_read, "rb", buffering=0)
        self._reaper.watch(self._process.pid)
        self._reader = threading.Thread(
            target=self._collect_log, args=[self._process.stdout], daemon=True, name="function-log"
        )
        self._reader.start()

    def _collect_log(self, stream: IO[bytes]) -> None:
        """Keep the handler's output, up to a limit."""
        kept = 0
        while chunk := os.read(stream.fileno(), 65536):
            if kept < LOG_LIMIT:
                self._log.append(chunk)
                kept += len(chunk)

    def invoke(
        self, event: Any, request_id: str, arn: str, tenant: str | None = None
    ) -> InvocationOutcome:
        """Run the handler once, within its limits of time and memory."""
        self._killed_for_memory, self._peak_mib = False, 0
        fresh = self._init_s is None
        error = self._await_init(request_id) if fresh else None
        began = time.monotonic()
        payload = None
        if error is None:
            payload, error = self._run(event, request_id, arn, tenant)
        usable = self._process.poll() is None and self._init_s is not None and not _is_fatal(error)
        return InvocationOutcome(
            payload,
            error,
            self._take_log(),
            time.monotonic() - began,
            self._init_s if fresh else None,
            self._peak_mib,
            usable,
        )

    def _await_init(self, request_id: str) -> dict[str, Any] | None:
        """Wait until the handler is loaded; return the error if it cannot be loaded."""
        answer = self._receive(INIT_LIMIT_S + self._launch.timeout_s)
        if answer is None:
            return self._explain(request_id, INIT_LIMIT_S)
        self._init_s = time.monotonic() - self.started_at
        error: dict[str, Any] | None = answer["error"]
        return error

    def _run(
        self, event: Any, request_id: str, arn: str, tenant: str | None
    ) -> tuple[str | None, dict[str, Any] | None]:
        """Send one request and wait for its answer."""
        message = json.dumps(
            {
                "event": event,
                "request_id": request_id,
                "arn": arn,
                "timeout_s": self._launch.timeout_s,
                "tenant": tenant,
            }
        ).encode()
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(struct.pack(">I", len(message)) + message)
            self._requests.flush()
        answer = self._receive(self._launch.timeout_s)
        if answer is None:
            return None, self._explain(request_id, self._launch.timeout_s)
        return answer.get("result"), answer.get("error")

    def _receive(self, within_s: float) -> dict[str, Any] | None:
        """Return the next message.

        :return: None if the process ended, used too much memory or ran out of time. It is then
            killed.
        """
        head = self._read_exactly(4, end := time.monotonic() + within_s)
        body = self._read_exactly(struct.unpack(">I", head)[0], end) if head else None
        if body is None:
            self.kill()
            return None
        return dict(json.loads(body))

    def _read_exactly(self, count: int, end: float) -> bytes | None:
        """Read a number of bytes before a time, and watch the memory meanwhile.

        :return: None at the end of the pipe, after the time, or if the process uses too much
            memory.
        """
        data = b""
        while len(data) < count:
            ready, _, _ = select.select(
                [self._responses], [], [], max(0.0, min(0.05, end - time.monotonic()))
            )
            if ready:
                chunk = os.read(self._responses.fileno(), count - len(data))
                if not chunk:
                    return None
                data += chunk
            elif time.monotonic() >= end or self._uses_too_much():
                return None
        self._uses_too_much()
        return data

    def _uses_too_much(self) -> bool:
        """Measure the resident memory and say whether it exceeds the limit (on Linux only)."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
            self._peak_mib = max(self._peak_mib, pages * PAGE >> 20)
        self._killed_for_memory = self._peak_mib > self._launch.memory_mib
        return self._killed_for_memory

    def _explain(self, request_id: str, limit_s: float) -> dict[str, Any]:
        """Return Lambda's error for a process that was killed or ended by itself."""
        status = self._process.wait(timeout=5)
        if self._killed_for_memory:
            return exit_error(request_id, "signal: killed")
        if self._timed_out:
            return {
                "errorType": "Sandbox.Timedout",
                "errorMessage": (
                    f"RequestId: {request_id} Error: Task timed out after {limit_s:.2f} seconds"
                ),
            }
        return exit_error(
            request_id,
            f"signal: {signal.Signals(-status).name.removeprefix('SIG').lower()}"
            if status < 0
            else f"exit status {status}",
        )

    def _take_log(self) -> str:
        """Return the output since the last call."""
        if self._process.poll() is not None:
            self._reader.join(timeout=1)
        else:
            time.sleep(0.002)  # gives the reader time for the output that came before the answer
        chunks, self._log = self._log, []
        return b"".join(chunks).decode(errors="replace")

    def kill(self) -> None:
        """End the process and every process that it started."""
        self._timed_out = self._process.poll() is None and not self._ended_by_itself()
        self._signal(signal.SIGKILL)
        self._process.wait(timeout=5)
        self._reaper.forget(self._process.pid)

    def _ended_by_itself(self) -> bool:
        """Say whether the process has ended. If its pipe is closed, wait a moment for its end."""
        ready, _, _ = select.select([self._responses], [], [], 0)
        if not ready:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.5)
        return self._process.poll() is not None

    def freeze(self) -> None:
        """Stop the processes until :meth:`thaw`, as Lambda does between two invocations.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
        """
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes continue."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and every process that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def is_alive(self) -> bool:
        """Say whether the process can serve another invocation."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and close its pipes."""
        self.kill()
        for stream in (self._requests, self._responses):
            with contextlib.suppress(OSError):
                stream.close()


def exit_error(request_id: str, how: str) -> dict[str, Any]:
    """Return Lambda's error for a runtime that ended."""
    return {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited with error: {how}",
    }


def _is_fatal(error: dict[str, Any] | None) -> bool:
    """Say whether the environment cannot be used after an error."""
    return error is not None and error["errorType"] in ("Runtime.ExitError", "Sandbox.Timedout")
