"""What the trainer's safety costs: checkpoints, resuming, exporting, and memory.

    python -m benchmarks.training.trainer_costs [--rounds N] [--part NAME …] [--table]

Replay buffers hold a million transitions, and all rows are written.

*Checkpoint*: CPU time to capture and commit the end of a segment, as a share of the CPU time of the
whole segment.
*Resume*: CPU time, and time on the clock, from the call to the first step of the environment, with
the S3 of the local AWS, in a process that has imported everything.
*Memory*: the largest resident set of `python -m rl_trainer train`, which resumes with the full
buffer, trains and commits a segment; compared with a process in which stock SB3 trains as long with
a buffer that is as full.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from laptop.figures.records import taken, todays_cases, write_record
from laptop.figures.tables import newest_table
from laptop.places import ROOT

PARTS = ("memory", "checkpoints", "resume")
#: Starts the process from a small parent: at a fork, the parent's memory counts for the child.
LAUNCHER = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
child = os.posix_spawn(
    sys.executable,
    [sys.executable, *sys.argv[1:]],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)],
)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table. :return: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="measurements of each; the medians are reported (default 5)",
    )
    parser.add_argument(
        "--part",
        nargs="*",
        choices=PARTS,
        default=PARTS,
        help="measure these alone, beside what today's record has already (default: all, anew)",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and measure nothing",
    )
    options = parser.parse_args(arguments)
    if options.table:
        print(newest_table("trainer_costs"))
        return 0
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        cases = todays_cases("trainer-costs", whole=set(options.part) == set(PARTS))
        for part in options.part:
            _say(part)
            facts = taken(rounds=options.rounds)
            for name, measured in _measure(part, Path(folder), options.rounds).items():
                case = cases.setdefault(name, {"taken": {}})
                case.update(measured, taken=case["taken"] | {part: facts})
            print(write_record("trainer-costs", {"cases": cases}), file=sys.stderr)
    return 0


def _measure(part: str, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Measure one part of all cases."""
    from benchmarks.training.cost_cases import CASES

    match part:
        case "checkpoints":
            return {
                case.name: {"segment": case.segment, **_checkpoints(case, rounds)} for case in CASES
            }
        case "memory":
            return {
                case.name: _memory(case.seldom_updated, folder / case.algo, rounds)
                for case in CASES
            }
    return _resumes(folder, rounds)


def _checkpoints(case: Any, rounds: int) -> dict[str, float]:
    """CPU time of a segment, of its checkpoint and of its policy. What is written lies in a
    directory.
    """
    from benchmarks.training.cost_cases import TRIAL, full_state
    from rl_lifecycle.storage.directory_store import DirectoryStore
    from rl_trainer.attempts.policy_files import PolicyWriter
    from rl_trainer.checkpointing.chain import CheckpointChain, Contents
    from rl_trainer.checkpointing.digests import digest_arrays
    from rl_trainer.checkpointing.model_state import capture, final_parameters, first_not_finite
    from rl_trainer.checkpointing.replay_memory import grow
    from rl_trainer.training.interruptions import Interruption
    from rl_trainer.training.preparation import make_trainer
    from rl_trainer.training.watch import TrainingWatch

    spec = case.spec(rounds)
    trainer = make_trainer(spec, TRIAL, None)
    state, _ = full_state(case, trainer.prepare(0, None))
    shares, captures, commits, exports, segments = [], [], [], [], []
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        store = DirectoryStore(Path(folder))
        chain = CheckpointChain(store, spec.trial_id(TRIAL), 1, spec.sha256, spec.trial(TRIAL).seed)
        chain.take_over()
        writer = PolicyWriter(store, spec, TRIAL, 1)
        for turn in range(rounds):
            segment, marks = case.step // case.segment + turn, [time.process_time()]
            trained = trainer.train(segment, state, TrainingWatch(Interruption()))
            marks.append(time.process_time())
            if (
                case.buffered and state.memory is not None
            ):  # once more, to see what of the segment it took
                grow(state.memory, trained.model.replay_buffer, case.segment)
            first_not_finite(capture(trained.model).arrays)
            marks.append(time.process_time())
            parameters, chunks = (
                final_parameters(trained.state),
                trained.state.memory.chunks if trained.state.memory else (),
            )
            manifest = chain.commit(
                Contents(
                    step=trained.step,
                    segment=segment + 1,
                    digest=digest_arrays(parameters),
                    files=trained.state.to_files(),
                    numeric_class={},
                    buffer_chunks=tuple(chunk.sha256 for chunk in chunks),
                    new_chunks={chunk.sha256: chunk.pieces for chunk in chunks if chunk.pieces},
                )
            )
            marks.append(time.process_time())
            writer.write(
                trained.model,
                parameters,
                trained.step,
                final=False,
                manifest=manifest,
                visited=trained.visited,
            )
            marks.append(time.process_time())
            whole, captured, committed, exported = (
                after - before for before, after in itertools.pairwise(marks)
            )
            segments.append(whole)
            captures.append(captured)
            commits.append(committed)
            exports.append(exported)
            shares.append((captured + committed) / whole)
            state = trained.state
    return {
        "segment_cpu_s": _median(segments),
        "capture_ms": 1000 * _median(captures),
        "commit_ms": 1000 * _median(commits),
        "checkpoint_share": _median(shares),
        "export_ms": 1000 * _median(exports),
    }


def _memory(case: Any, folder: Path, rounds: int) -> dict[str, float]:
    """MiB of both, each in a process of its own; side by side, which changes no memory."""
    from benchmarks.training.cost_cases import write_store

    ours, theirs = [], []
    key = write_store(case, str(folder / "first"), 1)
    for turn in range(rounds):
        store = folder / str(turn)
        shutil.copytree(
            folder / "first", store, copy_function=os.link
        )  # a store replaces files, and never writes into one
        commands = (
            [
                "-m",
                "rl_trainer",
                "train",
                "--spec",
                str(store / key),
                "--store",
                str(store),
                "--json",
            ],
            ["-m", "benchmarks.training.stock_memory", json.dumps(case.stock)],
        )
        with ThreadPoolExecutor(2) as pool:
            mine, other = pool.map(_highest_mib, commands)
        ours.append(mine)
        theirs.append(other)
        shutil.rmtree(store)
    shutil.rmtree(folder)
    return {
        "trainer_mib": _median(ours),
        "sb3_mib": _median(theirs),
        "memory_ratio": _median([mine / other for mine, other in zip(ours, theirs, strict=True)]),
    }


def _highest_mib(arguments: list[str]) -> float:
    """Run a Python process to its end. :return: the highest resident set it had."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1]) / (1024 if sys.platform == "linux" else 1024**2)


def _resumes(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Resume each case from the local AWS's S3."""
    from laptop import local_account

    os.environ["NIGHTSHIFT_STATE"] = str(folder / "aws")
    try:
        local_account.call("up")
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training.resume_time", str(rounds)],
            cwd=ROOT,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env=local_account.environment("administrator"),
        )
    finally:
        local_account.call("down")
    measured: dict[str, list[dict[str, float]]] = json.loads(done.stdout)
    return {
        name: {key: _median([one[key] for one in values]) for key in ("resume_cpu_s", "resume_s")}
        for name, values in measured.items()
    }


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 5)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
