"""How long resuming takes, for `trainer_costs`; runs with the variables of the local AWS.

Each measurement is a new attempt that takes over the trial, and gets a notice at its first step.
The result is JSON on stdout.
"""

import contextlib
import json
import sys
import time
import uuid
from typing import Any

import boto3

from benchmarks.training.cost_cases import CASES, write_store
from rl_trainer.attempts.attempts import TrainRequest, run_attempt
from rl_trainer.errors import InterruptedTrainingError
from rl_trainer.training.interruptions import Interruption


class AtTheFirstStep(Interruption):
    """Notes when the training loop first looks for a notice, which it does after its first step,
    and gives it one.
    """

    at: tuple[float, float] | None = None

    @property
    def notice(self) -> str:
        """Give the notice: the loop asks only after a step."""
        self.at = self.at or (time.monotonic(), time.process_time())
        return "measured"

    @notice.setter
    def notice(self, value: str) -> None:
        """There is no other notice."""


def main(rounds: int) -> int:
    """Measure each case. :return: 0."""
    bucket = f"resume-{uuid.uuid4().hex[:12]}"
    client: Any = boto3.client("s3")
    client.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": client.meta.region_name}
    )
    measured = {}
    for case in CASES:
        uri = f"s3://{bucket}/{case.algo}"
        key = write_store(case, uri, 1)
        measured[case.name] = [_resume(uri, key) for _ in range(rounds)]
    print(json.dumps(measured))
    return 0


def _resume(uri: str, spec: str) -> dict[str, float]:
    interruption = AtTheFirstStep()
    wall, cpu = time.monotonic(), time.process_time()
    with contextlib.suppress(InterruptedTrainingError):
        run_attempt(TrainRequest(spec=spec, store=uri, quiet=True), interruption)
    if interruption.at is None:
        raise RuntimeError("the training took no step")
    return {"resume_s": interruption.at[0] - wall, "resume_cpu_s": interruption.at[1] - cpu}


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
