"""A machine that ended before it could report is explained from its console."""

from __future__ import annotations

import pytest

from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.trials.actions import Action, ActionKind
from rl_lifecycle.trials.boot_faults import LONGEST_MESSAGE, find_boot_fault
from rl_lifecycle.trials.states import TrialState
from tests.plugins.fake_ec2 import error
from tests.plugins.worlds import World

SHUT_DOWN = "Client.InstanceInitiatedShutdown"


@pytest.fixture
def world() -> World:
    """A world without events."""
    return World()


def end_in_silence(
    world: World, console: str, code: str = SHUT_DOWN, console_after: int = 0
) -> Action:
    """Launch a machine, end it before its first heartbeat, and look until something waits."""
    world.look()
    (machine,) = world.machines_of()
    world.ec2.machines[machine].console = console
    world.ec2.machines[machine].console_after = console_after
    world.ec2.end(machine, code)
    return world.look()[0]


def ends_of(world: World) -> list[str]:
    """Return the reason of each attempt's end."""
    return [stored.attempt.outcome.reason for stored in world.supervisor().attempts.read()]


def said(kind: str, message: str = "what happened") -> str:
    """Return a console on which the start script gave up."""
    return (
        "[    3.1] Linux version 6.17\r\n"
        f"[   21.4] cloud-init[1021]: 02:00:07 nightshift: cannot start ({kind}): {message}\r\n"
        "[   21.5] cloud-init[1021]: 02:00:07 nightshift: ends with exit status 3 after 4 s\r\n"
    )


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        ("no_python", "docs/machine-images.md"),
        ("no_tags", "run `drift`, then `deploy`"),
        ("no_route", "run `drift`, then `deploy`"),
        ("code", "what happened; read the traceback"),
    ],
)
def test_a_fault_that_would_repeat_rents_no_second_machine(
    world: World, kind: str, fix: str
) -> None:
    """The trial fails after one machine, and message and record say why and what to do."""
    action = end_in_silence(world, said(kind))
    assert (action.kind, action.finding.state) == (ActionKind.FAIL, TrialState.FAILED)
    assert f"could not start ({kind}): what happened" in action.finding.reason
    assert fix in action.finding.reason
    assert len(world.ec2.machines) == 1
    (stored,) = world.supervisor().attempts.read()
    assert stored.attempt.outcome.end is AttemptEnd.CODE_FAILED
    assert f"could not start ({kind}): what happened" in stored.attempt.outcome.reason


def test_a_metadata_service_that_failed_for_a_while_costs_one_machine(world: World) -> None:
    """The metadata service may answer the next machine, so another one is launched."""
    assert end_in_silence(world, said("no_metadata")).kind is ActionKind.WAIT
    assert ends_of(world)[0].endswith("could not start (no_metadata): what happened")
    assert len(world.ec2.machines) == 2


def test_a_machine_that_trained_shows_that_there_is_a_route(world: World) -> None:
    """After a machine that reached the bucket, a machine that does not is replaced."""
    world.look()
    world.beat(step=5000)
    world.look()
    (first,) = world.machines_of()
    world.ec2.end(first, "Server.SpotInstanceTermination")
    world.look()
    assert end_in_silence(world, said("no_route")).kind is ActionKind.WAIT
    assert ends_of(world)[1].endswith("could not start (no_route): what happened")
    assert len(world.ec2.machines) == 3


def test_the_console_is_waited_for_because_ec2_posts_it_late(world: World) -> None:
    """EC2 has the console only shortly after the end, so the read is repeated for a while."""
    action = end_in_silence(world, said("no_tags"), console_after=3)
    assert action.kind is ActionKind.FAIL
    assert world.ec2.calls.count("GetConsoleOutput") == 4


def test_an_older_type_has_the_console_in_one_form_alone(world: World) -> None:
    """Without Nitro there is no `Latest`. It is tried once."""
    world.look()
    (machine,) = world.machines_of()
    world.ec2.machines[machine].nitro = False
    world.ec2.machines[machine].console = said("no_tags")
    world.ec2.machines[machine].console_after = 2
    world.ec2.end(machine, SHUT_DOWN)
    assert world.look()[0].kind is ActionKind.FAIL
    assert world.ec2.calls.count("GetConsoleOutput") == 4


@pytest.mark.parametrize("code", ["Server.SpotInstanceTermination", "Client.UserInitiatedShutdown"])
def test_a_machine_that_others_ended_is_not_asked(world: World, code: str) -> None:
    """The console is read only if the machine shut itself down without a report."""
    assert end_in_silence(world, said("no_tags"), code).kind is ActionKind.WAIT
    assert "GetConsoleOutput" not in world.ec2.calls


def test_a_machine_that_reported_is_not_asked(world: World) -> None:
    """A heartbeat says more than the console, so the console is not read."""
    world.look()
    world.beat("failed", cause="code", message="an import failed")
    (machine,) = world.machines_of()
    world.ec2.end(machine, SHUT_DOWN)
    world.look()
    assert "GetConsoleOutput" not in world.ec2.calls


def test_without_the_permission_the_trial_goes_on_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity stack of an earlier version may refuse the call. Then nothing is explained."""

    def refuse(**_request: object) -> None:
        raise error("UnauthorizedOperation", "no", "GetConsoleOutput")

    monkeypatch.setattr(world.ec2, "get_console_output", refuse)
    assert end_in_silence(world, said("no_tags")).kind is ActionKind.WAIT
    ended = world.supervisor().attempts.read()[0].attempt.outcome
    assert ended.end is AttemptEnd.MACHINE_LOST
    assert "could not start" not in ended.reason


def test_what_a_console_says_is_shortened_and_readable() -> None:
    """The last line counts. Control characters are left out, and the message has a limit."""
    fault = find_boot_fault(said("no_python") + said("no_tags", "\x1b[31m" + "x" * 9000))
    assert fault is not None
    assert fault.kind == "no_tags"
    assert fault.message.startswith("[31mxxx")
    assert len(fault.message) == LONGEST_MESSAGE
    assert find_boot_fault("login: ") is None
