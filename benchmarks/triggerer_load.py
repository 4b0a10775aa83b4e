"""What waiting trials cost one triggerer, on the local AWS: calls, CPU and memory, with 100 and with 1,000 of them.

The pipeline's own triggers run in one event loop, as Airflow's triggerer runs them, first without and then with a rule by which
they look at their learning curves. Then the same triggers lie in Airflow's database, of as many deferred tasks, and `airflow
triggerer` runs them: its CPU is that of both of its processes, less what they take when no task is deferred. Calls are counted by the
local AWS itself; benchmarks/waiting_trials.py says what stands behind the trials.

python -m benchmarks.triggerer_load [SECONDS]       # of each of six measurements; 60 by default. Before each, every heartbeat is read once
"""

import asyncio
import json
import logging
import math
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.airflow_triggerer import deferred, running_triggerer
from benchmarks.records import write_record
from benchmarks.twin_runs import INSIDE, local_aws, measure_inside
from benchmarks.waiting_trials import CURVE, Waiting, waiting_trials

COUNTS = (100, 1000)
#: Between looks, seconds.
DELAY_S = 5.0
WARM_UP_MOST_S = 600.0
#: So long after its start a triggerer has nothing to do any more but to look whether there is something to do.
IDLE_AFTER_S = 40.0
OBJECTIVE_MS_PER_100 = 50.0
ACTIONS = ("ec2:DescribeInstances", "s3:ListBucket", "s3:GetObject", "sts:AssumeRole")


def measure(seconds: float) -> list[dict[str, Any]]:
    """Measure each count, one after another, with the same machines."""
    with waiting_trials(COUNTS) as waiting:
        found = [{"trials": len(one.plan.trials), "learning_curves": curves, "in": "an event loop",
                  **asyncio.run(_wait(one.triggers(DELAY_S, stops_early=curves), seconds))} for one in waiting for curves in (False, True)]
        idle = _measure_idle(seconds)
        return found + [_in_airflow(one, seconds, idle) for one in waiting]


async def _wait(triggers: list[Any], seconds: float) -> dict[str, Any]:
    """Run the triggers, and measure once every heartbeat was read a first time."""
    polls: list[int] = []
    _count_polls(polls)
    waiting = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
    until = time.monotonic() + WARM_UP_MOST_S
    while (not polls or polls[-1] < len(triggers)) and time.monotonic() < until:
        await asyncio.sleep(1)
    polls.clear()
    before, cpu, began = count_calls(), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu_s, wall_s, after = time.process_time() - cpu, time.monotonic() - began, count_calls()
    fired = sum(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {"seconds": round(wall_s, 1), "fired": fired, **per_poll(len(triggers), len(polls), cpu_s, before, after),
            "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def _measure_idle(seconds: float) -> float:
    """Let `airflow triggerer` run nothing. :return: CPU seconds a second."""
    with running_triggerer() as triggerer:
        time.sleep(IDLE_AFTER_S)
        cpu, began = triggerer.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (triggerer.cpu_s() - cpu) / (time.monotonic() - began)


def _in_airflow(waiting: Waiting, seconds: float, idle: float) -> dict[str, Any]:
    """Let `airflow triggerer` run them. A look at all is a DescribeInstances for each thousand."""
    count = len(waiting.plan.trials)
    read_before = count_calls().get("s3:GetObject", 0)
    with deferred(waiting.triggers(DELAY_S, stops_early=True)), running_triggerer() as triggerer:
        _warm_up(count, read_before)
        before, cpu, began = count_calls(), triggerer.cpu_s(), time.monotonic()
        time.sleep(seconds)
        cpu_s, wall_s, after = triggerer.cpu_s() - cpu, time.monotonic() - began, count_calls()
        polls = round((after.get(ACTIONS[0], 0) - before.get(ACTIONS[0], 0)) / math.ceil(count / 1000))
        return {"trials": count, "learning_curves": True, "in": "airflow triggerer", "seconds": round(wall_s, 1),
                "idle_cpu_ms_per_s": round(1000 * idle, 1), **per_poll(count, polls, cpu_s - idle * wall_s, before, after),
                "memory_mib": triggerer.memory_mib()}


def _warm_up(count: int, read_before: int) -> None:
    """Wait until the triggerer has read the spec, and each trial's heartbeat and curve once."""
    wanted, until = 1 + count * (1 + len(CURVE)), time.monotonic() + WARM_UP_MOST_S
    while (read := count_calls().get("s3:GetObject", 0) - read_before) < wanted:
        if time.monotonic() > until:
            sys.exit(f"error: airflow triggerer has read {read} of {wanted} objects after {WARM_UP_MOST_S:.0f} s")
        time.sleep(2)


def per_poll(count: int, polls: int, cpu_s: float, before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    """What was spent, and what that is for each look at all trials."""
    calls, ms = {name: after.get(name, 0) - before.get(name, 0) for name in ACTIONS}, 1000 * cpu_s / max(1, polls)
    return {"polls": polls, "cpu_s": round(cpu_s, 2), "cpu_ms_per_poll": round(ms, 1), "cpu_ms_per_poll_of_100": round(ms * 100 / count, 1),
            "calls": calls, "calls_per_poll": {name: round(n / max(1, polls), 2) for name, n in calls.items()}}


def _count_polls(polls: list[int]) -> None:
    """Note each shared look, with how many trials' heartbeats are known after it."""
    from rl_airflow.watching import TrialWatch

    look = getattr(TrialWatch, "plain_look", TrialWatch.look)

    def counted(self: Any, trials: Any) -> Any:
        seen = look(self, trials)
        polls.append(sum(one.heartbeat is not None for one in seen.values()))
        return seen

    TrialWatch.plain_look = look  # type: ignore[attr-defined]
    TrialWatch.look = counted  # type: ignore[method-assign]


def count_calls() -> dict[str, int]:
    """What the local AWS has counted of the launcher's calls."""
    usage = local_aws("status")["usage"]
    return {one["action"]: one["count"] for one in usage if one["role"].endswith("-launcher") and one["decision"] == "allowed"}


def main(arguments: list[str]) -> int:
    """Measure. :return: 0, 1 if a poll took more CPU than it may, 2 on bad input."""
    rest = [one for one in arguments if one != INSIDE]
    seconds = rest[0] if rest else "60"
    if not seconds.isdigit() or int(seconds) < 10:
        print(f"error: seconds must be a number from 10 on, not {seconds}", file=sys.stderr)
        return 2
    if INSIDE in arguments:
        logging.disable(logging.INFO)
        print(json.dumps(measure(float(seconds))))
        return 0
    result = measure_inside("benchmarks.triggerer_load", seconds)
    print(json.dumps(result, indent=1), file=sys.stderr)
    print(write_record("triggerer-load", result))
    worst = max(one["cpu_ms_per_poll_of_100"] for one in result)
    if worst > OBJECTIVE_MS_PER_100:
        print(f"error: {worst} ms of CPU per poll of 100 trials, and {OBJECTIVE_MS_PER_100:g} are promised", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
