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
import socket
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, util

from rl_trainer.checkpointing.numeric_class import pin_threads


def serve() -> None:
    """Answer requests until stdin ends."""
    pin_threads()
    import rl_trainer.attempts.seat
    import rl_trainer.attempts.trials
    import rl_trainer.environments.preloaded  # noqa: F401  before the first fork

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
    if "TEST_GATHER_S" in os.environ:
        from rl_trainer.gangs import gang

        gang.GATHER_S = float(os.environ["TEST_GATHER_S"])
    keep_fork_server_ready()
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


def keep_fork_server_ready() -> None:
    """Fork a child that becomes this process's fork server when it wants one.

    A fork server that is started as usual imports torch once more, which takes seconds.
    `tests/trainer/environments/test_fork_server.py` starts one as usual. This child is like that
    one in all that a test can see: a child of this process, without its threads and signals.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        become_fork_server(theirs)
    theirs.close()
    ready = [pid]
    usual = util.spawnv_passfds

    def spawn(path: bytes, args: Sequence[str], passfds: Sequence[int]) -> int:
        if "multiprocessing.forkserver" not in args[-1] or not ready:
            return usual(path, args, passfds)
        socket.send_fds(ours, [b"start"], list(passfds))
        return ready.pop()

    util.spawnv_passfds = spawn


def become_fork_server(requests: socket.socket) -> None:
    """Wait until the parent wants a fork server, and be one. End with the parent."""
    code = 1
    try:
        _, fds, _, _ = socket.recv_fds(requests, 16, 2)
        requests.close()
        if fds:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
            forkserver.main(*fds, preload=[])
        code = 0
    except SystemExit:
        code = 0
    finally:
        os._exit(code)


def poll(pid: int) -> int | None:
    """Return whether a child has ended, and its code."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


if __name__ == "__main__":
    serve()
