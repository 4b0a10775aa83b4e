"""An earlier run that was trained, as its machines leave it in the bucket."""

import json
from datetime import datetime
from typing import Any

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, AttemptOutcome
from rl_lifecycle.storage.layout import attempt_key, heartbeat_key, spec_key, trainer_log_key
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState


def files_of_run(
    spec: Spec,
    at: datetime,
    *,
    steps_per_s: float,
    step_ms: float | None = 1.0,
    workers: int = 2,
    end: AttemptEnd | None = AttemptEnd.FINISHED,
    instance_type: str = "c7i.large",
) -> dict[str, bytes]:
    """Make the files of a run whose first trial was trained, by key.

    :param step_ms: milliseconds of one environment step; None if the trainer did not measure it.
    """
    trial = spec.trial_id("seed-0")
    attempt = Attempt(
        experiment=spec.experiment.name,
        run=spec.run,
        trial="seed-0",
        attempt=1,
        token="t",
        nonce="n",
        request={},
        created_at=at,
        deadline_at=at,
        price_reserved_usd=1.0,
        outcome=AttemptOutcome(instance_type=instance_type, market="spot", end=end),
    )
    beat = Heartbeat(
        attempt=1,
        state=TrainerState.FINISHED,
        step=100_000,
        total_timesteps=100_000,
        steps_per_s=steps_per_s,
        at=at,
    )
    events: list[dict[str, Any]] = [
        {"event": "workers", "workers": 1, "cores": 2, "step_ms": 9.0},
        {"event": "workers", "workers": workers, "cores": 2, "step_ms": step_ms},
        {"event": "segment_finished"},
    ]
    log = "".join(json.dumps(event) + "\n" for event in events)
    return {
        spec_key(spec.experiment.name, spec.run): spec.to_json(),
        attempt_key(trial, 1): attempt.to_json(),
        heartbeat_key(trial): beat.to_json(),
        trainer_log_key(trial, 1): (log + '{"event": "wor').encode(),
    }
