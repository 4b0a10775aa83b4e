"""The repository tracks no generated file and no machine's path; its Makefile is documented."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_locks_name_no_host_and_hash_everything() -> None:
    """Locks name no host and give a hash for every package, which the installer checks."""
    locks = sorted((ROOT / "locks").glob("*.txt"))
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock.name
        entries = re.findall(
            r"^[A-Za-z0-9][^\n]*==[^\n]*\n(?:    --hash=\S+[^\n]*\n?)+", text, re.M
        )
        assert len(entries) == len(re.findall(r"^[A-Za-z0-9]", text, re.M)), lock.name


def test_every_lock_is_written_by_the_one_script() -> None:
    """`locks/compile.sh` names every lock source; it explains torch's CPU build, the exception."""
    script = (ROOT / "locks/compile.sh").read_text()
    sources = sorted((ROOT / "locks").glob("*.in"))
    assert sources
    for source in sources:
        assert re.search(rf"\b{source.stem}\b", script), source.name


def test_no_path_of_a_developers_machine_is_tracked() -> None:
    """No tracked file contains a path of a home or scratch folder."""
    bad = re.compile(r"(?<![\w.${}])/(?:work|root|home/\w+)/")
    offenders = [
        str(path.relative_to(ROOT))
        for path in _tracked()
        if path.suffix in {".py", ".yaml", ".md", ".sh", ".toml", ".txt", ".in"}
        and bad.search(path.read_text())
    ]
    assert offenders == []


def test_nothing_generated_is_tracked() -> None:
    """No generated file is tracked, apart from locks and dated benchmark records."""
    assert [
        path for path in _tracked() if path.suffix in {".pyc", ".zip", ".whl", ".log", ".db"}
    ] == []


@pytest.mark.parametrize(
    "target",
    ["setup", "demo", "test", "check", "bench", "soak", "ui", "aws-smoke", "clean", "lock"],
)
def test_the_makefile_has_each_target_with_a_help_line(target: str) -> None:
    """`make help` describes each target."""
    assert re.search(rf"^{target}:.*## \w", (ROOT / "Makefile").read_text(), re.M)


def test_ci_runs_the_readmes_test_command_and_nothing_hidden() -> None:
    """CI runs README's test command; the tests come last, so pytest's summary ends the log.

    Only Chromium is installed before, because `make test` does not change a person's system.
    """
    lines = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    command = "make check test"
    browser = (
        "command -v chromium > /dev/null || "
        "{ apt-get update -qq && apt-get install -y -qq chromium; } || "
        'echo "no Chromium" >&2'
    )
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', browser, f"exec {command}"]
    for page in ("README.md", "CONTRIBUTING.md"):
        assert command in (ROOT / page).read_text(), page


def test_a_benchmark_has_one_record() -> None:
    """An older record would show figures that no page quotes."""
    records = [path.stem for path in (ROOT / "benchmarks/records").glob("*.json")]
    names = sorted(stem[len("2026-11-22-") :] for stem in records)
    assert names == sorted(set(names))


def test_no_test_is_switched_off() -> None:
    """No test is skipped or expected to fail, and no test uses MagicMock."""
    switched_off = re.compile(
        r"pytest\.(?:mark\.)?(?:skip|skipif|xfail|importorskip)\b|MagicMock\("
    )
    offenders = [
        str(path.relative_to(ROOT))
        for path in _tracked()
        if path.suffix == ".py" and path != Path(__file__) and switched_off.search(path.read_text())
    ]
    assert offenders == []
