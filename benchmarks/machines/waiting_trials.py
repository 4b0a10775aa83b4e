"""Many trials that wait, on the local AWS: what the load of a triggerer is measured with.

Thirty-two machines are real instances (the account's quota), which the trials share: a machine that
runs costs a poll nothing, because EC2 is only asked for those that do not. One of them writes the
heartbeats of all trials, each every 40 s, and in a tenth of them a segment ends in each minute. The
trials are twenty minutes old, so that each of their heartbeats is due once a minute. Each has three
policies that were played on the selection seeds, so that it has a learning curve, and a rule by
which it might be stopped early, and is not.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from benchmarks.account.local_aws_runs import local_aws, say

REAL_MACHINES = 32
#: Since when the trials train, how often each says something, and how long its segments are, in
#: steps and in seconds.
AGE, BEAT_EVERY_S, SEGMENT, SEGMENT_S = timedelta(minutes=20), 40.0, 40_960, 600.0
EPISODES, CURVE = 20, (40_960, 81_920, 122_880)
EXPERIMENT: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 10**9,
    "trials": 1,
    "checkpoint_every": SEGMENT,
    "schedule": None,
    "early_stop": {"target_above": 499},
    "compute": {"market": "spot", "max_hours": 10, "budget_usd": 100},
    "evaluation": {"return_range": [0, 500], "crash_below": 100, "selection_episodes": EPISODES},
}
#: User data of the machine that writes the files of all trials; only machines write heartbeats.
SPEAKER = """#!/bin/sh
exec python3 - <<'PY'
import datetime, json, time, boto3
s3 = boto3.client("s3", region_name="eu-west-1")
step, every = 0, {every}

def put(key, *lines):
    body = "".join(json.dumps(line) + "\\n" for line in lines)
    s3.put_object(Bucket="{bucket}", Key=key, Body=body.encode())

trials = [
    (f"load/load-{{count}}/seed-{{number}}", {segment} * number // count)
    for count in {counts}
    for number in range(count)
]
while True:
    for place, ahead in trials:
        began, segment = time.monotonic(), (step + ahead) // {segment}
        if segment > max(0, step - {steps} + ahead) // {segment}:  # a segment has ended
            end = segment * {segment}
            put(f"metrics/{{place}}/{{end:012d}}.jsonl", dict(step=end))
            lines = [dict(message=f"segment {{number}}") for number in range(segment)]
            put(f"logs/{{place}}/0001/trainer.jsonl", *lines)
        put(f"heartbeats/{{place}}.json", dict(
            schema_version=1, attempt=1, state="training", step=step + ahead,
            total_timesteps=10**9, steps_per_s=1000.0, segment=segment,
            at=datetime.datetime.now(datetime.timezone.utc).isoformat()))
        if step:  # the first round does not wait, so that all files exist soon
            time.sleep(max(0.0, every / len(trials) - (time.monotonic() - began)))
    step += {steps}
PY
"""
WAITER = "#!/bin/sh\nexec sleep 3600\n"
LAUNCH = """
import boto3, json, sys
ec2, profile = boto3.client("ec2"), "nightshift-dev-trainer"
image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
made = []
for count, user_data in ((1, sys.argv[2]), (int(sys.argv[1]) - 1, sys.argv[3])):
    made += ec2.run_instances(
        ImageId=image, InstanceType="t3.micro", MinCount=count, MaxCount=count,
        UserData=user_data, IamInstanceProfile={"Name": profile},
    )["Instances"]
print(json.dumps([one["InstanceId"] for one in made]))
"""
#: Writes its last argument to each key that it reads from stdin. It removes the bucket's policy
#: while it writes, because the policy lets only the evaluator write these keys.
PUT_ALL = """
import boto3, sys
from concurrent.futures import ThreadPoolExecutor
s3, bucket, keys = boto3.client("s3"), sys.argv[1], sys.stdin.read().split()
policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
s3.delete_bucket_policy(Bucket=bucket)
body = sys.argv[2].encode()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=body), keys))
s3.put_bucket_policy(Bucket=bucket, Policy=policy)
"""


class Waiting:
    """The waiting trials of one run, and the machines that they share."""

    def __init__(self, plan: Any, machines: list[str]) -> None:
        self.plan, self.machines = plan, machines

    def triggers(self, delay_s: float, *, stops_early: bool) -> list[Any]:
        """Make their triggers, of what the tasks know when they defer now.
        :param stops_early: whether they look at their curves.
        """
        from rl_airflow.trials.log_relay import LogPosition
        from rl_airflow.trials.trigger import Ec2TrialTrigger
        from rl_lifecycle.storage.layout import TrialId, heartbeat_key
        from rl_lifecycle.storage.object_store import get
        from rl_lifecycle.trials.heartbeats import Heartbeat

        plan, made = self.plan, []
        store = plan.store(plan.session("launcher"))
        for number, trial in enumerate(plan.trials):
            place = TrialId(plan.experiment, plan.run, trial)
            beat = Heartbeat.from_json(get(store, heartbeat_key(place)).data)
            evidence = _evidence(
                place, self.machines[number % len(self.machines)], beat, stops_early=stops_early
            )
            made.append(
                Ec2TrialTrigger.of(
                    plan,
                    trial,
                    evidence,
                    LogPosition(attempt=1, segment=beat.segment),
                    waiter_delay=delay_s,
                )
            )
        return made


@contextmanager
def waiting_trials(counts: tuple[int, ...]) -> Iterator[list[Waiting]]:
    """Let runs of so many trials wait, on the same machines, which are ended afterwards."""
    plan = _freeze()
    machines = _launch(REAL_MACHINES, plan.bucket, counts)
    try:
        yield [_prepare(count, plan, machines) for count in counts]
    finally:
        code = (
            "import boto3, sys; boto3.client('ec2').terminate_instances(InstanceIds=sys.argv[1:])"
        )
        subprocess.run([sys.executable, "-c", code, *machines], check=True, env=_administrator())


def _freeze() -> Any:
    """Freeze a spec, as a night does; the runs of many trials share it."""
    from rl_airflow.run.run_resources import RunPlan
    from rl_airflow.run.spec_operator import PLAN_KEY, S3FreezeSpecOperator
    from rl_lifecycle.experiment.experiment import read_experiment

    pushed: dict[str, Any] = {}
    context: Any = {
        "ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value})),
        "params": {},
        "run_id": "load",
        "dag_run": SimpleNamespace(conf=None),
    }
    experiment = read_experiment(EXPERIMENT, "load").model_dump(mode="json")
    S3FreezeSpecOperator(
        task_id="freeze", experiment=experiment, folder="", with_form=False
    ).execute(context)
    return RunPlan.model_validate(pushed[PLAN_KEY])


def _launch(count: int, bucket: str, counts: tuple[int, ...]) -> list[str]:
    """Start small machines as the account's administrator: one speaks for all trials, the others
    only wait.
    """
    speaker = SPEAKER.format(
        bucket=bucket,
        counts=counts,
        every=BEAT_EVERY_S,
        segment=SEGMENT,
        steps=round(SEGMENT * BEAT_EVERY_S / SEGMENT_S),
    )
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, str(count), speaker, WAITER],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env=_administrator(),
    )
    made: list[str] = json.loads(done.stdout.splitlines()[-1])
    return made


def _prepare(count: int, frozen: Any, machines: list[str]) -> Waiting:
    """Write the learning curves, and wait for the first heartbeats."""
    plan = frozen.model_copy(
        update={
            "run": f"load-{count}",
            "trials": tuple(f"seed-{number}" for number in range(count)),
        }
    )
    _write_curves(plan)
    store = plan.store(plan.session("launcher"))
    until = time.monotonic() + 600
    while (there := sum(1 for _ in store.list(f"heartbeats/load/{plan.run}/"))) < count:
        if time.monotonic() > until:
            sys.exit(f"error: only {there} of {count} heartbeats after 600 s")
        time.sleep(2)
    say(f"{len(machines)} machines run, {count} trials have a heartbeat and a curve")
    return Waiting(plan, machines)


def _write_curves(plan: Any) -> None:
    from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
    from rl_lifecycle.evaluation.selection import selection_name
    from rl_lifecycle.storage.layout import shard_key

    shard = Shard(
        env_id="CartPole-v1",
        policy_sha256="0" * 64,
        first_seed=0,
        returns=(300.0,) * EPISODES,
        lengths=(300,) * EPISODES,
        ends=(EpisodeEnd.TERMINATED,) * EPISODES,
        steps=300 * EPISODES,
        seconds=1.0,
    )
    keys = [
        shard_key(plan.experiment, plan.run, selection_name(trial, step), 0)
        for trial in plan.trials
        for step in CURVE
    ]
    subprocess.run(
        [sys.executable, "-c", PUT_ALL, plan.bucket, shard.to_json().decode()],
        input="\n".join(keys),
        text=True,
        check=True,
        env=_administrator(),
    )


def _evidence(place: Any, instance_id: str, beat: Any, *, stops_early: bool) -> Any:
    """What a task knows when it defers: a machine that has trained for a while."""
    from rl_lifecycle.experiment.compute_settings import Compute
    from rl_lifecycle.machines.machine_attempts import Attempt, AttemptOutcome, client_token
    from rl_lifecycle.trials.evidence import Evidence

    now = datetime.now(UTC)
    attempt = Attempt(
        experiment=place.experiment,
        run=place.run,
        trial=place.trial,
        attempt=1,
        token=client_token(place, 1),
        nonce="n",
        request={},
        created_at=now - AGE,
        deadline_at=now + timedelta(hours=4),
        price_reserved_usd=0.1,
        outcome=AttemptOutcome(
            instance_id=instance_id,
            instance_type="c7i.large",
            market="spot",
            zone="a",
            launched_at=now - AGE,
        ),
    )
    return Evidence(
        now=now,
        total_timesteps=10**9,
        segment_timesteps=SEGMENT,
        compute=Compute(),
        attempts=(attempt,),
        heartbeat=beat,
        stops_early=stops_early,
    )


def _administrator() -> dict[str, str]:
    """Give the environment of the account's administrator."""
    return {
        **os.environ,
        **{
            name: str(value)
            for name, value in local_aws("env", "--as", "administrator")["set"].items()
        },
    }
