"""A failing step ends with the reason and the next command; a hanging step is killed."""

import os
import sys

import pytest

from laptop import airflow, ui
from laptop.errors import StepFailedError


def test_a_failing_command_is_quoted() -> None:
    """The error quotes the line that names the cause, not the last line of the log."""
    code = (
        "print('fine'); print('ValueError: the reason'); print('cleaning up'); raise SystemExit(3)"
    )
    with pytest.raises(StepFailedError, match=r"step failed: the reason\n  next: less "):
        airflow.run([sys.executable, "-c", code], os.environ, step="step", log_name="x.log")


def test_lines_are_passed_on_at_once_and_kept_in_the_log() -> None:
    """Output is shown line by line and stays whole in the log."""
    seen: list[str] = []
    log = airflow.run(
        [sys.executable, "-c", "print('one'); print('two')"],
        os.environ,
        step="s",
        log_name="x.log",
        on_line=seen.append,
    )
    assert seen == ["one", "two"]
    assert log.read_text() == "one\ntwo\n"


def test_a_command_that_hangs_is_killed_at_its_deadline() -> None:
    """A command is killed at its deadline."""
    with pytest.raises(StepFailedError):
        airflow.run(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            os.environ,
            step="s",
            log_name="x.log",
            deadline_s=0.5,
        )


def test_it_is_said_what_happens_while_airflow_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its start takes minutes on a slow computer."""

    class Started(Exception):
        pass

    def start(port: int) -> None:
        raise Started

    said: list[str] = []
    monkeypatch.setattr(ui.local_account, "call", lambda what: said.append(f"called {what}"))
    monkeypatch.setattr(ui.demo, "bootstrap", lambda say: say("bootstrapped"))
    monkeypatch.setattr(ui, "running", start)
    with pytest.raises(Started):
        ui.serve(0, said.append)
    assert said[:3] == ["starting the local AWS", "called up", "bootstrapped"]
    assert said[3].startswith("starting Airflow")
    assert said[4].endswith("airflow-ui.log")


def test_a_port_in_use_is_reported_in_one_line() -> None:
    """A port that another Airflow may use is reported in one line."""
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StepFailedError, match="is taken"), ui.running(other.getsockname()[1]):
            pass
