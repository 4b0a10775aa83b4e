"""Files of a run that a browser gets as they are: the page of the decision, and a machine's log."""

from typing import Any

from rl_airflow.console.cached_store import CachedStore, Snapshot
from rl_airflow.console.decisions import find_page, newest_report, read_judged
from rl_airflow.console.environments import MOST_LOG_BYTES, ViewedEnvironment
from rl_airflow.trials.progress_reports import readable_line
from rl_lifecycle.storage.layout import (
    EVALUATIONS,
    VERDICTS,
    TrialId,
    class_prefix,
    log_prefix,
    trainer_log_key,
)
from rl_lifecycle.storage.object_store import ObjectInfo, read_from

#: What is shown first of a log, bytes.
TAIL_BYTES = 64 * 2**10
#: The offset that asks for the end of a log.
TAIL = -1


def find_report_page(store: CachedStore, experiment: str, run: str) -> bytes | None:
    """Find the HTML page of a run's newest decision; None if there is none."""
    prefixes = [class_prefix(name, experiment, run) for name in (VERDICTS, EVALUATIONS)]
    view = Snapshot(store, prefixes)
    item = newest_report([item for prefix in prefixes for item in view.list(prefix)])
    key = find_page(view, read_judged(view, item)) if item is not None else None
    found = view.find(key) if key is not None else None
    return found.data if found is not None else None


def read_log(
    viewed: ViewedEnvironment, machine: TrialId, attempt: int, offset: int
) -> dict[str, Any] | None:
    """Read lines of a machine's log.

    :param machine: the trial and the seat.
    :param offset: where to begin, bytes; :data:`TAIL` means shortly before the end.
    :return: the lines, where to go on, and whether there is more now. A line that is not written
        to its end waits. None: the machine has no log yet.
    """
    file = _find_log(viewed.store, machine, attempt)
    if file is None:
        return None
    begin = max(0, file.n_bytes - TAIL_BYTES) if offset == TAIL else offset
    data = read_from(viewed.logs, file.key, begin)[:MOST_LOG_BYTES]
    whole = data[: data.rfind(b"\n") + 1]
    if not whole and len(data) == MOST_LOG_BYTES:
        whole = data  # a line that is longer than an answer
    lines = whole.decode(errors="replace").splitlines()
    if offset == TAIL and begin > 0:
        lines = lines[1:]  # it was cut
    end = begin + len(whole)
    return {
        "lines": [readable_line(line) for line in lines],
        "next_offset": end,
        "more": len(data) == MOST_LOG_BYTES,
    }


def _find_log(store: CachedStore, machine: TrialId, attempt: int) -> ObjectInfo | None:
    """Find the trainer's log, or else what the machine wrote before its trainer began."""
    files = {item.key: item for item in store.list(log_prefix(machine, attempt)) if item.n_bytes}
    trainers = files.get(trainer_log_key(machine, attempt))
    return trainers or max(
        files.values(), key=lambda item: (item.modified_at, item.key), default=None
    )
