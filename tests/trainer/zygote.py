"""A process that has imported the trainer and forks a child for each start.

Importing torch takes seconds, and the tests start the trainer dozens of times. Requests are JSON
lines on stdin, answers are JSON lines on stdout:

- `{"start": [arguments], "out": path, "err": path}` is answered by `{"pid": …}`.
- `{"wait": pid}` is answered by `{"code": …}`: None while the child runs, and a negative signal
  number after a signal ended it.
"""

import json
import os
import resource
import signal
import sys

from rl_trainer.checkpointing.numeric_class import pin_threads


def serve() -> None:
    """Answer requests until stdin ends."""
    pin_threads()
    import rl_trainer.attempts.trials  # noqa: F401  before the first fork

    for line in sys.stdin:
        request = json.loads(line)
        answer = {"pid": start(request)} if "start" in request else {"code": poll(request["wait"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def start(request: dict[str, object]) -> int:
    """Fork a child that runs the command line and exits with its code."""
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    for number, path in ((1, request["out"]), (2, request["err"])):
        handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request.get("env") or {})  # type: ignore[call-overload]
    if "TEST_FILE_LIMIT" in os.environ:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["TEST_FILE_LIMIT"]),) * 2)
    code = 70
    try:
        from rl_trainer.commands.cli import run

        code = run(list(request["start"]))  # type: ignore[call-overload]
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def poll(pid: int) -> int | None:
    """Return whether a child has ended, and its code."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


if __name__ == "__main__":
    serve()
