"""How long a machine takes to its first training step, and how long its replacement takes.

    python -m benchmarks.machines.recovery [ROUNDS]      # interruptions of each kind; 4 by default

On the local AWS, the pipeline's own operators launch and await trials of CartPole. They wait in
this process (`deferrable=False`), so the figures do not include Airflow's scheduler. Half of the
machines get a real spot notice, and half are killed without one. Installs and imports are reported
apart from the total, from the log of the machine: on the local AWS they take the laptop's time.
"""

import json
import statistics
import sys
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from benchmarks.account.local_aws_runs import INSIDE, local_aws, measure_inside, say
from laptop.figures.records import write_record

#: What is promised beyond installs and imports, seconds.
FIRST_STEP_S, NEXT_STEP_S = 6.0, 8.0
KINDS = ("notice", "kill")
#: How long a whole trial may take before the measurement is given up, seconds.
PATIENCE_S = 300.0
EXPERIMENT: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 245_760,
    "trials": 1,
    "checkpoint_every": 40_960,
    "schedule": None,
    "compute": {"market": "spot", "max_hours": 1, "budget_usd": 1},
    "evaluation": {"return_range": [0, 500], "crash_below": 100},
}


class _Ti:
    """Takes the XComs of an operator."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep one."""
        self.pushed[key] = value


def measure(rounds: int) -> dict[str, Any]:
    """Interrupt so many machines of each kind, each in a trial of its own."""
    found = [_measure_round(kind, number) for number in range(rounds) for kind in KINDS]
    return {
        "rounds": found,
        "summary": {
            "launch_to_first_step": _summary([one["launch"] for one in found], FIRST_STEP_S),
            **{
                f"{kind}_to_next_step": _summary(
                    [one["interruption"] for one in found if one["kind"] == kind], NEXT_STEP_S
                )
                for kind in KINDS
            },
            "steps_lost": {
                kind: [one["steps_lost"] for one in found if one["kind"] == kind] for kind in KINDS
            },
        },
    }


def _measure_round(kind: str, number: int) -> dict[str, Any]:
    from rl_airflow.run.run_resources import RunPlan
    from rl_airflow.run.spec_operator import PLAN_KEY, S3FreezeSpecOperator
    from rl_airflow.trials.operators import (
        Ec2AwaitTrialOperator,
        Ec2LaunchTrialOperator,
        Ec2TerminateRunOperator,
    )
    from rl_lifecycle.experiment.experiment import read_experiment

    experiment = read_experiment(EXPERIMENT, "recovery").model_dump(mode="json")
    ti = _Ti()
    run_id = f"{kind}-{number}-{datetime.now(UTC):%H%M%S}"
    context: Any = {"ti": ti, "params": {}, "run_id": run_id, "dag_run": SimpleNamespace(conf=None)}
    S3FreezeSpecOperator(
        task_id="freeze", experiment=experiment, folder="", with_form=False
    ).execute(context)
    plan = ti.pushed[PLAN_KEY]
    try:
        Ec2LaunchTrialOperator(task_id="launch", plan=plan, trial="seed-0").execute(context)
        striker = _Striker(RunPlan.model_validate(plan), kind)
        striker.start()
        Ec2AwaitTrialOperator(task_id="await", plan=plan, trial="seed-0", deferrable=False).execute(
            context
        )
        striker.join(PATIENCE_S)
        found = _read(RunPlan.model_validate(plan), kind, striker)
    finally:
        Ec2TerminateRunOperator(task_id="terminate", plan=plan).execute(context)
    say(f"{kind}-{number}: {json.dumps(found)}")
    return found


class _Striker(threading.Thread):
    """Takes the first machine away in the middle of its third segment."""

    def __init__(self, plan: Any, kind: str) -> None:
        super().__init__(daemon=True)
        self.plan, self.kind = plan, kind
        self.struck_at: datetime | None = None

    def run(self) -> None:
        """Watch the heartbeat, then strike."""
        from rl_airflow.trials.attempt_files import AttemptFiles
        from rl_lifecycle.storage.layout import TrialId, heartbeat_key
        from rl_lifecycle.trials.heartbeats import Heartbeat

        store = self.plan.store(self.plan.session(None))
        trial = TrialId(self.plan.experiment, self.plan.run, "seed-0")
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            beat = store.find(heartbeat_key(trial))
            if beat is not None and Heartbeat.from_json(beat.data).step > 2 * 40_960:
                instance_id = AttemptFiles(store, trial).read()[0].attempt.outcome.instance_id
                fault = ("interrupt", "notice_s=120") if self.kind == "notice" else ("kill",)
                self.struck_at = datetime.now(UTC)
                local_aws("fault", "add", *fault, f"instance={instance_id}")
                return
            time.sleep(0.2)


def _read(plan: Any, kind: str, striker: _Striker) -> dict[str, Any]:
    """Read what the two machines left."""
    from rl_airflow.trials.attempt_files import AttemptFiles
    from rl_lifecycle.storage.layout import TrialId
    from rl_lifecycle.trials.recoveries import find_recoveries

    store = plan.store(plan.session(None))
    trial = TrialId(plan.experiment, plan.run, "seed-0")
    attempts = [one.attempt for one in AttemptFiles(store, trial).read()]
    recovery, struck_at = find_recoveries(attempts)[0], striker.struck_at
    if len(attempts) != 2 or struck_at is None:
        sys.exit(f"error: {kind}: {len(attempts)} attempts instead of 2; see the log above")
    lost, after = attempts[0].outcome, attempts[1].outcome
    first, second = (_startup(store, trial, number) for number in (1, 2))
    # The machine's own last word is when it stopped training; one that was killed said none.
    stopped_at = lost.notice_at if kind == "notice" and lost.notice_at else struck_at
    return {
        "kind": kind,
        "end": str(lost.end),
        "steps_lost": recovery.steps_lost,
        "seconds_from_order_to_last_word": _seconds(struck_at, lost.notice_at),
        "seconds_to_new_machine": _seconds(stopped_at, after.launched_at),
        "launch": _part(lost.launched_at, lost.first_step_at, first),
        "interruption": _part(stopped_at, after.first_step_at, second),
    }


def _startup(store: Any, trial: Any, attempt: int) -> dict[str, Any]:
    """What a machine logged of its start; its moments are its own clock's, which is this machine's
    here.
    """
    from rl_lifecycle.storage.layout import trainer_log_key

    found = store.find(trainer_log_key(trial, attempt))
    lines = [json.loads(line) for line in found.data.splitlines()] if found is not None else []
    return next(
        (
            {name: line[name] for name in ("at", "boot_s", "installs_s", "imports_s")}
            for line in lines
            if line["event"] == "imported"
        ),
        {},
    )


def _part(
    start: datetime | None, end: datetime | None, startup: dict[str, Any]
) -> dict[str, float | None]:
    """Take a way to a first step apart: until the machine's user data ran, its boot, installs,
    imports, and from there on.
    """
    total = _seconds(start, end)
    if total is None or end is None or not startup:
        return {"total_s": total, "beyond_s": None}
    last = _seconds(datetime.fromisoformat(startup["at"]), end) or 0.0
    known = {name: startup[name] for name in ("boot_s", "installs_s", "imports_s")}
    return {
        "total_s": total,
        "until_boot_s": round(total - last - sum(known.values()), 2),
        **known,
        "imports_to_step_s": last,
        "beyond_s": round(total - startup["installs_s"] - startup["imports_s"], 2),
    }


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 2)


def _summary(parts: list[dict[str, float | None]], objective_s: float) -> dict[str, Any]:
    beyond = [part["beyond_s"] for part in parts if part["beyond_s"] is not None]
    total = [part["total_s"] for part in parts if part["total_s"] is not None]
    return {
        "n": len(beyond),
        "median_beyond_s": round(statistics.median(beyond), 2),
        "most_beyond_s": max(beyond),
        "median_total_s": round(statistics.median(total), 2),
        "objective_beyond_s": objective_s,
        "within_objective": sum(value <= objective_s for value in beyond),
    }


def main(arguments: list[str]) -> int:
    """Measure. :return: 0, 2 on bad input."""
    inside, rest = INSIDE in arguments, [one for one in arguments if one != INSIDE]
    rounds = rest[0] if rest else "4"
    if not rounds.isdigit() or int(rounds) < 1:
        print(f"error: rounds must be a positive number, not {rounds}", file=sys.stderr)
        return 2
    if inside:
        print(json.dumps(measure(int(rounds))))
        return 0
    result = measure_inside("benchmarks.machines.recovery", rounds)
    print(json.dumps(result["summary"], indent=1), file=sys.stderr)
    print(write_record("recovery", result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
