"""The process from which workers and collectors are forked. This module imports no torch itself."""

import signal
from multiprocessing import forkserver, get_context, resource_tracker

#: The module that the fork server imports before it makes the first process.
PRELOADED = "rl_trainer.environments.preloaded"


def start_fork_server() -> None:
    """Start the process that makes others, if it does not run. It imports torch and SB3 once.

    Workers and collectors cannot be forked from the trainer itself, because it has threads. SIGTERM
    and SIGINT are blocked in that process, because a signal to the whole group of processes is for
    the trainer.
    """
    get_context("forkserver").set_forkserver_preload([PRELOADED])
    resource_tracker.ensure_running()  # would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
