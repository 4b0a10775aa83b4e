"""Rules for the syntax of the files in dags/; each message names the fix."""

import ast
from pathlib import Path

import pytest

from tests.dags.conftest import DAGS
from tests.plugins.airflow_home import ROOT

FILES = sorted(DAGS.glob("*.py"))
ALLOWED = (
    "airflow.sdk",
    "airflow.providers",
    "rl_airflow",
    "rl_lifecycle",
    "datetime",
    "pathlib",
    "collections",
)


def imports(tree: ast.AST) -> list[str]:
    """List every module that a file imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_imports_only_what_dags_may(path: Path) -> None:
    """A DAG file imports no boto3, no network library and no other DAG."""
    for name in imports(ast.parse(path.read_text())):
        assert name.startswith(ALLOWED), (
            f"{path.name} imports {name}: put what needs it into plugins/rl_airflow, imported "
            "inside execute()"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_reads_no_environment_and_opens_nothing(path: Path) -> None:
    """A DAG file reads no environment variable and no file, because it is parsed often."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv", "urlopen", "read_text", "open"), (
                f"{path.name}:{node.lineno} uses .{node.attr}: take it from a Param, a Variable "
                "or a connection in execute()"
            )
        if isinstance(node, ast.Name):
            assert node.id not in ("open", "Variable"), (
                f"{path.name}:{node.lineno} uses {node.id}: do that in execute()"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_thin_and_documented(path: Path) -> None:
    """A DAG file has a docstring, which the UI shows, and defines no function or class."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), (
        f"{path.name} has no docstring: say how to trigger it and what a failure means"
    )
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ], f"{path.name} defines functions or classes: they belong into plugins/rl_airflow"


def test_no_file_of_ours_shadows_the_standard_library() -> None:
    """The plugin loader would replace a standard module with a file of its name."""
    import sys

    for path in [*FILES, *(ROOT / "plugins").rglob("*.py")]:
        assert path.stem not in sys.stdlib_module_names, (
            f"rename {path.relative_to(ROOT)}: {path.stem} is a standard module"
        )


def test_the_plugin_loader_is_kept_out_of_our_package() -> None:
    """`.airflowignore` lists every package in plugins/, so Airflow loads only the entry file."""
    ignored = (ROOT / "plugins" / ".airflowignore").read_text().split()
    packages = [
        path.name
        for path in (ROOT / "plugins").iterdir()
        if path.is_dir() and (path / "__init__.py").exists()
    ]
    assert set(packages) <= set(ignored), "name the package in plugins/.airflowignore"
