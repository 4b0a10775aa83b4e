"""Every cause of a machine's end, with a real machine on the local AWS.

    python -m benchmarks.machines.causes [HOW …]

HOW is a name in EXPECTED; the default is all of them. The command compares the cause that the
pipeline records with the expected one, and exits with 1 where they differ. Part of `make soak`.

An environment in a user's wheel breaks on purpose: it raises, asks for too much memory, writes to a
full disk, hangs, or gives rewards that make the parameters NaN. Other machines are killed, get a
spot notice, or end without notice after a rebalance recommendation. The last machine hangs while
nothing supervises it, as when Airflow is gone for good; the timer in the machine must end it at its
deadline. In all other cases the pipeline's own supervisor watches, but waits for less time.
"""

import base64
import hashlib
import io
import json
import logging
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.account.local_aws_runs import INSIDE, local_aws, measure_inside, say

#: What breaks → how the trial must end, and words that its log or reason must hold.
EXPECTED: dict[str, tuple[str, str]] = {
    "bug": ("code_failed", "the arm is not attached"),
    "memory": ("out_of_memory", "memory"),
    "disk": ("disk_full", "space"),
    "nan": ("diverged", "not finite"),
    "hang": ("stalled", "has not moved"),
    "kill": ("machine_lost", ""),
    "notice": ("interrupted", ""),
    "rebalance": ("interrupted", "had recommended leaving it"),
    "abandoned": ("deadline", "the machine reached its deadline"),
}
#: What happens to a machine that trains, which it must not have ended before.
STRUCK = ("kill", "notice", "rebalance")
#: All the hours that the abandoned machine has: a minute, which is the shortest that its timer
#: counts.
SHORT_HOURS = 1 / 60
#: So long a trial may take until its first attempt has ended, seconds.
PATIENCE_S = 600.0
ENVIRONMENT = '''
import errno
import time

import gymnasium as gym
import numpy as np


class Breaking(gym.Env):
    """Breaks after 2,000 steps, in the way that `how` names."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how):
        self.how, self.steps = how, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = 1.0
        if self.steps > 2000:
            if self.how == "bug":
                raise ValueError("the arm is not attached")
            if self.how == "memory":
                np.ones(2**46)
            if self.how == "disk":
                with open("/dev/full", "wb", buffering=0) as full:
                    full.write(b"x")
            if self.how in ("hang", "abandoned"):
                time.sleep(10**6)
            if self.how == "nan":
                reward = float("inf")
        observation = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return observation, reward, False, self.steps % 50 == 0, {}


gym.register("Breaking-v0", entry_point="breaking_env:Breaking", max_episode_steps=50)
'''


def write_wheel(folder: Path) -> str:
    """Write the environment's wheel. :return: its file name."""
    files = {
        "breaking_env.py": ENVIRONMENT.encode(),
        "breaking_env-1.0.dist-info/METADATA": (
            b"Metadata-Version: 2.1\nName: breaking-env\nVersion: 1.0\n"
        ),
        "breaking_env-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: causes\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files["breaking_env-1.0.dist-info/RECORD"] = (
        record + "breaking_env-1.0.dist-info/RECORD,,\n"
    ).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    (folder / "breaking_env-1.0-py3-none-any.whl").write_bytes(buffer.getvalue())
    return "breaking_env-1.0-py3-none-any.whl"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def run_all(kinds: list[str]) -> list[dict[str, Any]]:
    """Let each break once, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = write_wheel(Path(folder))
        return [_run(how, folder, wheel) for how in kinds]


def _run(how: str, folder: str, wheel: str) -> dict[str, Any]:
    from rl_airflow.run.spec_operator import PLAN_KEY, S3FreezeSpecOperator
    from rl_airflow.trials.operators import Ec2TerminateRunOperator
    from rl_lifecycle.experiment.experiment import read_experiment

    experiment = read_experiment(
        {
            "env_id": "breaking_env:Breaking-v0",
            "env_kwargs": {"how": how},
            "requirements": [wheel],
            "algo": "ppo",
            "total_timesteps": 2_000_000 if how in STRUCK else 40_000,
            "trials": 1,
            "checkpoint_every": 2048,
            "schedule": None,
            "hyperparameters": {"n_envs": 1, "n_steps": 512},
            "compute": {
                "market": "spot",
                "max_hours": SHORT_HOURS if how == "abandoned" else 1,
                "budget_usd": 1,
            },
            "evaluation": {"return_range": [0, 50], "crash_below": 1},
        },
        "causes",
    ).model_dump(mode="json")
    pushed: dict[str, Any] = {}
    context: Any = {
        "ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value})),
        "params": {},
        "run_id": f"{how}-{datetime.now(UTC):%H%M%S}",
        "dag_run": SimpleNamespace(conf=None),
    }
    S3FreezeSpecOperator(
        task_id="freeze", experiment=experiment, folder=folder, with_form=False
    ).execute(context)
    plan = pushed[PLAN_KEY]
    try:
        found = _await_first_end(plan, how)
    finally:
        left = Ec2TerminateRunOperator(task_id="terminate", plan=plan).execute(context)[
            "instances_left"
        ]
    end, words = EXPECTED[how]
    good = found["end"] == end and words in found["told"] and not left
    say(
        f"{how}: {found['end']} ({found['reason']}), instances left {len(left)}: "
        f"{'as it should' if good else 'WRONG'}"
    )
    return {
        "broken": how,
        "good": good,
        "expected": end,
        **{name: found[name] for name in ("end", "reason", "seconds")},
    }


def _await_first_end(plan: dict[str, Any], how: str) -> dict[str, Any]:
    """Supervise until the first machine's end is written down."""
    from rl_airflow.run.run_resources import RunPlan
    from rl_airflow.trials.operators import Ec2AwaitTrialOperator
    from rl_airflow.trials.progress_reports import read_log_tail
    from rl_lifecycle.trials.evidence import Patience, track_progress

    run = RunPlan.model_validate(plan)
    supervisor = Ec2AwaitTrialOperator(task_id="await", plan=plan, trial="seed-0")._supervisor(
        run, "seed-0"
    )
    supervisor.patience = Patience(boot_s=300.0, stall_s=20.0, stall_segments=1.0)
    progress, began, struck = None, time.monotonic(), False
    while time.monotonic() - began < PATIENCE_S:
        _, evidence = supervisor.advance(progress)
        progress = track_progress(progress, evidence.beat, evidence.now, evidence.committed_step)
        first = evidence.attempts[0].outcome
        if how == "abandoned" and first.end is None and first.instance_id is not None:
            _await_its_own_end(supervisor.machines, first.instance_id)
        if first.end is not None:
            only = evidence.model_copy(update={"attempts": evidence.attempts[:1]})
            tail = read_log_tail(supervisor.store, supervisor.trial, only)
            return {
                "end": str(first.end),
                "reason": first.reason[:300],
                "told": "\n".join((first.reason, *tail)),
                "seconds": round(time.monotonic() - began, 1),
            }
        if how == "rebalance" and first.instance_id is not None:
            struck = _recommend_then_take(first.instance_id, evidence, struck=struck)
        if how in ("kill", "notice") and not struck and evidence.committed_step > 0:
            fault = ("interrupt", "notice_s=120") if how == "notice" else ("kill",)
            local_aws("fault", "add", *fault, f"instance={first.instance_id}")
            struck = True
        time.sleep(1)
    return {"end": "none", "reason": "no end was seen", "told": "", "seconds": PATIENCE_S}


def _recommend_then_take(instance_id: str, evidence: Any, *, struck: bool) -> bool:
    """Recommend leaving a machine that trains; take it without notice when its trainer has said so.
    :return: whether it was struck.
    """
    if not struck and evidence.committed_step > 0:
        local_aws("fault", "add", "rebalance", f"instance={instance_id}")
        return True
    alive = evidence.machine is not None and evidence.machine.state.alive
    if struck and alive and evidence.beat is not None and evidence.beat.rebalance_at is not None:
        local_aws("fault", "add", "interrupt", "notice_s=0", f"instance={instance_id}")
    return struck


def _await_its_own_end(machines: Any, instance_id: str) -> None:
    """Do nothing but look until a machine is gone."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = machines.describe([instance_id]).get(instance_id)
        if found is not None and not found.state.alive:
            return
        time.sleep(1)


def main(arguments: list[str]) -> int:
    """Break everything, or what is named.
    :return: 0, 1 if an end was taken for another, 2 on bad input.
    """
    named = [one for one in arguments if one != INSIDE]
    if unknown := [one for one in named if one not in EXPECTED]:
        print(f"error: unknown {', '.join(unknown)}; known: {', '.join(EXPECTED)}", file=sys.stderr)
        return 2
    if INSIDE in arguments:
        logging.disable(logging.WARNING)
        print(json.dumps(run_all(named or list(EXPECTED))))
        return 0
    wrong = [one for one in measure_inside("benchmarks.machines.causes", *named) if not one["good"]]
    for one in wrong:
        print(
            f"error: {one['broken']} was taken for {one['end']}, not {one['expected']}: "
            f"{one['reason']}",
            file=sys.stderr,
        )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
