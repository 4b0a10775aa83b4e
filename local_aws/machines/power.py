"""`shutdown`, `poweroff` and `halt` in an instance: small scripts that need no root.

They call the server. The user data's dead-man timer is `shutdown -h +MINUTES`. It must end the
instance even if every process in the instance hangs.
"""

from __future__ import annotations

import datetime as dt
import os
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SHIM = """#!/bin/sh
# Sends the command to the local AWS, which acts as the machine's init system.
printf '%s' "${0##*/}" > "$LOCAL_AWS_POWER.$$"
for word in "$@"; do printf ' %s' "$word" | tr '\\n' ' ' >> "$LOCAL_AWS_POWER.$$"; done
printf '\\n' >> "$LOCAL_AWS_POWER.$$"
cat "$LOCAL_AWS_POWER.$$" > "$LOCAL_AWS_POWER"; rm -f "$LOCAL_AWS_POWER.$$"
"""
COMMANDS = ("shutdown", "poweroff", "halt", "reboot")


@dataclass(frozen=True)
class PowerRequest:
    """The request of a power command.

    :param verb: `off`, `reboot`, `cancel`, or `bad` for a line that `shutdown` would refuse.
    :param delay_s: seconds until it happens.
    """

    verb: str
    delay_s: float = 0.0


def read_order(line: str, at: dt.datetime) -> PowerRequest:
    """Parse a command line as shutdown(8) does.

    >>> now = dt.datetime(2026, 1, 1, 12, 0)
    >>> read_order("shutdown -h +2", now)
    PowerRequest(verb='off', delay_s=120.0)
    >>> read_order("shutdown -c", now).verb, read_order("shutdown -h 12:30 bye", now).delay_s
    ('cancel', 1800.0)
    """
    try:
        command, *words = shlex.split(line)
    except ValueError:
        return PowerRequest("bad")
    if command != "shutdown":
        return PowerRequest("reboot" if command == "reboot" or "--reboot" in words else "off")
    options = [word for word in words if word.startswith("-")]
    rest = [word for word in words if not word.startswith("-")]
    if "-c" in options:
        return PowerRequest("cancel")
    delay_s = _delay(rest[0] if rest else "+1", at)
    return (
        PowerRequest("bad")
        if delay_s is None
        else PowerRequest("reboot" if {"-r", "--reboot"} & set(options) else "off", delay_s)
    )


def _delay(text: str, at: dt.datetime) -> float | None:
    """Return the delay in seconds for `now`, `+m` or `hh:mm`; None for any other text."""
    if text == "now":
        return 0.0
    minutes = text.removeprefix("+")
    if minutes.isdigit():
        return int(minutes) * 60.0
    try:
        then = at.replace(hour=int(text[:-3]), minute=int(text[-2:]), second=0, microsecond=0)
    except ValueError:
        return None
    return (then - at).total_seconds() % 86400 if text[-3] == ":" else None


class PowerButton:
    """Receives the power commands of an instance and keeps its scheduled shutdown."""

    def __init__(self, folder: Path, say: Callable[[str], None], off: Callable[[], None]) -> None:
        self.fifo = folder / "power"
        self._say = say
        self._off = off
        self._timer: threading.Timer | None = None
        os.mkfifo(self.fifo, 0o600)
        self._write_shims(folder / "bin")
        # Opened for reading and writing, so that the reader never sees the end of file.
        self._descriptor = os.open(self.fifo, os.O_RDWR)
        threading.Thread(target=self._listen, daemon=True, name="power").start()

    def _write_shims(self, folder: Path) -> None:
        """Write the power commands into the folder that comes first on PATH."""
        folder.mkdir(parents=True)
        for name in COMMANDS:
            (folder / name).write_text(SHIM)
            (folder / name).chmod(0o755)

    def _listen(self) -> None:
        """Carry out each line until the closing line."""
        with os.fdopen(self._descriptor, "r") as lines:
            for line in lines:
                if line.strip() == "close":
                    return
                self._obey(line.strip())

    def _obey(self, line: str) -> None:
        """Carry out one command line."""
        order = read_order(line, dt.datetime.now().astimezone())
        if order.verb == "bad":
            return self._say(f"{line}: not understood")
        self._cancel()
        if order.verb == "cancel":
            return self._say("the scheduled shutdown was cancelled")
        if order.verb == "reboot":
            return self._say(f"{line}: a reboot is not emulated, the instance continues")
        if order.delay_s:
            self._say(f"shutdown scheduled in {order.delay_s / 60:g} min")
            self._timer = threading.Timer(order.delay_s, self._off)
            self._timer.daemon = True
            return self._timer.start()
        return self._off()

    def _cancel(self) -> None:
        """Cancel the scheduled shutdown."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop listening, and cancel the scheduled shutdown."""
        self._cancel()
        try:
            descriptor = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        with os.fdopen(descriptor, "w") as line:
            line.write("close\n")
