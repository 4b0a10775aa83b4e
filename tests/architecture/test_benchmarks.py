"""Benchmarks and tests do not import each other, and every benchmark can be imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: These run in environments of their own, which have JAX and Ray.
BENCHMARKS = sorted(
    ".".join(path.relative_to(ROOT / "benchmarks").with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("[!_]*.py")
    if path.stem not in ("sbx_worker", "ray_worker")
)


def imported_packages(file: Path) -> set[str]:
    """The first part of the name of every module that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("tests", "benchmarks"),
        ("benchmarks", "tests"),
        ("laptop", "tests"),
        ("laptop", "benchmarks"),
    ],
)
def test_benchmarks_and_tests_do_not_import_each_other(folder: str, forbidden: str) -> None:
    """What both need is in laptop/figures and laptop/gate_study. Move it there."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    offenders = [
        str(file.relative_to(ROOT)) for file in files if forbidden in imported_packages(file)
    ]
    assert offenders == []


def test_every_benchmark_can_be_imported() -> None:
    """A benchmark runs rarely, so a moved module would be noticed late."""
    code = (
        "import importlib, sys; [importlib.import_module(f'benchmarks.{n}') for n in sys.argv[1:]];"
        "from benchmarks.bench import MEASUREMENTS; assert MEASUREMENTS.keys() <= {*sys.argv[1:]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *BENCHMARKS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(BENCHMARKS) > 20
