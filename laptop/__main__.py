"""The commands behind the Makefile: `python -m laptop COMMAND`; `--help` lists them."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys

from infra_bootstrap.artifacts.locks import Target
from infra_bootstrap.artifacts.sets import build
from infra_bootstrap.errors import BootstrapError
from laptop import clean, demo, licences, local_account, locked_wheels, suite, ui
from laptop.errors import LaptopError
from laptop.places import ROOT


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    :return: 0; 1 if a step failed; 2 after wrong arguments.
    """
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.target not in ("test", "bench"):
        print(f"error: {options.target} does not take {' '.join(rest)}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(options, rest)
    except (LaptopError, BootstrapError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt(_number: int, _frame: object) -> None:
    """End as after Ctrl-C, so that the processes that we started also end."""
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    match options.target:
        case "demo":
            result = demo.run_demo(options.experiment or [demo.EXPERIMENT], options.conf, _say)
            print(json.dumps(result) if options.json else demo.render(result))
        case "ui":
            ui.serve(options.port, _say)
        case "stack":
            from laptop.stack import serve

            serve.serve(_say)
        case "test":
            return suite.run_tests(rest)
        case "env":
            _print_environment()
        case "clean":
            clean.clean()
        case "artifacts":
            laptop_python = f"{sys.version_info.major}.{sys.version_info.minor}"
            build(Target(laptop_python), f"python{laptop_python}")
        case "locked-wheels":
            locked_wheels.write_record()
        case "licences":
            licences.write_page()
        case "figures":
            from laptop.figures import tables

            tables.write_tables()
        case "bench" | "soak":
            return subprocess.run(
                [sys.executable, "-m", f"benchmarks.{options.target}", *rest], cwd=ROOT, check=False
            ).returncode
    return 0


def _print_environment() -> None:
    """Print exports for a shell in which `airflow dags test …` uses the local AWS."""
    local_account.call("up")
    environment = demo.airflow_environment(None)
    for name in sorted(name for name in os.environ if name not in environment):
        print(f"unset {name}")
    for name, value in sorted(environment.items()):
        if os.environ.get(name) != value:
            print(f"export {name}={shlex.quote(value)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m laptop", description=__doc__)
    targets = parser.add_subparsers(dest="target", required=True)
    night = targets.add_parser("demo", help="one whole night on the local AWS")
    night.add_argument(
        "--experiment", action="append", help="experiment to retrain; may be repeated"
    )
    night.add_argument("--conf", help="params of the retraining, as JSON")
    night.add_argument("--json", action="store_true", help="print the result as JSON")
    screen = targets.add_parser("ui", help="Airflow's UI on the local AWS")
    screen.add_argument(
        "--port", type=int, default=0, help="port on the loopback address; 0: a free port"
    )
    for name, what in (
        ("stack", "a team's Airflow as processes on the local AWS"),
        ("test", "run the tests"),
        ("bench", "run the benchmarks"),
        ("soak", "run the long tests that kill"),
        ("env", "print exports for a shell"),
        ("artifacts", "build the wheels and zips that machines and functions run"),
        ("locked-wheels", "write locks/trainer-wheels.json: the trainer's wheels for each Python"),
        ("licences", "write docs/third-party-licences.md"),
        ("figures", "write the measured tables of docs/ from the newest records"),
        ("clean", "stop all processes and remove all state"),
    ):
        targets.add_parser(name, help=what)
    return parser


if __name__ == "__main__":
    sys.exit(main())
