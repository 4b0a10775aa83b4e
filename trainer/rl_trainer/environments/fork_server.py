"""The process from which workers and collectors are forked. This module imports no torch itself."""

import os
import signal
import tempfile
from multiprocessing import forkserver, get_context, resource_tracker, util

#: The module that the fork server imports before it makes the first process.
PRELOADED = "rl_trainer.environments.preloaded"
#: The address of a Unix socket has at most 103 bytes on macOS and 107 on Linux. multiprocessing
#: adds 32 to the temporary folder's.
LONGEST_SOCKET_FOLDER = 70


def start_fork_server() -> None:
    """Start the process that makes others, if it does not run. It imports torch and SB3 once.

    Workers and collectors cannot be forked from the trainer itself, because it has threads. SIGTERM
    and SIGINT are blocked in that process, because a signal to the whole group of processes is for
    the trainer.
    """
    get_context("forkserver").set_forkserver_preload([PRELOADED])
    _choose_socket_folder()
    resource_tracker.ensure_running()  # would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _choose_socket_folder() -> None:
    """Let multiprocessing keep its sockets in /tmp where the path of TMPDIR is too long for one.

    Python 3.14 does so by itself (python/cpython#132124).
    """
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= LONGEST_SOCKET_FOLDER:
        return
    tempfile.tempdir = "/tmp"  # noqa: S108 (get_temp_dir makes a folder of mode 0700 in it)
    try:
        util.get_temp_dir()  # is remembered, and removed at the end
    finally:
        tempfile.tempdir = usual
