"""The command line: `train`, `collect`, `digest`, `replay` and `export`.

Importing this module loads neither torch nor boto3. Exit code 0 means done. Exit code 2 means bad
input, explained in one line on stderr. The other codes are listed in :mod:`rl_trainer.errors`.
"""

import argparse
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rl_lifecycle.command_line import OneLineParser
from rl_lifecycle.errors import LifecycleError
from rl_trainer.errors import TrainerError

if TYPE_CHECKING:
    from rl_trainer.training.interruptions import Interruption

#: The arguments of a command, as its module wants them.
Request = TypeVar("Request")
EPILOG = (
    "exit codes: 0 done · 2 bad input · 70 code failed · 71 out of memory · 72 environment failed "
    "· 73 disk full · 74 store lost · 75 interrupted, start again · 76 a later attempt took over "
    "· 77 other hardware · 78 diverged"
)


def run(arguments: list[str]) -> int:
    """Run a command.

    :return: the exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        result = COMMANDS[options.command](options)
    except TrainerError as error:
        return _fail(error, error.exit_code, options)
    except LifecycleError as error:
        return _fail(error, 2, options)
    except BrokenPipeError:
        return 70
    print(json.dumps(result, sort_keys=True) if options.json else _text(result))  # noqa: T201
    return 0


def _fail(error: Exception, code: int, options: argparse.Namespace) -> int:
    if os.environ.get("RL_TRAINER_TRACEBACK") or code == 70:
        import traceback

        traceback.print_exception(error)
    print(f"rl_trainer {options.command}: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    return code


def _text(result: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in result.items() if value is not None)


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from rl_trainer.attempts.attempts import TrainRequest, run_attempt

    request = TrainRequest(
        options.spec,
        options.store,
        options.trial,
        options.attempt,
        options.watch_interruption,
        options.quiet,
        options.usd_per_hour,
        options.address,
    )
    return _until_interrupted(run_attempt, request)


def _collect(options: argparse.Namespace) -> dict[str, Any]:
    from rl_trainer.attempts.collecting import CollectRequest, run_collector

    request = CollectRequest(
        options.spec,
        options.store,
        options.seat,
        options.trial,
        options.attempt,
        options.watch_interruption,
        options.quiet,
        options.address,
    )
    return _until_interrupted(run_collector, request)


def _until_interrupted(
    run: "Callable[[Request, Interruption], dict[str, Any]]", request: "Request"
) -> dict[str, Any]:
    """Run a command that takes SIGTERM and SIGINT as notices."""
    from rl_trainer.training.interruptions import Interruption

    interruption = Interruption()
    interruption.listen_to_signals()
    try:
        return run(request, interruption)
    finally:
        interruption.close()


def _digest(options: argparse.Namespace) -> dict[str, Any]:
    from rl_trainer.commands.inspection import read_digest

    return read_digest(options.store, options.experiment, options.run, options.trial)


def _replay(options: argparse.Namespace) -> dict[str, Any]:
    from rl_trainer.commands.replay import replay

    return replay(options.manifest, options.spec, options.store)


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from rl_trainer.onnx_export.foreign import ExportRequest, export_file

    return export_file(
        ExportRequest(
            options.model,
            options.out,
            options.vecnormalize,
            options.algo,
            options.env_id,
            options.trust,
            options.env_kwargs,
        )
    )


COMMANDS = {
    "train": _train,
    "collect": _collect,
    "digest": _digest,
    "replay": _replay,
    "export": _export,
}


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m rl_trainer",
        description="Train, repeat and export RL policies.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(
        commands.add_parser(
            "train", help="train a trial to its end, from its newest checkpoint", epilog=EPILOG
        )
    )
    _add_collect(
        commands.add_parser(
            "collect",
            help="collect for a trial that another machine trains",
            epilog=EPILOG,
        )
    )
    _add_digest(
        commands.add_parser("digest", help="print the digest of a trial's newest checkpoint")
    )
    _add_replay(
        commands.add_parser("replay", help="train again from a manifest, and compare the digests")
    )
    _add_export(commands.add_parser("export", help="convert an SB3 model to ONNX"))
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        required=True,
        help="a frozen spec.json (path, s3://…, or key in the store), or an experiment's YAML file",
    )
    parser.add_argument("--store", required=True, help="a directory, or s3://bucket/prefix")
    parser.add_argument("--trial", help="for example seed-0; default: the run's first trial")
    parser.add_argument(
        "--attempt",
        type=_positive,
        help="number of this attempt at the trial; default: the last number plus one",
    )
    parser.add_argument(
        "--watch-interruption",
        action="store_true",
        help="stop when EC2's metadata service announces a spot interruption",
    )
    parser.add_argument(
        "--address",
        type=_address,
        default="127.0.0.1",
        help="this machine's own IP address, on which the machines of a trial reach it; "
        "default: 127.0.0.1",
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress messages on stderr")


def _add_collect(parser: argparse.ArgumentParser) -> None:
    _add_trial(parser)
    parser.add_argument(
        "--seat",
        type=_positive,
        required=True,
        help="number of this machine in its trial, from 1 to compute.machines minus one",
    )


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_trial(parser)
    parser.add_argument(
        "--video",
        action="store_true",
        help="ignored: the trainer no longer makes videos. Machines and launch templates of an "
        "earlier release still pass this option; the release after 0.2.0 will refuse it",
    )
    parser.add_argument(
        "--usd-per-hour",
        type=float,
        help="price of this machine in USD per hour, for the progress messages",
    )


def _add_digest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", required=True, help="a directory, or s3://bucket/prefix")
    parser.add_argument("--experiment", help="default: the only one in the store")
    parser.add_argument("--run", help="default: the only one in the store")
    parser.add_argument("--trial", help="default: the only one in the store")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest",
        required=True,
        help="manifest.json of a version or a checkpoint, or the JSON record of a policy",
    )
    parser.add_argument(
        "--spec",
        help="the spec.json; default: spec.json beside the manifest, or the run's in --store",
    )
    parser.add_argument("--store", help="the store that holds the run's spec and wheels")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a model.zip from SB3 or sb3-contrib")
    parser.add_argument("--out", required=True, help="the ONNX file to write")
    parser.add_argument(
        "--vecnormalize", help="the file with the model's VecNormalize statistics (.pkl)"
    )
    parser.add_argument("--algo", help="ppo, sac, …; default: detected from the file")
    parser.add_argument(
        "--env-id",
        default="",
        help="the training environment, for the metadata; needed to import the policy later",
    )
    parser.add_argument(
        "--env-kwargs",
        default={},
        type=_mapping,
        metavar="JSON",
        help="the environment's arguments, for the metadata, such as '{\"gravity\": -9}'",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="required: confirms that you trust the model.zip, because loading it executes code",
    )


def _mapping(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(
            f"must be a JSON object, such as '{{\"gravity\": -9}}', not {text!r:.80}"
        )
    return value


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be an IP address such as 10.64.0.7, not {text!r:.80}"
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise argparse.ArgumentTypeError(f"must be one machine's own address, not {text!r:.80}")
    try:
        socket.create_server((str(address), 0)).close()
    except OSError:
        raise argparse.ArgumentTypeError(
            f"must be an IPv4 address of this machine, not {text!r:.80}"
        ) from None
    return str(address)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r:.80}")
    return int(text)
