"""What waiting trials cost a triggerer on the local AWS: calls, CPU and memory of 100 and 1,000.

    python -m benchmarks.machines.triggerer_load [SECONDS] [--table]

First the pipeline's own triggers run in one event loop, as in Airflow's triggerer, without and with
a rule that reads their learning curves. Then Airflow's database holds the same triggers as deferred
tasks, and `airflow triggerer` runs them. Its CPU time is that of both its processes, minus their
CPU time without deferred tasks. The local AWS counts the calls.
benchmarks/machines/waiting_trials.py makes the trials.

Each of the six measurements takes 60 s by default, so each heartbeat is due once. What a trigger
reads only once (the spec, earlier evaluations) is read before the measurement begins.
"""

import argparse
import asyncio
import json
import logging
import math
import resource
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.account.local_aws_runs import INSIDE, local_aws, measure_inside, say
from benchmarks.machines.airflow_triggerer import deferred, running_triggerer
from benchmarks.machines.waiting_trials import CURVE, Waiting, waiting_trials
from laptop.figures.records import write_record
from laptop.figures.tables import newest_table

COUNTS = (100, 1000)
#: Between looks, seconds: as the tasks have it.
DELAY_S = 5.0
WARM_UP_MOST_S, WARM_UP_STEP_S = 300.0, 5.0
#: So long after its start a triggerer has nothing to do any more but to look whether there is
#: something to do.
IDLE_AFTER_S = 40.0
#: So long its triggers wait, once they are warm, before they are measured: taking them on still
#: occupies it for a while.
TOLD_AFTER_S = 70.0
OBJECTIVE_MS_PER_100 = 50.0
DESCRIBE, LIST, GET = ACTIONS = ("ec2:DescribeInstances", "s3:ListBucket", "s3:GetObject")


def measure(seconds: float) -> list[dict[str, Any]]:
    """Measure each count, one after another, with the same machines; the idle triggerer beside the
    first, as both hardly work.
    """
    with ThreadPoolExecutor(1) as beside, waiting_trials(COUNTS) as waiting:
        idle = beside.submit(_measure_idle, seconds)
        found = [measured for one in waiting for measured in asyncio.run(_in_a_loop(one, seconds))]
        return found + [_in_airflow(one, seconds, idle.result()) for one in waiting]


async def _in_a_loop(waiting: Waiting, seconds: float) -> list[dict[str, Any]]:
    """Let one event loop run them, without and with learning curves."""
    return [
        {
            "trials": len(waiting.plan.trials),
            "learning_curves": curves,
            "in": "an event loop",
            **await _wait(waiting.triggers(DELAY_S, stops_early=curves), seconds, curves=curves),
        }
        for curves in (False, True)
    ]


async def _wait(triggers: list[Any], seconds: float, *, curves: bool) -> dict[str, Any]:
    """Run the triggers, and measure once what is read once was read."""
    calls = count_calls()
    waiting = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
    await asyncio.to_thread(
        _warm_up, len(triggers), calls, 1 + len(triggers) * len(CURVE) if curves else 0
    )
    before, cpu, began = count_calls(), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu_s, wall_s, after = time.process_time() - cpu, time.monotonic() - began, count_calls()
    fired = sum(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {
        "seconds": round(wall_s, 1),
        "fired": fired,
        **per_poll(len(triggers), cpu_s, before, after),
        "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _measure_idle(seconds: float) -> float:
    """Let `airflow triggerer` run nothing. :return: CPU seconds a second."""
    with running_triggerer() as triggerer:
        time.sleep(IDLE_AFTER_S)
        cpu, began = triggerer.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (triggerer.cpu_s() - cpu) / (time.monotonic() - began)


def _in_airflow(waiting: Waiting, seconds: float, idle: float) -> dict[str, Any]:
    """Let `airflow triggerer` run them."""
    count, triggers = len(waiting.plan.trials), waiting.triggers(DELAY_S, stops_early=True)
    calls = count_calls()
    with deferred(triggers), running_triggerer() as triggerer:
        _warm_up(count, calls, 1 + count * len(CURVE))
        time.sleep(TOLD_AFTER_S)
        before, cpu, began = count_calls(), triggerer.cpu_s(), time.monotonic()
        time.sleep(seconds)
        cpu_s, wall_s, after = triggerer.cpu_s() - cpu, time.monotonic() - began, count_calls()
        return {
            "trials": count,
            "learning_curves": True,
            "in": "airflow triggerer",
            "seconds": round(wall_s, 1),
            "idle_cpu_ms_per_s": round(1000 * idle, 1),
            **per_poll(count, cpu_s - idle * wall_s, before, after),
            "memory_mib": triggerer.memory_mib(),
        }


def _warm_up(count: int, before: Mapping[str, int], least: int) -> None:
    """Wait until all poll, have read at least so many objects, and read no more than what changes
    meanwhile.
    """
    most, last, began = 20 + count // 5, 0, time.monotonic()
    while True:
        time.sleep(WARM_UP_STEP_S)
        now = count_calls()
        polls, read = (
            now.get(DESCRIBE, 0) - before.get(DESCRIBE, 0),
            now.get(GET, 0) - before.get(GET, 0),
        )
        if polls > 2 * math.ceil(count / 200) and read >= least and read - last <= most:
            say(f"{count} trials: warm after {time.monotonic() - began:.0f} s")
            return
        if time.monotonic() - began > WARM_UP_MOST_S:
            sys.exit(
                f"error: {polls} polls and {read} of {least} objects read after "
                f"{WARM_UP_MOST_S:.0f} s"
            )
        last = read


def per_poll(
    count: int, cpu_s: float, before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, Any]:
    """What was spent, and what that is for each look at all trials, which is a DescribeInstances
    for each thousand.
    """
    calls = {name: after.get(name, 0) - before.get(name, 0) for name in ACTIONS}
    polls = round(calls[DESCRIBE] / math.ceil(count / 1000))
    ms = 1000 * cpu_s / max(1, polls)
    return {
        "polls": polls,
        "cpu_s": round(cpu_s, 2),
        "cpu_ms_per_poll": round(ms, 1),
        "cpu_ms_per_poll_of_100": round(ms * 100 / count, 1),
        "calls": calls,
        "calls_per_poll": {name: round(n / max(1, polls), 2) for name, n in calls.items()},
    }


def count_calls() -> dict[str, int]:
    """What the local AWS has counted of the launcher's calls."""
    usage = local_aws("status")["usage"]
    return {
        one["action"]: one["count"]
        for one in usage
        if one["role"].endswith("-launcher") and one["decision"] == "allowed"
    }


def main(arguments: list[str]) -> int:
    """Measure, or print the newest record as a table.
    :return: 0, 1 if a poll took more CPU than it may, 2 on bad input.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "seconds", nargs="?", type=int, default=60, help="of each measurement, 10 at least"
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="print the newest record as Markdown, and measure nothing",
    )
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.seconds < 10:
        parser.error(f"seconds must be 10 at least, not {options.seconds}")
    if options.table:
        print(newest_table("triggerer_load"))
        return 0
    if options.inside:
        logging.disable(logging.INFO)
        print(json.dumps(measure(options.seconds)))
        return 0
    began = time.monotonic()
    result = measure_inside("benchmarks.machines.triggerer_load", str(options.seconds))
    print(
        write_record("triggerer-load", result),
        f"after {time.monotonic() - began:.0f} s",
        file=sys.stderr,
    )
    print(json.dumps(result, indent=1), file=sys.stderr)
    worst = max(one["cpu_ms_per_poll_of_100"] for one in result)
    if worst > OBJECTIVE_MS_PER_100:
        print(
            f"error: {worst} ms of CPU per poll of 100 trials, and {OBJECTIVE_MS_PER_100:g} are "
            "promised",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
