"""How fast the local AWS is.

    python -m benchmarks.account.local_aws_speed

It measures the start, the memory before any load, small and large objects, and 32 machines with 64
functions at once, each with a separate state folder. A client that takes hardly any processor time
(benchmarks/account/local_aws_client.py) measures small PUTs, over one connection and over four, in
several short rounds. The record holds the median, the best, and the server's processor time for a
round. On a machine with other work, run it with a negative niceness, which the record shows;
otherwise the other processes change the result.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from laptop.figures.records import write_record
from laptop.places import ROOT
from local_aws.machines.processes import find_marked

STARTS, ROUNDS, PUTS = 5, 7, 800
MACHINES, FUNCTIONS = 32, 64
DEADLINE_S = 600.0
SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(0.5)\n    return 1\n"


class Account:
    """A separate local AWS, and the measurements of it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        began = time.perf_counter()
        up = self.cli("up", "--pace", "steady")
        self.started_in_s = time.perf_counter() - began
        self.endpoint, self.pid, self.region, self.account_id = (
            up[k] for k in ("endpoint_url", "pid", "region", "account_id")
        )

    def cli(self, *arguments: str) -> dict[str, Any]:
        """Run a command of the local AWS. :raises SystemExit: with its own message, if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "local_aws", *arguments, "--json", "--state", str(self.state)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: local_aws {arguments[0]}: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def credentials(self) -> dict[str, str]:
        """Fetch the administrator's credentials as a container does."""
        variables = self.cli("env", "--as", "administrator")["set"]
        headers = {"Authorization": variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]}
        request = urllib.request.Request(  # noqa: S310 - loopback
            variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            found = json.loads(answer.read())
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["Token"],
        }

    def client(self, service: str) -> Any:
        """A client of a service, as the administrator."""
        found = self.credentials()
        session = boto3.Session(
            aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
            region_name=self.region,
            aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=found["AWS_SESSION_TOKEN"],
        )
        config = Config(max_pool_connections=FUNCTIONS, read_timeout=DEADLINE_S)
        return session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]

    def status(self, key: str) -> int:
        """Read a number of kilobytes from /proc."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    def cpu_s(self) -> float:
        """The server's own processor time."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


def starts() -> dict[str, Any]:
    """Start new accounts one after another: seconds until `up` answers, and megabytes before any
    load.
    """
    seconds, megabytes = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory(prefix="local-aws-bench-") as folder:
            account = Account(Path(folder) / "state")
            seconds.append(account.started_in_s)
            megabytes.append(account.status("VmRSS") / 1000)
            account.cli("down")
    return {"start_s": _of(seconds), "memory_mb": _of(megabytes)}


def objects(account: Account) -> dict[str, Any]:
    """Rounds of small PUTs over one and over four connections in turn, and of one object of 50
    MB.
    """
    found: dict[str, list[float]] = {}
    environment = {**account.credentials(), "PATH": "/usr/bin:/bin"}
    for _ in range(ROUNDS):
        for connections in (1, 4):
            before = account.cpu_s()
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.account.local_aws_client",
                    account.endpoint,
                    str(PUTS),
                    str(connections),
                ],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"error: the client failed: {done.stderr[-500:]}")
            answer = json.loads(done.stdout)
            found.setdefault(f"puts_per_s_{connections}_connections", []).append(
                answer["puts_per_s"]
            )
            found.setdefault(f"server_cpu_s_a_round_{connections}_connections", []).append(
                account.cpu_s() - before
            )
            for name in ("put_mb_per_s", "get_mb_per_s"):
                found.setdefault(name, []).append(answer[name])
    return {name: _of(values) for name, values in found.items()}


def at_once(account: Account) -> dict[str, Any]:
    """32 machines while 64 invocations run: seconds until all machines run, all functions have
    answered, all machines ended.
    """
    ec2, functions, iam = (account.client(service) for service in ("ec2", "lambda", "iam"))
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    iam.create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps(trust))
    runtime = account.cli("status")["lambda_runtimes"][0]
    functions.create_function(
        FunctionName="sleeper",
        Runtime=runtime,
        Handler="index.handler",
        Timeout=60,
        Role=f"arn:aws:iam::{account.account_id}:role/bench",
        Code={"ZipFile": _zipped(SLEEPER)},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName="sleeper")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    began = time.perf_counter()
    with ThreadPoolExecutor(FUNCTIONS) as pool:
        answers = [pool.submit(functions.invoke, FunctionName="sleeper") for _ in range(FUNCTIONS)]
        # t3.micro has two processors, and an account has 64: 32 machines are all it may have.
        machines = [
            one["InstanceId"]
            for one in ec2.run_instances(
                ImageId=image,
                InstanceType="t3.micro",
                MinCount=MACHINES,
                MaxCount=MACHINES,
                UserData="#!/bin/sh\nsleep 600\n",
            )["Instances"]
        ]
        running = _until(lambda: _states(ec2, machines) == {"running"}, began)
        errors = [answer.result().get("FunctionError") for answer in answers]
    answered = time.perf_counter() - began
    began = time.perf_counter()
    ec2.terminate_instances(InstanceIds=machines)
    ended = _until(lambda: _states(ec2, machines) == {"terminated"}, began)
    left = sum(len(find_marked("LOCAL_AWS_MACHINE", machine)) for machine in machines)
    return {
        "machines": MACHINES,
        "functions": FUNCTIONS,
        "all_machines_running_s": running,
        "all_functions_answered_s": answered,
        "all_machines_ended_s": ended,
        "function_errors": sum(error is not None for error in errors),
        "processes_left": left,
        "memory_mb_afterwards": account.status("VmRSS") / 1000,
    }


def _zipped(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", source)
    return buffer.getvalue()


def _states(ec2: Any, machines: list[str]) -> set[str]:
    found = ec2.describe_instances(InstanceIds=machines)["Reservations"]
    return {
        instance["State"]["Name"] for reservation in found for instance in reservation["Instances"]
    }


def _until(condition: Callable[[], bool], began: float) -> float:
    """Wait for a condition. :return: seconds since `began`. :raises SystemExit: after the
    deadline.
    """
    while not condition():
        if time.perf_counter() - began > DEADLINE_S:
            sys.exit(f"error: not within {DEADLINE_S:.0f} s")
        time.sleep(0.05)
    return time.perf_counter() - began


def _of(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def measure() -> dict[str, Any]:
    """Take all measurements, each in a new account."""
    result = starts() | {"niceness": os.getpriority(os.PRIO_PROCESS, 0)}
    with tempfile.TemporaryDirectory(prefix="local-aws-bench-") as folder:
        account = Account(Path(folder) / "state")
        try:
            result["objects"] = objects(account)
            result["at_once"] = at_once(account)
        finally:
            account.cli("down")
    return result


if __name__ == "__main__":
    print(write_record("local-aws-speed", measure()))
