"""2,000 LunarLander pairs through the evaluator's Lambda on the local AWS: how the fan-out scales, and the decision.

    python -m benchmarks.evaluation_fan_out [--pairs N]

Real functions with their zip and layer, asked as the pipeline asks them. How many run side by side is set by how many are
asked at once. The local AWS runs on this machine's cores, so this is no claim about AWS, where each function has its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gate_speed import ENV_ID, FIRST_SEED, GATE, train_policies
from benchmarks.records import ROOT, write_record
from rl_lifecycle.evaluations import EvaluateRequest, Shard, merge_shards
from rl_lifecycle.gates import decide
from rl_lifecycle.layout import artifact_key, shard_prefix
from rl_lifecycle.records import sha256_hex
from rl_lifecycle.specs import Artifact
from rl_lifecycle.stores import S3Store, get, put_once

#: Functions at once; the pairs of a turn grow with nothing, so the seconds compare.
WIDTHS = (1, 2, 4)
SHARD = 125
PLACE = {"experiment": "bench", "run": "fan-out"}


def main(arguments: list[str] | None = None) -> int:
    """Measure on a fresh local AWS and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args(arguments)
    if "NIGHTSHIFT_BENCH_INSIDE" in os.environ:
        sys.stdout.write(json.dumps(measure(options.pairs)) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        environment = dict(os.environ) | {"NIGHTSHIFT_STATE": folder}
        try:
            exported = json.loads(_run([sys.executable, "-c", PREPARE], environment))
            inside = environment | exported | {"NIGHTSHIFT_BENCH_INSIDE": "1"}
            done = _run([sys.executable, "-m", "benchmarks.evaluation_fan_out", "--pairs", str(options.pairs)], inside)
            sys.stdout.write(f"{write_record('evaluation-fan-out', json.loads(done.splitlines()[-1]))}\n")
        finally:
            subprocess.run([sys.executable, "-m", "laptop", "clean"], cwd=ROOT, env=environment, check=False)
    return 0


#: Brings the local AWS up with all stacks, and prints the environment of the Airflow worker there.
PREPARE = """
import json, sys
from laptop import demo, twin
twin.call("up")
demo.bootstrap(lambda line: print(line, file=sys.stderr))
print(json.dumps(demo.airflow_environment(None)))
"""


def measure(pairs: int) -> dict[str, Any]:
    """Ask for the pairs. As the Airflow worker, and as the launcher for the policies' upload."""
    from rl_airflow.places import find_place
    from rl_airflow.sessions import RoleSession

    place = find_place("dev")
    launcher = S3Store(RoleSession("launcher", "dev").client("s3"), place.bucket)
    policies = []
    for data in train_policies():
        policies.append(Artifact(key=artifact_key(sha256_hex(data), "policy.onnx"), sha256=sha256_hex(data)))
        put_once(launcher, policies[-1].key, data)
    worker = RoleSession(None, "dev")
    store, client = S3Store(worker.client("s3"), place.bucket), worker.client("lambda")
    _play(client, place.evaluator, policies[0], "warm-up", 8, 1)  # the first call pays for the layer
    scaling = {str(width): _play(client, place.evaluator, policies[0], f"width-{width}", min(pairs, 4 * SHARD), width)
               for width in WIDTHS}
    widest = max(WIDTHS)
    seconds = [_play(client, place.evaluator, policy, f"policy-{number}", pairs, widest) for number, policy in enumerate(policies)]
    shards = [_merged(store, f"policy-{number}") for number in range(len(policies))]
    steps = sum(shard.steps for shard in shards)
    return {"pairs": pairs, "cores": os.cpu_count(), "functions_at_once": widest, "seconds": round(sum(seconds), 1), "env_steps": steps,
            "steps_per_s": round(steps / sum(seconds)),
            "times_faster_than_one_function": {width: round(scaling["1"] / taken, 2) for width, taken in scaling.items()},
            "decision": decide(shards[1].returns, shards[0].returns, GATE).decision.value}


def _play(client: Any, function: str, policy: Artifact, name: str, episodes: int, width: int) -> float:
    """Ask for an evaluation, so many shards at once. :return: seconds."""
    requests = [EvaluateRequest(**PLACE, name=name, shard=start, policy=policy, env_id=ENV_ID, first_seed=FIRST_SEED + start,
                                n_episodes=min(SHARD, episodes - start)) for start in range(0, episodes, SHARD)]

    def ask(request: EvaluateRequest) -> None:
        answer = client.invoke(FunctionName=function, InvocationType="RequestResponse", Payload=request.to_json())
        told = json.loads(answer["Payload"].read())
        if answer.get("FunctionError") or not told["complete"]:
            raise RuntimeError(f"{name}: {told}")

    began = time.perf_counter()
    with ThreadPoolExecutor(width) as pool:
        list(pool.map(ask, requests))
    return time.perf_counter() - began


def _merged(store: S3Store, name: str) -> Shard:
    return merge_shards([Shard.from_json(get(store, item.key).data) for item in store.list(shard_prefix(**PLACE, name=name))])


def _run(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
