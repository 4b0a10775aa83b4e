"""The command line: `python -m infra_bootstrap COMMAND --environment NAME`.

The commands are preflight, plan, deploy, build, outputs, airflow-policy, drift, upload-policy,
restore-champion, export-run, prices, destroy and smoke. With ``--json`` a command prints one object
to stdout, and its progress to stderr.

The exit status is 0 if the command succeeded. It is 1 if AWS refused a call or something failed.
The message then has the reason and the next command. It is 2 if the input is wrong. One line then
says what to do. It is 130 if the command was interrupted from the keyboard.
"""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Sequence

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra_bootstrap.clients import Clients, code_of
from infra_bootstrap.commands import actions
from infra_bootstrap.commands.run_export import TOOLS
from infra_bootstrap.commands.smoke import ENVIRONMENT
from infra_bootstrap.errors import (
    BadInputError,
    BootstrapError,
    NotConfirmedError,
    NotDeployedError,
    PreflightFailedError,
)
from infra_bootstrap.preflight.checklist import failures, make_check
from infra_bootstrap.preflight.results import Situation
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.settings import LAMBDA_RUNTIMES, DeploymentSettings
from infra_bootstrap.stacks.template_files import check_parameters
from rl_lifecycle.command_line import OneLineParser
from rl_lifecycle.errors import LifecycleError

#: AWS's error codes for credentials that it does not know.
UNKNOWN_CREDENTIALS = (
    "AuthFailure",
    "ExpiredToken",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
)
#: What `--stack` means, by the command that takes it.
ONE_STACK = {
    **dict.fromkeys(("plan", "deploy", "drift"), "only this stack (default: all)"),
    **dict.fromkeys(("preflight", "outputs"), "not used: it looks at all stacks"),
    "destroy": "refused: it deletes the whole environment",
}
BAD_INPUT = (BadInputError, NotConfirmedError, NotDeployedError, PreflightFailedError)


def run(argv: Sequence[str]) -> int:
    """Run one command. :return: its exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        settings, clients = _settings(arguments), Clients(_session(arguments))
        _check_account(clients, arguments.account)
        answer, text = arguments.command(actions.Command(clients, settings, arguments, _say))
    except BAD_INPUT as error:
        _say(f"infra_bootstrap: {error}")
        return 2
    except (BootstrapError, LifecycleError, ClientError, BotoCoreError, OSError) as error:
        _say(f"infra_bootstrap: {' '.join(str(error).split())}{_advice(error, arguments)}")
        return 1
    except KeyboardInterrupt:
        _say(
            "infra_bootstrap: stopped; CloudFormation continues what it has begun, so run the same "
            "command again to see the result"
        )
        return 130
    sys.stdout.write((json.dumps(answer) if arguments.json else text) + "\n")
    return int(answer.get("exit_status", 0))


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = OneLineParser(
        prog="python -m infra_bootstrap", description="Nightshift's infrastructure on AWS."
    )
    kinds = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=OneLineParser)
    _add(
        kinds,
        "preflight",
        actions.check_account,
        "check the account before anything is made",
    )
    _add(
        kinds,
        "plan",
        actions.plan_stacks,
        "show what deploy would change, and what the stacks would cost a month",
    )
    deploy = _add(
        kinds,
        "deploy",
        actions.deploy_stacks,
        "make or update the stacks, so that they match the templates",
    )
    deploy.add_argument(
        "--unchecked",
        action="store_true",
        help="make new stacks although a check of the preflight fails",
    )
    deploy.add_argument(
        "--experiment",
        metavar="NAME",
        help="make only a role of its own for the machines of this experiment",
    )
    _add(
        kinds,
        "build",
        actions.build_only,
        "build the artifacts into the cache; nothing is uploaded",
    )
    _add(
        kinds,
        "outputs",
        actions.show_outputs,
        "print the outputs of the stacks: the bucket, the roles, the functions",
    )
    policy = _add(
        kinds,
        "airflow-policy",
        actions.show_airflow_policy,
        "print the policy that an Airflow worker needs, to attach it yourself",
    ).add_mutually_exclusive_group()
    policy.add_argument(
        "--log-bucket",
        metavar="NAME",
        help="print only what it needs for task logs in this bucket of your own; needs a region, "
        "but no credentials",
    )
    policy.add_argument(
        "--read-log-bucket",
        metavar="NAME",
        help="print only what an API server needs to show the logs in this bucket; likewise",
    )
    policy.add_argument(
        "--api-server",
        action="store_true",
        help="print only what an API server needs to show the console: to become the viewer",
    )
    _add(kinds, "drift", actions.show_drift, "show what was changed by hand since it was deployed")
    bring = _add(
        kinds,
        "upload-policy",
        actions.send_policy,
        "upload a policy that was trained elsewhere, so that you can import it",
    )
    bring.add_argument(
        "--policy",
        required=True,
        metavar="P.onnx",
        help="a file that `rl_trainer export` wrote, with P.safetensors in the same folder",
    )
    restore = _add(
        kinds,
        "restore-champion",
        actions.restore_champion,
        "restore a lost pointer to an experiment's champion, from the history",
    )
    restore.add_argument("--experiment", metavar="NAME", help="name of the experiment")
    export = _add(
        kinds,
        "export-run",
        actions.export_run,
        "write the curves and the decision of a run for TensorBoard or MLflow",
    )
    export.add_argument("run", metavar="RUN", help="Airflow's run id, or its name in the bucket")
    export.add_argument(
        "--to",
        choices=TOOLS,
        required=True,
        help="tensorboard: event files in a folder; mlflow: the server at MLFLOW_TRACKING_URI",
    )
    export.add_argument(
        "--experiment", metavar="NAME", help="needed only if several experiments have such a run"
    )
    export.add_argument(
        "--output", metavar="FOLDER", help="for tensorboard (default: .nightshift/tensorboard)"
    )
    prices = _add(
        kinds,
        "prices",
        actions.write_prices,
        "write the tables of prices anew, from AWS's prices in the region",
    )
    prices.add_argument(
        "--output", metavar="FOLDER", help="where to write them (default: this checkout's tables)"
    )
    destroy = _add(
        kinds,
        "destroy",
        actions.destroy_stacks,
        "delete the environment, and prove that nothing is left",
    )
    destroy.add_argument("--confirm", metavar="NAME", help="the environment's exact name")
    destroy.add_argument(
        "--delete-bucket",
        action="store_true",
        help="delete the bucket and everything in it; this cannot be undone",
    )
    smoke = _add(
        kinds,
        "smoke",
        actions.smoke,
        "train and evaluate once on a real account: costs money, up to a limit that it prints",
    )
    smoke.add_argument(
        "--confirm",
        metavar="WORDS",
        default=os.environ.get("CONFIRM"),
        help="the exact words that the command asks for",
    )
    _make_optional(
        smoke,
        ENVIRONMENT,
        f"a new environment, which is destroyed at the end (default: {ENVIRONMENT})",
    )
    _make_optional(prices, "any", "not used: prices belong to a region")
    return parser


def _make_optional(parser: argparse.ArgumentParser, default: str, text: str) -> None:
    """Let a command be called without the name of an environment."""
    for action in parser._actions:
        if action.dest == "environment":
            action.required, action.default, action.help = False, default, text


def _add(
    kinds: "argparse._SubParsersAction[OneLineParser]",
    name: str,
    command: Callable[[actions.Command], actions.Answer],
    text: str,
) -> argparse.ArgumentParser:
    """Add a command, with the options that all commands share."""
    parser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument("--environment", required=True, metavar="NAME", help="such as dev or prod")
    if name in ONE_STACK:
        parser.add_argument(
            "--stack", choices=[str(concern) for concern in Concern], help=ONE_STACK[name]
        )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--lambda-runtime",
        choices=LAMBDA_RUNTIMES,
        help="Lambda's Python (default: the deployed one, else python3.12)",
    )
    parser.add_argument(
        "--airflow-role",
        metavar="NAME",
        help="role of Airflow's workers (default: the deployed one, else airflow-worker)",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of a template; may be repeated",
    )
    parser.add_argument("--account", metavar="ID", help="refuse to work in any other account")
    parser.add_argument("--region", help="AWS region (default: the session's)")
    parser.add_argument("--profile", help="AWS profile (default: the session's)")
    parser.set_defaults(command=command)
    return parser


def _advice(error: Exception, arguments: argparse.Namespace) -> str:
    """Say what to do about credentials that AWS does not know.

    A region that the account has not enabled gives the same error, so the region is checked.
    """
    if not isinstance(error, ClientError) or code_of(error) not in UNKNOWN_CREDENTIALS:
        return ""
    at = Situation(Clients(_session(arguments)), _settings(arguments))
    if failed := failures(make_check("region", at)):
        return f"; region: {failed[0].found} → {failed[0].fix}"
    return (
        "; log in again, choose another region, or enable this one: a region that is not enabled "
        "refuses all credentials (`aws account enable-region --region-name REGION`)"
    )


def _check_account(clients: Clients, expected: str | None) -> None:
    """Refuse to work in an account other than the expected one. :raises BadInputError: if so."""
    if expected is not None and clients.account_id != expected:
        raise BadInputError(
            f"--account {expected}: these credentials are of account {clients.account_id} "
            f"({clients.identity['Arn']})"
        )


def _session(arguments: argparse.Namespace) -> boto3.Session:
    try:
        session = boto3.Session(
            profile_name=arguments.profile,
            region_name=arguments.region or os.environ.get("AWS_REGION"),
        )
    except BotoCoreError as error:
        raise BadInputError(str(error)) from None
    if session.region_name is None:
        raise BadInputError(
            "no AWS region: give one, such as `--region eu-west-1`, or set AWS_REGION"
        )
    known = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition_name=partition)
    }
    if session.region_name not in known:
        near = difflib.get_close_matches(session.region_name, sorted(known), n=3)
        raise BadInputError(
            f"AWS region {session.region_name!r} does not exist; did you mean "
            f"{' or '.join(near) or 'eu-west-1'}?"
        )
    if not _calls_nothing(arguments) and session.get_credentials() is None:
        raise BadInputError(
            "no AWS credentials: log in first (`aws sso login`, or AWS_PROFILE). In a container on "
            "EC2, the instance's metadata needs a hop limit of 2: `aws ec2 "
            "modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2`"
        )
    return session


def _calls_nothing(arguments: argparse.Namespace) -> bool:
    """Whether a command calls no AWS: the policy for a bucket of task logs needs only its name."""
    names = ("log_bucket", "read_log_bucket")
    return any(getattr(arguments, name, None) is not None for name in names)


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
