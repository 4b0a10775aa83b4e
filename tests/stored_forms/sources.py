"""Names found in the sources: strings, XCom keys, events, answers, and options of the commands."""

import argparse
import ast
import re
import runpy
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = (
    "dags",
    "evaluator",
    "infra_bootstrap",
    "laptop",
    "lifecycle",
    "local_aws",
    "plugins",
    "trainer",
)
FILES = ("Dockerfile", "Makefile", "docker-compose.yaml", ".env.example")
#: Names that something outside the program knows.
NAMES = {
    "environment variables": re.compile(r"\b(?:NIGHTSHIFT|RL_TRAINER|LOCAL_AWS)_[A-Z_]*[A-Z]\b"),
    "tags": re.compile(r"\bnightshift:[a-z][a-z-]*\b"),
    "Airflow's names": re.compile(r"\bnightshift_[a-z]+\b(?!\.py)"),
}
COMMANDS = ("infra_bootstrap", "local_aws", "rl_evaluator", "rl_lifecycle", "rl_trainer")


def read_sources(*rooms: str) -> Iterator[tuple[Path, str]]:
    """Read the text files of some folders."""
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".py", ".sh", ".yaml", ".toml") and "__pycache__" not in path.parts:
                yield path, path.read_text()


def find_names() -> dict[str, list[str]]:
    """Find the names of each kind in the folders and the files beside them."""
    texts = [text for _, text in read_sources(*ROOMS)]
    texts += [(ROOT / name).read_text() for name in FILES if (ROOT / name).is_file()]
    return {
        kind: sorted({name for text in texts for name in pattern.findall(text)})
        for kind, pattern in NAMES.items()
    }


def find_airflow_keys() -> dict[str, Any]:
    """Find XCom keys, resume methods of deferred tasks, and keys of events and results."""
    trees = [
        ast.parse(text) for path, text in read_sources("plugins", "dags") if path.suffix == ".py"
    ]
    constants = dict(_constants(trees))
    found: dict[str, Any] = {
        "xcom keys": set(),
        "asset event keys": set(),
        "resume methods": defaultdict(set),
        "event keys": defaultdict(set),
        "result keys": defaultdict(set),
    }
    for form in (
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ):
        for call in (node for node in ast.walk(form) if isinstance(node, ast.Call)):
            name, given = _called(call), {one.arg: one.value for one in call.keywords}
            if name == "defer":
                found["resume methods"][form.name].add(_text(given["method_name"], constants))
            if name == "TriggerEvent" and isinstance(call.args[0], ast.Dict):
                found["event keys"][form.name] |= set(_keys(call.args[0]))
        if form.name.endswith("Operator"):
            found["result keys"][form.name] |= _returned(form)
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {one.arg: one.value for one in call.keywords}
        if _called(call) in ("xcom_push", "xcom_pull"):
            found["xcom keys"].add(_text(given.get("key"), constants))
        if _called(call) == "announce":
            found["asset event keys"] |= {name for name in given if name is not None}
    found["xcom keys"].discard("")
    return _sorted(found)


def find_answers() -> dict[str, list[str]]:
    """Find the keys of the answers of infra_bootstrap's and local_aws's commands."""
    return {
        room: sorted(
            {
                " ".join(sorted(_keys(one)))
                for path, text in read_sources(room)
                if path.suffix == ".py"
                for function in ast.walk(ast.parse(text))
                if isinstance(function, ast.FunctionDef) and _gives_an_answer(function)
                for one in ast.walk(function)
                if isinstance(one, ast.Dict)
            }
        )
        for room in ("infra_bootstrap", "local_aws")
    }


def _gives_an_answer(function: ast.FunctionDef) -> bool:
    return function.returns is not None and ast.unparse(function.returns) == "Answer"


def find_options() -> dict[str, Any]:
    """Find the commands and options of each command line from its parser."""
    return {name: _described(_parser_of(name)) for name in COMMANDS}


class _Caught(Exception):
    """Carries the parser out of its call to parse_args."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser
        super().__init__()


def _parser_of(command: str) -> argparse.ArgumentParser:
    def catch(self: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise _Caught(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        patch.setattr(sys, "argv", [command])
        try:
            runpy.run_module(command, run_name="__main__")
        except _Caught as caught:
            return caught.parser
    raise RuntimeError(f"python -m {command} parsed no arguments")


def _described(parser: argparse.ArgumentParser) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {name: _described(one) for name, one in action.choices.items()}
        elif not isinstance(action, argparse._HelpAction):
            name = " ".join(action.option_strings) or action.dest
            default = action.default
            found[name] = {
                "kind": type(action).__name__.strip("_"),
                "nargs": action.nargs,
                "required": action.required,
                "choices": sorted(action.choices) if action.choices else None,
                "default": default.name if isinstance(default, Path) else default,
            }
    return found


def _constants(trees: list[ast.Module]) -> Iterator[tuple[str, str]]:
    """Return the module's constants that are strings."""
    for node in (node for tree in trees for node in tree.body if isinstance(node, ast.Assign)):
        if isinstance(node.value, ast.Constant) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, str(node.value.value)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _text(node: ast.expr | None, constants: dict[str, str]) -> str:
    if node is None:
        return "return_value"
    if isinstance(node, ast.Constant):
        return str(node.value)
    return constants.get(getattr(node, "id", ""), "")


def _keys(node: ast.Dict) -> list[str]:
    return [str(key.value) for key in node.keys if isinstance(key, ast.Constant)]


def _returned(form: ast.ClassDef) -> set[str]:
    """List the keys of the operator's result where the code writes them as a literal."""
    return {
        " ".join(sorted(_keys(node.value)))
        for method in form.body
        if isinstance(method, ast.FunctionDef) and method.name.startswith("execute")
        for node in ast.walk(method)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
    }


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items() if one}
    return sorted(value) if isinstance(value, set | list) else value
