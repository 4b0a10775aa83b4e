"""`python -m infra_bootstrap preflight|plan|deploy|outputs|drift|upload-policy|destroy
--environment NAME`.

Every command takes ``--json`` (one object on stdout, progress on stderr). Exit status: 0 done, 2
bad input with one line that says what to do, 1 when AWS refused or something failed, with its
reason and the next command.
"""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra_bootstrap.clients import Clients, code_of
from infra_bootstrap.commands import answers
from infra_bootstrap.commands.smoke import ENVIRONMENT
from infra_bootstrap.errors import (
    BadInputError,
    BootstrapError,
    NotConfirmedError,
    NotDeployedError,
    PreflightFailedError,
)
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.settings import LAMBDA_RUNTIMES, DeploymentSettings
from infra_bootstrap.stacks.template_files import check_parameters
from rl_lifecycle.command_line import OneLineParser
from rl_lifecycle.errors import LifecycleError

#: How AWS says that it does not know the credentials.
UNKNOWN_CREDENTIALS = (
    "AuthFailure",
    "ExpiredToken",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)
BAD_INPUT = (BadInputError, NotConfirmedError, NotDeployedError, PreflightFailedError)


def run(argv: Sequence[str]) -> int:
    """Run one command. :return: its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        settings, clients = _settings(arguments), Clients(_session(arguments))
        _check_account(clients, arguments.account)
        answer, text = arguments.command(answers.Command(clients, settings, arguments, _say))
    except BAD_INPUT as error:
        _say(f"infra_bootstrap: {error}")
        return 2
    except (BootstrapError, LifecycleError, ClientError, BotoCoreError, OSError) as error:
        _say(f"infra_bootstrap: {' '.join(str(error).split())}{_advice(error)}")
        return 1
    except KeyboardInterrupt:
        _say(
            "infra_bootstrap: stopped; CloudFormation goes on with what it began, and the same "
            "command looks again"
        )
        return 130
    sys.stdout.write((json.dumps(answer) if arguments.json else text) + "\n")
    return int(answer.get("exit_status", 0))


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = OneLineParser(
        prog="python -m infra_bootstrap", description="Nightshift's infrastructure on AWS."
    )
    kinds = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    _add(
        kinds,
        "preflight",
        answers.check_account,
        "find out what would go wrong, before anything is made",
    )
    _add(
        kinds,
        "plan",
        answers.plan_stacks,
        "say what deploy would change, and what it would cost a month",
    )
    deploy = _add(
        kinds, "deploy", answers.deploy_stacks, "bring the stacks to what the templates say"
    )
    deploy.add_argument(
        "--unchecked",
        action="store_true",
        help="make new stacks although a check of the preflight fails",
    )
    _add(
        kinds,
        "build",
        answers.build_only,
        "build the artifacts into the cache, and upload nothing",
    )
    _add(kinds, "outputs", answers.show_outputs, "say where everything is")
    _add(
        kinds,
        "airflow-policy",
        answers.show_airflow_policy,
        "print the policy that an Airflow worker needs, as a file to attach",
    )
    _add(kinds, "drift", answers.show_drift, "say what was changed by hand since it was deployed")
    bring = _add(
        kinds,
        "upload-policy",
        answers.bring_policy,
        "upload a policy that was trained elsewhere, to import it",
    )
    bring.add_argument(
        "--policy",
        required=True,
        metavar="P.onnx",
        help="as `rl_trainer export` wrote it, P.safetensors beside it",
    )
    destroy = _add(
        kinds,
        "destroy",
        answers.destroy_stacks,
        "delete the environment, and prove that nothing is left",
    )
    destroy.add_argument("--confirm", metavar="NAME", help="the environment's exact name")
    destroy.add_argument(
        "--delete-bucket",
        action="store_true",
        help="delete the bucket with all that is in it; no way back",
    )
    smoke = _add(
        kinds,
        "smoke",
        answers.smoke,
        "a capped first run on a real account: costs money, at most what it says",
    )
    smoke.add_argument(
        "--confirm",
        metavar="WORDS",
        default=os.environ.get("CONFIRM"),
        help="the words that it asks for",
    )
    for action in smoke._actions:
        if action.dest == "environment":
            action.required, action.default = False, ENVIRONMENT
            action.help = (
                "an environment of which nothing exists: it is destroyed at the end "
                f"(default: {ENVIRONMENT})"
            )
    return parser


def _add(kinds: Any, name: str, command: Any, text: str) -> argparse.ArgumentParser:
    """Add a command with the options that all share."""
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument("--environment", required=True, metavar="NAME", help="such as dev or prod")
    parser.add_argument(
        "--stack", choices=[str(concern) for concern in Concern], help="this stack alone"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--lambda-runtime",
        choices=LAMBDA_RUNTIMES,
        help="Lambda's Python (default: deployed, else python3.12)",
    )
    parser.add_argument(
        "--airflow-role",
        metavar="NAME",
        help="Airflow's workers' role (default: deployed, else airflow-worker)",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a template's parameter",
    )
    parser.add_argument(
        "--account", metavar="ID", help="refuse to work in any other account than this"
    )
    parser.add_argument("--region", help="AWS region (default: the session's)")
    parser.add_argument("--profile", help="AWS profile (default: the session's)")
    parser.set_defaults(command=command)
    return parser


def _advice(error: Exception) -> str:
    """What to do about credentials that AWS does not know: that is also how a region answers that
    was never opted into.
    """
    if isinstance(error, ClientError) and code_of(error) in UNKNOWN_CREDENTIALS:
        return (
            "; log in again, or choose another region: one that the account has not opted into "
            "refuses all credentials "
            "(`aws account enable-region --region-name REGION`)"
        )
    return ""


def _check_account(clients: Clients, expected: str | None) -> None:
    """Refuse another account than the one that was meant. :raises BadInputError: naming both."""
    if expected is not None and clients.account_id != expected:
        raise BadInputError(
            f"--account {expected}: these credentials are of account {clients.account_id} "
            f"({clients.identity['Arn']})"
        )


def _session(arguments: argparse.Namespace) -> boto3.Session:
    try:
        session = boto3.Session(profile_name=arguments.profile, region_name=arguments.region)
    except BotoCoreError as error:
        raise BadInputError(str(error)) from None
    if session.region_name is None:
        raise BadInputError("no AWS region: say `--region eu-west-1`, or set AWS_REGION")
    known = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition_name=partition)
    }
    if session.region_name not in known:
        near = difflib.get_close_matches(session.region_name, sorted(known), n=3)
        raise BadInputError(
            f"AWS region {session.region_name!r}: there is none of that name; did you mean "
            f"{' or '.join(near) or 'eu-west-1'}?"
        )
    if session.get_credentials() is None:
        raise BadInputError("no AWS credentials: log in first (`aws sso login`, or AWS_PROFILE)")
    return session


def _settings(arguments: argparse.Namespace) -> DeploymentSettings:
    parameters = {}
    for given in arguments.parameter:
        name, found, value = given.partition("=")
        if not found:
            raise BadInputError(f"--parameter {given}: must be NAME=VALUE")
        parameters[name] = value
    check_parameters(parameters)
    return DeploymentSettings(
        arguments.environment, arguments.airflow_role, arguments.lambda_runtime, parameters
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
