"""The command line `python -m rl_lifecycle`.

- `decide` applies the gate to two stored evaluations.
- `schema` prints the JSON schema of an experiment file.
- `restore-champion` restores a lost pointer in a directory, from the history. For a bucket there is
  `python -m infra_bootstrap restore-champion`, which acts as the promoter.
"""

import argparse
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from rl_lifecycle.command_line import OneLineParser
from rl_lifecycle.errors import InvalidRecordError, LifecycleError, NewerRecordError
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.verdicts import Gate, Verdict
from rl_lifecycle.experiment.schema import experiment_schema
from rl_lifecycle.records.record import Record
from rl_lifecycle.registry.restoration import describe_restoration, restore_champion
from rl_lifecycle.storage.directory_store import DirectoryStore


class _Evaluation(Record):
    """The part of an evaluation that the gate needs. Other keys are ignored."""

    model_config = {"extra": "ignore"}

    returns: tuple[float | None, ...]
    first_seed: int | None = None
    env_id: str | None = None
    env_kwargs: dict[str, Any] | None = None
    deterministic: bool | None = None


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    :return: 0, or 2 after bad input, which is reported in one line on stderr.
    """
    options = _parser().parse_args(arguments)
    if options.command == "schema":
        print(json.dumps(experiment_schema(), indent=2))
        return 0
    try:
        if options.command == "restore-champion":
            return _restore(options)
        verdict = _decide(options)
    except LifecycleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(verdict.model_dump(mode="json")))
    else:
        print("\n".join(describe(verdict)))
    return 0


def describe(verdict: Verdict) -> list[str]:
    """Describe a verdict in lines for a terminal: the decision, then one line for each look."""
    lines = [f"{verdict.decision}: {verdict.reason}"]
    for look in verdict.looks:
        lines.append(
            f"  {look.n:>6} pairs, alpha {look.alpha:.4g}: mean difference "
            f"{look.mean_difference:+.4g}, "
            f"p better {look.p_better:.3g}, p crashes no more often {look.p_guard:.3g}, p worse "
            f"{look.p_worse:.3g}; "
            f"crashes {look.crashes_candidate} against {look.crashes_champion}, lost {look.lost}"
        )
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m rl_lifecycle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    decide_ = commands.add_parser(
        "decide", help="judge a candidate against the champion on the same seeds"
    )
    decide_.add_argument(
        "--candidate",
        required=True,
        type=Path,
        help="evaluation as `rl_evaluator evaluate` prints it",
    )
    decide_.add_argument(
        "--champion", required=True, type=Path, help="evaluation on the same seeds"
    )
    decide_.add_argument(
        "--gate",
        required=True,
        type=Path,
        help=f"JSON: {', '.join(name for name in Gate.model_fields if name != 'scenarios')}",
    )
    decide_.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    restore = commands.add_parser(
        "restore-champion", help="restore a lost pointer to the champion, from the history"
    )
    restore.add_argument("--store", required=True, type=Path, help="directory of the store")
    restore.add_argument("--experiment", required=True, help="name of the experiment")
    restore.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    commands.add_parser("schema", help="print the JSON schema of an experiment file")
    return parser


def _restore(options: argparse.Namespace) -> int:
    if not options.store.is_dir():
        raise InvalidRecordError(str(options.store), "is not a directory")
    done = restore_champion(
        DirectoryStore(options.store), options.experiment, new_nonce=lambda: uuid.uuid4().hex
    )
    print(json.dumps(done._asdict()) if options.json else describe_restoration(done))
    return 0


def _decide(options: argparse.Namespace) -> Verdict:
    gate = _read_gate(options.gate)
    candidate = _Evaluation.from_json(_read(options.candidate), str(options.candidate))
    champion = _Evaluation.from_json(_read(options.champion), str(options.champion))
    for field in ("first_seed", "env_id", "env_kwargs", "deterministic"):
        ours, theirs = getattr(candidate, field), getattr(champion, field)
        if ours is not None and theirs is not None and ours != theirs:
            raise InvalidRecordError(
                "decide",
                f"{field} of the candidate is {ours}, of the champion {theirs}: pairs need "
                "the same seeds, environment and settings",
            )
    return decide(candidate.returns, champion.returns, gate)


def _read_gate(path: Path) -> Gate:
    """Read the gate's settings. An unknown key is an error, because a person wrote the file."""
    try:
        return Gate.from_json(_read(path), str(path))
    except NewerRecordError as error:
        raise InvalidRecordError(error.where, error.problem) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRecordError(str(path), error.strerror or "cannot be read") from None


if __name__ == "__main__":
    sys.exit(main())
