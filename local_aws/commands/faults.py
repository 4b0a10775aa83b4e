"""`python -m local_aws fault`: its arguments and its output."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

from local_aws.commands import server_process
from local_aws.commands.control import ask
from local_aws.errors import FaultScriptError
from local_aws.faults import catalog
from local_aws.state_folder import Running, StateFolder

Answer = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fault kinds|list|add|run|clear|restart`."""
    parser.add_argument(
        "verb",
        choices=["kinds", "list", "add", "run", "clear", "restart"],
        help="restart kills the server and starts it again",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="add: KIND name=value …; run: SCRIPT.yaml; clear: ID (without an ID: all faults)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="add: decides when a fault with a rate below 1 occurs (default: %(default)s)",
    )


def run(arguments: argparse.Namespace, state: StateFolder, running: Running) -> Answer:
    """Carry out one of the fault commands."""
    words = list(arguments.words)
    if arguments.verb == "kinds":
        return {"kinds": {name: _describe(kind) for name, kind in catalog.KINDS.items()}}
    if arguments.verb == "list":
        return ask(running, "faults")
    if arguments.verb == "restart":
        return restart(state, running)
    if arguments.verb == "clear":
        return ask(running, "faults", {"clear": words[0] if words else None})
    if not words:
        raise FaultScriptError(
            f"fault {arguments.verb} needs "
            f"{'a kind; see `fault kinds`' if arguments.verb == 'add' else 'a script'}"
        )
    if arguments.verb == "add":
        values = read_words(words[1:])
        catalog.read(words[0], values)
        return ask(
            running, "faults", {"add": {"kind": words[0], "values": values, "seed": arguments.seed}}
        )
    return ask(running, "faults", {"script": read_script(words[0])})


def read_words(words: list[str]) -> dict[str, str]:
    """Read words of the form `name=value`.

    >>> read_words(["rate=0.5", "tag=a=b"])
    {'rate': '0.5', 'tag': 'a=b'}

    :raises FaultScriptError: for a word without `=`.
    """
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise FaultScriptError(f"parameters are written name=value, not {wrong[0]!r}")
    parts = (word.partition("=") for word in words)
    return {name: value for name, _, value in parts}


def read_script(path: str) -> str:
    """Return the text of a script of faults.

    :raises FaultScriptError: if the file cannot be read.
    """
    try:
        return Path(path).read_text()
    except OSError as error:
        raise FaultScriptError(f"cannot read the script {path}: {error.strerror}") from None


def restart(state: StateFolder, running: Running) -> Answer:
    """Kill the server as a power cut would, then start it again on the same port."""
    settings = ask(running, "status")
    os.kill(running.pid, signal.SIGKILL)
    options = server_process.Options(
        running.port, running.region, Path(settings["ami"]), settings["pace"], settings["seed"]
    )
    server_process.await_release(state)
    again, _ = server_process.start(state, options)
    return {"faults": [], "restarted": {"pid": again.pid, "endpoint_url": again.endpoint_url}}


def _describe(kind: catalog.FaultKind) -> Answer:
    """Return the text and the parameters of a kind of fault."""
    return {"text": kind.text, "parameters": {name: p.text for name, p in kind.parameters.items()}}


def show(answer: Answer) -> str:
    """Format an answer for people."""
    if "kinds" in answer:
        lines = []
        for name, kind in answer["kinds"].items():
            own = {n: t for n, t in kind["parameters"].items() if n not in catalog.WHEN}
            lines += [
                f"{name}: {kind['text']}",
                *(f"    {n:<10} {text}" for n, text in own.items()),
            ]
        return "\n".join(
            [*lines, "every fault:", *(f"    {n:<10} {p.text}" for n, p in catalog.WHEN.items())]
        )
    if "restarted" in answer:
        return f"killed and started again at {answer['restarted']['endpoint_url']}"
    shown = [
        f"{f['id']} {f['kind']} occurred {f['strikes']} of {f['chances']} times {f['parameters']}"
        for f in answer["faults"]
    ]
    return "\n".join(shown) or "no faults"
