"""Only `rl_lifecycle.storage.layout` spells keys of the bucket."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

from rl_lifecycle.storage.layout import (
    FILES,
    WRITERS,
    TrialId,
    artifact_key,
    heartbeat_key,
    log_prefix,
    spec_key,
)

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("lifecycle", "trainer", "evaluator", "plugins", "infra_bootstrap", "dags", "laptop")
LAYOUT = ROOT / "lifecycle/rl_lifecycle/storage/layout.py"
TEMPLATES = ROOT / "infra_bootstrap/templates"
CLASSES = "|".join(name.removesuffix("/") for name in WRITERS)
JSON_FILES = [name for name in FILES if name.endswith(".json")]
#: A string that begins with a class of keys, or the name of a file that only the layout spells.
KEY = re.compile(rf"\^?({CLASSES})/|/?({'|'.join(map(re.escape, JSON_FILES))})$")


def keys_in(source: str) -> list[tuple[int, str]]:
    """List the strings of a module that spell a key, with their lines, without docstrings."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in alone
        and KEY.match(node.value)
    ]


def test_keys_are_spelled_in_the_layout_alone() -> None:
    """No other module spells a key: use a function of the layout, or add one there."""
    assert keys_in(LAYOUT.read_text())
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}: take it from rl_lifecycle.storage.layout"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path != LAYOUT
        for line, text in keys_in(path.read_text())
    ]
    assert found == []


def test_a_key_that_is_spelled_elsewhere_would_be_found() -> None:
    """The search finds keys in plain strings, f-strings and patterns, and ignores prose."""
    source = """
        "A docstring about specs/."
        one = "heartbeats/e/r/seed-0.json"
        two = f"{bucket}/{prefix}" + f"registry/{name}/champion.json"
        three = r"^artifacts/[0-9a-f]{64}"
        prose = "no such file; give a spec.json"
    """
    assert [text for _, text in keys_in(textwrap.dedent(source))] == [
        "heartbeats/e/r/seed-0.json",
        "^artifacts/[0-9a-f]{64}",
        "registry/",
        "/champion.json",
    ]


def test_the_boot_script_spells_keys_as_the_layout_does() -> None:
    """The boot script's keys equal the layout's, which it cannot import before our wheels exist."""
    trial = TrialId("$e", "$r", "$t")
    script = (TEMPLATES / "user_data.sh").read_text()
    spelled = {
        spec_key("{env['NIGHTSHIFT_EXPERIMENT']}", "{env['NIGHTSHIFT_RUN']}"),
        heartbeat_key(trial).replace(str(trial), "{trial}"),
        artifact_key("{sha256}", "{name}"),
        log_prefix(trial, 1).replace(str(trial), "{trial}").replace("0001", "{attempt:04d}")
        + "boot.log",
    }
    in_python = re.findall(rf'f"((?:{CLASSES})/[^"]*)"', script)
    assert set(in_python) == spelled
    in_bash = re.findall(rf"s3://\$bucket/((?:{CLASSES})/[^\"]*)", script)
    assert set(in_bash) == {spec_key("$NIGHTSHIFT_EXPERIMENT", "$NIGHTSHIFT_RUN")}


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda path: path.stem)
def test_templates_name_the_layouts_classes_and_files(path: Path) -> None:
    """Every key in a template's rules, policies and patterns begins with a class of the layout."""
    text = path.read_text()
    bucket = (
        r"\$\{Bucket\.Arn\}/|nightshift-\$\{Environment\}-\$\{AWS::AccountId\}-\$\{AWS::Region\}/"
    )
    found = re.findall(rf"(?:{bucket}|Prefix: |AllowedPattern: '|wildcard: )([a-z]+/)", text)
    assert set(found) <= set(WRITERS)
    for name in re.findall(r"/\*/(?:[*/]*)([a-z]+\.json)", text):
        assert name in FILES
