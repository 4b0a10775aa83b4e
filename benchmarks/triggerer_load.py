"""What waiting trials cost one triggerer, on the local AWS: calls, CPU and memory, with 100 and with 1,000 of them.

The pipeline's own triggers run in one event loop, as Airflow's triggerer runs them. Thirty-two machines are real instances (the
account's quota); the other trials have attempts and heartbeats, and EC2 does not know their machines. One of the machines
writes the heartbeats of all trials, each every 15 seconds. Calls are counted by the local AWS itself.

python -m benchmarks.triggerer_load [SECONDS]       # of each measurement; 60 by default
"""

import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.records import write_record
from benchmarks.twin_runs import INSIDE, local_aws, measure_inside, say

COUNTS = (100, 1000)
REAL_MACHINES = 32
#: Between looks, seconds; and since when the trials train.
DELAY_S, AGE = 5.0, timedelta(hours=1)
#: How often each trial says something, seconds: as a machine does in its later hours.
BEAT_EVERY_S = 15.0
WARM_UP_MOST_S = 300.0
OBJECTIVE_MS_PER_100 = 50.0
ACTIONS = ("ec2:DescribeInstances", "s3:ListBucket", "s3:GetObject", "sts:AssumeRole")
#: What the machine runs that speaks for all: nobody but a machine may write a heartbeat.
SPEAKER = """#!/bin/sh
exec python3 - <<'PY'
import datetime, json, time, boto3
s3 = boto3.client("s3", region_name="eu-west-1")
step, bucket, every = 0, "{bucket}", {every}
keys = [f"heartbeats/load/load-{{count}}/seed-{{number}}.json" for count in {counts} for number in range(count)]
while True:
    for key in keys:
        began = time.monotonic()
        beat = dict(schema_version=1, attempt=1, state="training", step=step, total_timesteps=10**9, steps_per_s=1000.0,
                    at=datetime.datetime.now(datetime.timezone.utc).isoformat(), segment=step // 40960)
        s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(beat).encode())
        time.sleep(max(0.0, every / len(keys) - (time.monotonic() - began)))
    step += 1000
PY
"""
WAITER = "#!/bin/sh\nexec sleep 3600\n"
LAUNCH = """
import boto3, json, sys
ec2, profile = boto3.client("ec2"), "nightshift-dev-trainer"
image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
made = []
for count, user_data in ((1, sys.argv[2]), (int(sys.argv[1]) - 1, sys.argv[3])):
    made += ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=count, MaxCount=count, UserData=user_data,
                              IamInstanceProfile={"Name": profile})["Instances"]
print(json.dumps([one["InstanceId"] for one in made]))
"""


def measure(seconds: float) -> list[dict[str, Any]]:
    """Measure each count, one after another, with the same machines."""
    from rl_airflow.places import find_place

    place = find_place("dev")
    machines = _launch(REAL_MACHINES, place.bucket)
    try:
        return [_measure(count, seconds, *_prepare(count, place, machines)) for count in COUNTS]
    finally:
        _end(machines)


def _prepare(count: int, place: Any, machines: list[str]) -> tuple[Any, list[str], list[dict[str, Any]]]:
    """Wait for the first heartbeats, and say what the tasks knew."""
    from rl_airflow.run_plan import RunPlan
    from rl_lifecycle.records import sha256_hex
    from rl_lifecycle.specs import Artifact

    trials = [f"seed-{number}" for number in range(count)]
    plan = RunPlan(
        environment="dev", region_name=None, bucket=place.bucket, experiment="load", run=f"load-{count}", trials=tuple(trials),
        spec=Artifact(key=f"specs/load/load-{count}/spec.json", sha256=sha256_hex(b"")), launch_template_id=place.launch_template_id,
        launch_template_version=place.launch_template_version, subnet_ids=place.subnet_ids, evaluator=place.evaluator)
    store = plan.store(plan.session(None))
    until = time.monotonic() + 600
    while (there := sum(1 for _ in store.list(f"heartbeats/load/load-{count}/"))) < count:
        if time.monotonic() > until:
            sys.exit(f"error: only {there} of {count} heartbeats after 600 s")
        time.sleep(2)
    ids = machines + [f"i-{number:017x}" for number in range(count - len(machines))]
    say(f"{len(machines)} machines run, {count} trials have a heartbeat")
    return plan, trials, [_evidence(plan.run, trial, instance_id) for trial, instance_id in zip(trials, ids, strict=True)]


def _launch(count: int, bucket: str) -> list[str]:
    """Start small machines as the account's administrator: one speaks for all trials, the others only wait."""
    speaker = SPEAKER.format(bucket=bucket, counts=COUNTS, every=BEAT_EVERY_S)
    done = subprocess.run([sys.executable, "-c", LAUNCH, str(count), speaker, WAITER], check=True, text=True,
                          stdout=subprocess.PIPE, env=_environment("administrator"))
    made: list[str] = json.loads(done.stdout.splitlines()[-1])
    return made


def _end(machines: list[str]) -> None:
    """Terminate them, as the administrator."""
    code = "import boto3, sys; boto3.client('ec2').terminate_instances(InstanceIds=sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *machines], check=True, env=_environment("administrator"))


def _evidence(run: str, trial: str, instance_id: str) -> dict[str, Any]:
    """What a task knew when it deferred: a machine that has trained for an hour."""
    from rl_lifecycle.attempts import Attempt, Outcome, client_token
    from rl_lifecycle.evidence import Evidence, Patience
    from rl_lifecycle.experiments import Compute
    from rl_lifecycle.layout import TrialId

    now = datetime.now(UTC)
    attempt = Attempt(
        experiment="load", run=run, trial=trial, attempt=1, token=client_token(TrialId("load", run, trial), 1), nonce="n",
        request={}, created_at=now - AGE, deadline_at=now + timedelta(hours=4), price_reserved_usd=0.1,
        outcome=Outcome(instance_id=instance_id, instance_type="c7i.large", market="spot", zone="a", launched_at=now - AGE))
    return Evidence(now=now, total_timesteps=10**9, segment_timesteps=40_960, compute=Compute(), attempts=(attempt,),
                    patience=Patience(visible_s=10**6)).model_dump(mode="json")


def _measure(count: int, seconds: float, plan: Any, trials: list[str], evidence: list[dict[str, Any]]) -> dict[str, Any]:
    """Let so many triggers wait for a while, and see what it took."""
    from rl_airflow.triggers.trials import Ec2TrialTrigger

    triggers = [Ec2TrialTrigger(plan=plan.to_xcom(), trial=trial, evidence=one, waiter_delay=DELAY_S)
                for trial, one in zip(trials, evidence, strict=False)]
    return {"trials": count, **asyncio.run(_wait(triggers, seconds))}


async def _wait(triggers: list[Any], seconds: float) -> dict[str, Any]:
    """Run the triggers, and measure once every heartbeat was read a first time."""
    polls: list[int] = []
    _count_polls(polls)
    waiting = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
    until = time.monotonic() + WARM_UP_MOST_S
    while (not polls or polls[-1] < len(triggers)) and time.monotonic() < until:
        await asyncio.sleep(1)
    polls.clear()
    before, cpu, began = _calls(), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu_s, wall_s, after = time.process_time() - cpu, time.monotonic() - began, _calls()
    fired = sum(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    per_poll_ms = 1000 * cpu_s / max(1, len(polls))
    return {"seconds": round(wall_s, 1), "polls": len(polls), "fired": fired, "cpu_s": round(cpu_s, 2),
            "cpu_ms_per_poll": round(per_poll_ms, 1), "cpu_ms_per_poll_of_100": round(per_poll_ms * 100 / len(triggers), 1),
            "calls": {name: after.get(name, 0) - before.get(name, 0) for name in ACTIONS},
            "calls_per_poll": {name: round((after.get(name, 0) - before.get(name, 0)) / max(1, len(polls)), 2) for name in ACTIONS},
            "memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


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


def _calls() -> dict[str, int]:
    """What the local AWS has counted of the launcher's calls."""
    usage = local_aws("status")["usage"]
    return {one["action"]: one["count"] for one in usage if one["role"].endswith("-launcher") and one["decision"] == "allowed"}


def _environment(role: str) -> dict[str, str]:
    """Give this process's environment as another role."""
    return {**os.environ, **{name: str(value) for name, value in local_aws("env", "--as", role)["set"].items()}}


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
