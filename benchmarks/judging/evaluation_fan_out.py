"""How the evaluation of 2,000 LunarLander pairs scales with the number of Lambda functions at once.

    python -m benchmarks.judging.evaluation_fan_out [--pairs N] [--rounds N]

Real functions with their zip and layer run on the local AWS, and are called as the pipeline calls
them. The local AWS uses the cores of this machine, so the result says nothing about AWS, where each
function has its own.

In each round, every number of functions plays the same seeds, one number after the other. The next
round has the other order, so other processes disturb all of them alike. A ratio compares times of
one round only.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.account.local_aws_runs import INSIDE, measure_inside, say
from benchmarks.judging.gate_speed import ENV_ID, FIRST_SEED, ratios_to, take_turns, train_policies
from laptop.figures import gate_table
from laptop.figures.records import write_record
from laptop.gate_study.judging_speed import GATE
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.requests import EvaluateRequest, Shard, merge_shards
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key, shard_prefix
from rl_lifecycle.storage.object_store import get, put_once
from rl_lifecycle.storage.s3_store import S3Store

#: Functions at once.
WIDTHS = (1, 2, 4)
#: Episodes of one invocation: of the 2,000 pairs, and of a turn, which is as many invocations as
#: the greatest width.
SHARD, TURN_SHARD = 125, 40
PLACE = {"experiment": "bench", "run": "fan-out"}


def main(arguments: list[str] | None = None) -> int:
    """Measure on a fresh local AWS and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(json.dumps(measure(options.pairs, options.rounds)))
    else:
        found = measure_inside(
            "benchmarks.judging.evaluation_fan_out",
            "--pairs",
            str(options.pairs),
            "--rounds",
            str(options.rounds),
        )
        sys.stdout.write(f"{write_record('evaluation-fan-out', found)}\n")
        gate_table.write_table()
    return 0


def measure(pairs: int, rounds: int) -> dict[str, Any]:
    """Ask for the pairs. As the Airflow worker, and as the launcher for the policies' upload."""
    from rl_airflow.infrastructure.deployed_environment import find_environment
    from rl_airflow.infrastructure.sessions import RoleSession

    place = find_environment("dev")
    launcher = S3Store(RoleSession("launcher", "dev").client("s3"), place.bucket)
    policies = []
    for data in train_policies():
        policies.append(
            Artifact(key=artifact_key(sha256_hex(data), "policy.onnx"), sha256=sha256_hex(data))
        )
        put_once(launcher, policies[-1].key, data)
    worker = RoleSession(None, "dev")
    fan_out = FanOut(worker.client("lambda"), place.evaluator)
    say("warming up")  # the first call of each pays for the layer
    fan_out.play(policies[0], "warm-up", 8 * max(WIDTHS), 8, max(WIDTHS))
    seconds = take_turns(
        {width: partial(fan_out.turn, policies[0], width) for width in WIDTHS}, rounds
    )
    widest = max(WIDTHS)
    say(f"{pairs} pairs")
    taken = [
        fan_out.play(policy, f"policy-{number}", pairs, SHARD, widest)
        for number, policy in enumerate(policies)
    ]
    store = S3Store(worker.client("s3"), place.bucket)
    shards = [_merged(store, f"policy-{number}") for number in range(len(policies))]
    steps = sum(shard.steps for shard in shards)
    return {
        "pairs": pairs,
        "cores": os.cpu_count(),
        "functions_at_once": widest,
        "seconds": round(sum(taken), 1),
        "env_steps": steps,
        "steps_per_s": round(steps / sum(taken)),
        "episodes_of_a_turn": TURN_SHARD * widest,
        "times_faster_than_one_function": {
            str(width): ratios_to(seconds[1], turns) for width, turns in seconds.items()
        },
        "same_returns_at_every_width": len(
            {_merged(store, f"width-{width}-0").returns for width in WIDTHS}
        )
        == 1,
        "decision": decide(shards[1].returns, shards[0].returns, GATE).decision.value,
    }


class FanOut:
    """The evaluator, asked for many shards at once.

    :param client: a Lambda client. :param function: the evaluator.
    """

    def __init__(self, client: Any, function: str) -> None:
        self.client, self.function = client, function

    def turn(self, policy: Artifact, width: int, round_number: int) -> None:
        """One turn of a width; in a round all widths play the same seeds."""
        say(f"round {round_number}: {width} at once")
        self.play(
            policy,
            f"width-{width}-{round_number}",
            TURN_SHARD * max(WIDTHS),
            TURN_SHARD,
            width,
            first_seed=FIRST_SEED + TURN_SHARD * max(WIDTHS) * round_number,
        )

    def play(
        self,
        policy: Artifact,
        name: str,
        episodes: int,
        shard: int,
        width: int,
        first_seed: int = FIRST_SEED,
    ) -> float:
        """Ask for an evaluation, so many shards at once. :return: seconds."""
        requests = [
            EvaluateRequest(
                **PLACE,
                name=name,
                shard=start,
                policy=policy,
                env_id=ENV_ID,
                first_seed=first_seed + start,
                n_episodes=min(shard, episodes - start),
            )
            for start in range(0, episodes, shard)
        ]
        began = time.perf_counter()
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(self._ask, requests))
        return time.perf_counter() - began

    def _ask(self, request: EvaluateRequest) -> None:
        answer = self.client.invoke(
            FunctionName=self.function, InvocationType="RequestResponse", Payload=request.to_json()
        )
        told = json.loads(answer["Payload"].read())
        if answer.get("FunctionError") or not told["complete"]:
            raise RuntimeError(f"{request.name}: {told}")


def _merged(store: S3Store, name: str) -> Shard:
    return merge_shards(
        [
            Shard.from_json(get(store, item.key).data)
            for item in store.list(shard_prefix(**PLACE, name=name))
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
