"""Evaluate a policy on a laptop, with the same returns as in the Lambda."""

import argparse
import json
import sys
from pathlib import Path

from rl_evaluator.errors import EvaluatorError, InvalidRequestError
from rl_lifecycle.command_line import OneLineParser
from rl_lifecycle.errors import LifecycleError


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    :return: 0, or 2 after bad input; one line on stderr then states the problem.
    """
    options = _parser().parse_args(arguments)
    try:
        _evaluate(options)
    except (EvaluatorError, LifecycleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m rl_evaluator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluate = commands.add_parser(
        "evaluate", help="run one episode per seed and print the returns as JSON"
    )
    evaluate.add_argument("--policy", required=True, type=Path, help="ONNX policy")
    evaluate.add_argument("--env-id", required=True, help="Gymnasium id, or package:Env-v0")
    evaluate.add_argument(
        "--env-kwargs", default="{}", help="JSON object of keyword arguments for the environment"
    )
    evaluate.add_argument("--n-episodes", required=True, type=int)
    evaluate.add_argument("--first-seed", required=True, type=int)
    evaluate.add_argument(
        "--stochastic", action="store_true", help="sample actions instead of taking the best one"
    )
    evaluate.add_argument(
        "--processes",
        type=int,
        default=1,
        help="number of processes; more processes give the same returns sooner",
    )
    evaluate.add_argument(
        "--json", action="store_true", help="print one line of JSON instead of indented JSON"
    )
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    from rl_evaluator.playing.evaluation import Task
    from rl_evaluator.playing.parallel_evaluation import evaluate_in_parallel

    if options.n_episodes < 1 or not 0 <= options.first_seed <= 2**31 - options.n_episodes:
        raise InvalidRequestError(
            "--n-episodes must be at least 1, and the seeds must lie between 0 and 2147483647"
        )

    kwargs = _read_kwargs(options.env_kwargs)
    task = Task(
        options.env_id,
        kwargs,
        options.first_seed,
        options.n_episodes,
        not options.stochastic,
        refuse_endless=True,
    )
    shard = evaluate_in_parallel(
        _read_file(options.policy), str(options.policy), task, max(1, options.processes)
    )

    print(json.dumps(shard.model_dump(mode="json"), indent=None if options.json else 2))
    for problem in shard.problems:
        print(f"lost: {problem}", file=sys.stderr)


def _read_kwargs(text: str) -> dict[str, object]:
    try:
        kwargs = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"--env-kwargs is not JSON: {error}") from None
    if not isinstance(kwargs, dict):
        raise InvalidRequestError('--env-kwargs must be a JSON object such as {"continuous": true}')
    return kwargs


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{path}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
