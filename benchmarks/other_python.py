"""A side of a measurement that has an environment of its own, in a process of that Python.

The process reads a task in JSON from each line of stdin, answers each with a line on stdout, and
ends when stdin ends.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from laptop.places import ROOT

#: Seconds that a process has to end what it has started.
END_S = 60.0


@contextmanager
def other_python(python: Path, script: str) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Start a script, which ends with the block.

    :param script: its path in the repository.
    :return: what gives it a task and returns the answer.
    """
    process = subprocess.Popen(
        [str(python), script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stdin, stdout = cast(IO[str], process.stdin), cast(IO[str], process.stdout)

    def ask(task: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(task), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            raise RuntimeError(f"{script} has ended; its error is above")
        return dict(json.loads(answer))

    try:
        yield ask
    finally:
        stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
