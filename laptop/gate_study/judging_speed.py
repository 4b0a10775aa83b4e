"""How long a decision and a promotion take, without Python's start and imports."""

import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.policies import PolicyMetadata, PolicyRecord, SpaceForm
from rl_lifecycle.evaluation.verdicts import Decision, Gate, Verdict, gate_of
from rl_lifecycle.experiment.experiment import Experiment, read_experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.registry.contents import freeze_champion
from rl_lifecycle.registry.promotion import promote
from rl_lifecycle.storage import layout
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.checkpoints import CheckpointManifest

GATE = Gate(return_range=(-200, 320), crash_below=100)
#: Decisions, or promotions, that are timed in each round.
REPEATS = 4
_NIGHT = datetime(2026, 11, 22, 2, tzinfo=UTC)
_SPACE = SpaceForm(kind="Discrete", n=2)


def measure_decision(rounds: int) -> dict[str, Any]:
    """Time a decision that takes all four looks: 2,000 pairs of two equally good policies.

    :return: :func:`spread` of the times, and the number of `looks`.
    """
    rng = random.Random(0)
    pairs = [(rng.gauss(200, 60), rng.gauss(200, 60)) for _ in range(2000)]
    candidate, champion = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    gate = Gate(return_range=(-200, 320), crash_below=0)
    looks = len(decide(candidate, champion, gate).looks)

    times = [timed(lambda: decide(candidate, champion, gate)) for _ in range(REPEATS * rounds)]
    return {**spread(times), "looks": looks}


def measure_promotion(rounds: int) -> dict[str, Any]:
    """Time a promotion in a directory: claim, files, manifest, verification, pointer, history.

    The first promotion is not counted, because it imports modules.

    :return: :func:`spread` of the times.
    """
    experiment = read_experiment(
        {
            "env_id": "CartPole-v1",
            "algo": "ppo",
            "total_timesteps": 100_000,
            "evaluation": {"return_range": [0, 500], "crash_below": 100},
        },
        "cartpole_ppo",
    )
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(Path(folder))
        times = [
            timed(_ready_promotion(store, experiment, f"n{number}"))
            for number in range(1 + REPEATS * rounds)
        ]
    return spread(times[1:])


def _ready_promotion(store: ObjectStore, experiment: Experiment, run: str) -> Callable[[], object]:
    """Store the files that exist before a promotion. :return: the promotion."""
    spec = freeze_spec(
        experiment, run_id=run, created_at=_NIGHT, champion=freeze_champion(store, experiment)
    )
    candidate = _store_candidate(store, spec)
    report = _store_report(store, spec, candidate)
    return lambda: promote(
        store,
        spec,
        candidate,
        report,
        who="airflow",
        why="better",
        now=_NIGHT,
        new_nonce=lambda: uuid.uuid4().hex,
    )


def _store_candidate(store: ObjectStore, spec: Spec) -> PolicyRecord:
    """Store the files of a finished trial. :return: the record of its policy."""
    store.put(layout.spec_key(spec.experiment.name, spec.run), spec.to_json())
    trial, digest = spec.trial_id("seed-0"), f"digest of {spec.run}"
    manifest = CheckpointManifest(
        step=100,
        segment=1,
        attempt=1,
        spec_sha256=spec.sha256,
        trial_seed=spec.trials[0].seed,
        numeric_class={"cpu": "any"},
        digest=digest,
        files={},
    )
    metadata = PolicyMetadata(
        algo="ppo",
        env_id="CartPole-v1",
        observation_space=_SPACE,
        action_space=_SPACE,
        digest=digest,
        versions={},
        equality={},
    )
    policy_key = layout.policy_key(trial, 100, "onnx")
    parameters_key = layout.policy_key(trial, 100, "safetensors")
    manifest_key = layout.checkpoint_key(trial, 100, 1, layout.MANIFEST_FILE)
    return PolicyRecord(
        experiment=trial.experiment,
        run=trial.run,
        trial=trial.trial,
        attempt=1,
        step=100,
        final=True,
        spec_sha256=spec.sha256,
        digest=digest,
        metadata=metadata,
        policy=_store(store, policy_key, b"onnx " + digest.encode()),
        parameters=_store(store, parameters_key, b"parameters " + digest.encode()),
        manifest=_store(store, manifest_key, manifest),
    )


def _store_report(store: ObjectStore, spec: Spec, candidate: PolicyRecord) -> Artifact:
    """Store a report that says PROMOTE."""
    report = Report(
        experiment=spec.experiment.name,
        run=spec.run,
        spec_sha256=spec.sha256,
        gate=gate_of(spec.experiment),
        verdict=Verdict(decision=Decision.PROMOTE, reason="", n_pairs=0, alpha_spent=0.0, looks=()),
        first_seed=0,
        candidate_sha256=candidate.policy.sha256,
        candidate_digest=candidate.digest,
        champion_sha256=None,
        champion_digest=None,
    )
    return _store(store, layout.report_key(spec.experiment.name, spec.run, "gate"), report)


def _store(store: ObjectStore, key: str, value: bytes | Record) -> Artifact:
    data = value if isinstance(value, bytes) else value.to_json()
    store.put(key, data)
    return Artifact(key=key, sha256=sha256_hex(data))


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Run `work` once. :return: the elapsed seconds, and the seconds of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "wall_s": round(time.perf_counter() - wall, 4),
        "cpu_s": round(time.process_time() - cpu, 4),
    }


def spread(times: list[dict[str, float]]) -> dict[str, float]:
    """Summarise times: both medians, the quickest on the clock, and how many there are."""
    medians = {
        key: round(statistics.median(one[key] for one in times), 4) for key in ("wall_s", "cpu_s")
    }
    return {
        **medians,
        "quickest_wall_s": min(one["wall_s"] for one in times),
        "rounds": len(times),
    }
