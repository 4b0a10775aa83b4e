"""Asking a question in a process of its own, so that whatever goes wrong with it does no harm to the one that trains."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

#: A check imports torch, builds a model and records a few steps. Whatever takes longer hangs.
TIME_LIMIT_S = 300.0


def ask_child(question: Callable[..., str], *arguments: Any, limit_s: float = TIME_LIMIT_S) -> str:
    """Call a function of a module in a fresh Python, which has this one's `sys.path` and nothing else of it.

    :param arguments: what pickle takes. :return: its answer; if it gives none, one line that says why.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, question, *arguments), daemon=True)
    try:
        child.start()
        sender.close()  # the child's copy is the only one, so that its death ends the wait
        if not receiver.poll(limit_s):
            return f"the process that tried it gave no answer within {limit_s:.0f} s"
        return str(receiver.recv())
    except EOFError:
        child.join()
        return f"the process that tried it {_end_of(child.exitcode or 0)}"
    except Exception as error:  # pickle raises a dozen types, and no check is worth a training
        return f"no process could be started to try it: {one_line(error)}"
    finally:
        if child.pid is not None:
            child.kill()
            child.join()
        receiver.close()


def one_line(error: BaseException) -> str:
    """An error in one line, with the one that came before it: torch's end of a recording does not say what made it fail."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"{said} (after: {one_line(error.__context__)})" if error.__context__ is not None else said
    )


def _answer(sender: Connection, question: Callable[..., str], *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = question(*arguments)
    except Exception as error:  # whatever it is, the training goes on without what was asked about
        answer = f"the process that tried it raised {type(error).__name__}: {one_line(error)}"
    sender.send(answer)


def _end_with_parent() -> None:
    """Nobody would end a child that hangs once the one that asked was killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _end_of(exit_code: int) -> str:
    return (
        f"was ended by {signal.Signals(-exit_code).name}"
        if exit_code < 0
        else f"ended with code {exit_code}"
    )
