"""An idle local AWS waits for events: nothing in it polls, and warm functions are frozen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local_aws.faults.catalog import read
from local_aws.faults.engine import FaultEngine
from tests.local_aws.conftest import LocalAwsUnderTest, start

WATCHED_S = 3.0
MOST_WAKE_UPS = 20
"""In three seconds. The commits after a request wake once a second, for ten seconds; a loop that
looks five times a second would alone be fifteen, and one that looks ten times thirty."""
TICKS = """
import threading, time
ticks = []
def count():
    while True:
        ticks.append(1)
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
def handler(event, context):
    time.sleep(0.3)
    return len(ticks)
"""


def processes_below(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from processes_below(int(child))


def wake_ups(pid: int) -> dict[tuple[int, str], int]:
    """Return how often each thread of a process and of its children has woken up."""
    found = {}
    for process in processes_below(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            count = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
            found[process, task.name] = int(count.split()[1])
    return found


def state_of(pid: int) -> str:
    """Return the letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_idle_account_with_warm_functions_does_not_poll(own_state: Path) -> None:
    """After a night, warm functions are stopped, and no thread of the server wakes in a loop."""
    aws = start(own_state)
    name = aws.function(TICKS)

    def invoke(_: int = 0) -> int:
        return int(aws.client("lambda").invoke(FunctionName=name)["Payload"].read())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(invoke, range(3)))
    warm = [pid for pid in processes_below(aws.pid) if is_function(pid)]
    assert len(warm) >= 1
    assert {state_of(pid) for pid in warm} == {"T"}

    before = wake_ups(aws.pid)
    time.sleep(WATCHED_S)
    after = wake_ups(aws.pid)
    woken = {thread: after[thread] - before.get(thread, 0) for thread in after}
    assert sum(woken.values()) <= MOST_WAKE_UPS, woken
    assert {woken[thread] for thread in woken if thread[0] in warm} == {0}


def is_function(pid: int) -> bool:
    """Say whether a process serves a function."""
    return b"functions/bootstrap.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_warm_function_stands_still_between_two_invocations(aws: LocalAwsUnderTest) -> None:
    """A thread that the handler's module started runs only while an invocation runs."""
    name, client = aws.function(TICKS), aws.client("lambda")

    def invoke() -> int:
        return int(client.invoke(FunctionName=name)["Payload"].read())

    first = invoke()
    time.sleep(1.5)
    # 0.3 s of sleep give about 30 ticks; 1.5 s more would give 150 more.
    assert first < invoke() < first + 100


def test_a_fault_of_machines_is_looked_for_only_while_one_can_occur() -> None:
    """Without such a fault, and after the last one, nothing needs to be looked at."""
    engine, kinds = FaultEngine(), ("kill", "interrupt")
    assert not engine.may_come(kinds)
    engine.add("throttle", read("throttle", {}))
    assert not engine.may_come(kinds)
    fault = engine.add("kill", read("kill", {"after_s": 60}))
    assert engine.added.is_set()
    assert engine.may_come(kinds)
    fault.strikes = 1
    assert not engine.may_come(kinds)
