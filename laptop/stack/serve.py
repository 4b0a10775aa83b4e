"""`make stack`: a team's Airflow on this machine, until Ctrl-C."""

from collections.abc import Callable

from laptop.stack.team import TeamStack


def serve(say: Callable[[str], None]) -> None:
    """Start the stack, print the URL and the login, and restart what exits until interrupted."""
    with TeamStack(say) as stack:
        say(f"Airflow at {stack.url}\n  login: admin\n  password: {stack.password}")
        for name in stack.supervisor.names():
            say(f"  {stack.supervisor.pid(name) or 'stopped'}\t{name}")
        say(f"  logs: {stack.logs}\n  stop it with Ctrl-C")
        stack.supervisor.wait()
