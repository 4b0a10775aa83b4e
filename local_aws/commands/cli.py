"""`python -m local_aws up|down|status|env|permissions|fault`: a local AWS account.

Every command takes `--json` (one object on stdout, progress on stderr) and `--state DIR`. The exit
status is 0 for success and 2 for bad input or a missing server. In the second case one line on
stderr says what to do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from local_aws.commands import environment, server_process
from local_aws.commands import faults as faults_cli
from local_aws.commands.control import ask
from local_aws.ec2.catalog import read_types
from local_aws.errors import LocalAwsError, NotRunningError
from local_aws.pace import PACES
from local_aws.state_folder import ROOT, Running, StateFolder

Answer = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = build_parser().parse_args(argv)
    command: Callable[[argparse.Namespace], Answer] = arguments.command
    try:
        answer = command(arguments)
    except LocalAwsError as error:
        sys.stderr.write(f"local_aws: {error}\n")
        return 2
    show: Callable[[Answer], str] = arguments.show
    sys.stdout.write(f"{json.dumps(answer) if arguments.json else show(answer)}\n")
    return 0


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose error message is one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit with status 2."""
        self.exit(2, f"local_aws: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(prog="python -m local_aws", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = _add(
        commands, "up", run_up, show_up, "start the server, or find the server that already runs"
    )
    up.add_argument(
        "--port", type=_port, help="a fixed loopback port (default: the last one, or any free one)"
    )
    up.add_argument(
        "--region", default="eu-west-1", help="the account's region (default: %(default)s)"
    )
    up.add_argument(
        "--ami",
        type=Path,
        default=ROOT / ".venv-ami",
        help="the environment that stands for the machine image (default: .venv-ami)",
    )
    up.add_argument(
        "--pace",
        choices=sorted(PACES),
        default="fast",
        help="how slow AWS's work is; steady is fast without any lag (default: fast)",
    )
    up.add_argument(
        "--seed",
        type=int,
        default=0,
        help="decides for how long each new instance is not found (default: %(default)s)",
    )
    up.add_argument(
        "--instance-types",
        metavar="FILE",
        type=Path,
        default=ROOT / "lifecycle/rl_lifecycle/machines/instance_types.json",
        help="a table of instance types to add to the catalogue (default: the pipeline's table)",
    )
    _add(
        commands,
        "down",
        run_down,
        show_down,
        "stop the server and every process it started; the saved state stays",
    )
    _add(
        commands,
        "status",
        run_status,
        show_status,
        "what runs, and what tried to leave this machine",
    )
    env = _add(
        commands, "env", run_env, show_env, "shell lines that make AWS clients use the local AWS"
    )
    env.add_argument(
        "--as",
        dest="role",
        metavar="ROLE",
        help="a role's name, or launcher, promoter, … (default: the Airflow worker's role)",
    )
    env.add_argument(
        "--environment",
        default="dev",
        metavar="NAME",
        help="the environment that short role names belong to (default: %(default)s)",
    )
    permissions = _add(
        commands,
        "permissions",
        run_permissions,
        show_permissions,
        "each role's permissions, and those that it has not used since the server's start",
    )
    permissions.add_argument(
        "--role", metavar="PATTERN", help="only roles whose names match, such as 'nightshift-dev-*'"
    )
    fault = _add(
        commands,
        "fault",
        run_fault,
        faults_cli.show,
        "break something on purpose, and repair it again",
    )
    faults_cli.add_arguments(fault)
    return parser


def _add(commands: Any, name: str, run: Any, show: Any, text: str) -> argparse.ArgumentParser:
    """Add one command with the options that all commands share."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--state", metavar="DIR", help="the state folder (default: .nightshift/local_aws)"
    )
    parser.set_defaults(command=run, show=show)
    return parser


def _port(text: str) -> int:
    """Parse a port that a user may bind."""
    if not text.isdigit() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1024 to 65535")
    return int(text)


def get_running(arguments: argparse.Namespace) -> tuple[StateFolder, Running]:
    """Return the state folder and the server that runs for it.

    :raises NotRunningError: if no server runs.
    """
    state = StateFolder.resolve(arguments.state)
    running = state.find_running()
    if running is None:
        raise NotRunningError(
            f"no local AWS runs for {state.path}; start it with `python -m local_aws up`"
        )
    return state, running


def run_up(arguments: argparse.Namespace) -> Answer:
    """Start the server, unless it already runs."""
    state = StateFolder.resolve(arguments.state)
    read_types(arguments.instance_types)
    options = server_process.Options(
        arguments.port,
        arguments.region,
        arguments.ami.absolute(),
        arguments.pace,
        arguments.seed,
        arguments.instance_types,
    )
    running, started = server_process.start(state, options)
    return {
        "endpoint_url": running.endpoint_url,
        "pid": running.pid,
        "state": str(state.path),
        "account_id": running.account_id,
        "region": running.region,
        "started": started,
    }


def show_up(answer: Answer) -> str:
    """Report the server's address and the next command."""
    what = "started" if answer["started"] else "already running"
    return (
        f"local AWS {what} at {answer['endpoint_url']} ({answer['region']}); use it: eval "
        '"$(python -m local_aws env)"'
    )


def run_down(arguments: argparse.Namespace) -> Answer:
    """Stop the server and every process that it started."""
    state = StateFolder.resolve(arguments.state)
    stopped = server_process.stop(state)
    return {
        "stopped": stopped is not None,
        "pid": stopped.pid if stopped else None,
        "state": str(state.path),
    }


def show_down(answer: Answer) -> str:
    """Report whether a server was stopped."""
    return (
        f"local AWS stopped (its state stays in {answer['state']})"
        if answer["stopped"]
        else "no local AWS was running"
    )


def run_status(arguments: argparse.Namespace) -> Answer:
    """Report the server, its machines, functions and faults, and attempts to leave this machine."""
    state = StateFolder.resolve(arguments.state)
    running = state.find_running()
    if running is None:
        return {"running": False, "state": str(state.path)}
    return {
        "running": True,
        "state": str(state.path),
        "endpoint_url": running.endpoint_url,
        "pid": running.pid,
        "account_id": running.account_id,
        "region": running.region,
        **ask(running, "status"),
    }


def show_status(answer: Answer) -> str:
    """Format the status for people."""
    if not answer["running"]:
        return f"no local AWS runs for {answer['state']}"
    lines = [f"local AWS at {answer['endpoint_url']} (pid {answer['pid']}, {answer['region']})"]
    lines += [
        f"  instance {i['instance_id']} {i['state']:<13} {i['instance_type']} {i['name']}".rstrip()
        for i in answer["instances"]
    ]
    lines += [f"  fault {f['id']} {f['kind']}" for f in answer["faults"]]
    lines += [
        f"  OUT OF BOUNDS {o['who']} ({o['program']}) tried {o['address']}"
        for o in answer["out_of_bounds"]
    ]
    lines.append(f"  Lambda runtimes here: {', '.join(answer['lambda_runtimes']) or 'none'}")
    return "\n".join(lines)


def run_env(arguments: argparse.Namespace) -> Answer:
    """Return the environment variables with which AWS clients act as a role."""
    _, running = get_running(arguments)
    role = environment.role_name(arguments.role, arguments.environment)
    return environment.as_object(environment.variables(running, role))


def show_env(answer: Answer) -> str:
    """Format the variables as lines that a shell evaluates."""
    return environment.as_shell(answer["set"])


def run_permissions(arguments: argparse.Namespace) -> Answer:
    """Compare the actions that each role's policies allow with the actions it has used."""
    _, running = get_running(arguments)
    return ask(running, "permissions", {"role": arguments.role})


def show_permissions(answer: Answer) -> str:
    """Format the comparison for people, role by role."""
    lines = []
    for name, role in answer["roles"].items():
        lines.append(
            f"{name}: used {len(role['used'])} actions in {sum(role['used'].values())} calls"
        )
        lines += [f"  never used: {action}" for action in role["never_used"]]
        lines += [f"  denied: {action} ({count} times)" for action, count in role["denied"].items()]
    return "\n".join(lines) or "no role matches"


def run_fault(arguments: argparse.Namespace) -> Answer:
    """Add, list or clear faults, or restart the server."""
    return faults_cli.run(arguments, *get_running(arguments))
