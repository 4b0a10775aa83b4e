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
from laptop import clean, demo, licences, suite, twin, ui
from laptop.errors import LaptopError
from laptop.places import ROOT


def main(arguments: list[str] | None = None) -> int:
    """Run a target.
    :return: 0, or 1 when a step failed, 2 when something was asked for that cannot be.
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
    """End as Ctrl-C does, so that what was started is ended with us."""
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    match options.target:
        case "demo":
            result = demo.run_demo(options.experiment or [demo.EXPERIMENT], options.conf, _say)
            print(json.dumps(result) if options.json else demo.render(result))
        case "ui":
            ui.serve(options.port, _say)
        case "test":
            return suite.run_tests(rest)
        case "env":
            _print_environment()
        case "clean":
            clean.clean()
        case "artifacts":
            laptop_python = f"{sys.version_info.major}.{sys.version_info.minor}"
            build(Target(laptop_python), f"python{laptop_python}")
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
    """Print exports for a shell in which `airflow dags test …` then works, as the Airflow worker on
    the local AWS.
    """
    twin.call("up")
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
        "--experiment", action="append", help="which to retrain; more than one in this order"
    )
    night.add_argument("--conf", help="JSON params of the retraining")
    night.add_argument("--json", action="store_true", help="print the result as JSON")
    screen = targets.add_parser("ui", help="Airflow's UI on the local AWS")
    screen.add_argument("--port", type=int, default=0, help="on the loopback; 0: a free one")
    for name, what in (
        ("test", "the tests"),
        ("bench", "measure"),
        ("soak", "long fault runs"),
        ("env", "print exports for a shell"),
        ("artifacts", "build what machines and functions run"),
        ("licences", "write docs/third-party-licences.md"),
        ("figures", "write the measured tables of docs/ from the newest records"),
        ("clean", "remove all state"),
    ):
        targets.add_parser(name, help=what)
    return parser


if __name__ == "__main__":
    sys.exit(main())
