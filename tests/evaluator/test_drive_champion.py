"""The example in docs/examples runs."""

import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO

from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.policies import load_policy
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.evaluation.verdicts import Decision, Verdict, gate_of
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.promotion import promote
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import checkpoint_key, policy_key, report_key
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.trials.checkpoints import CheckpointManifest
from rl_trainer.onnx_export.export import export_policy
from tests.evaluator.environments_for_tests import MaskedEnv
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_policy, store_spec

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "drive_champion.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example as its docstring says, with torch made unimportable."""
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def put(store: DirectoryStore, key: str, data: bytes) -> Artifact:
    """Write a file where a trainer or the judge writes it."""
    store.put(key, data)
    return Artifact(key=key, sha256=sha256_hex(data))


def promote_policy(store: DirectoryStore, **metadata: Any) -> None:
    """Make a policy of CartPole the champion.

    :param metadata: what its metadata say, instead of the truth.
    """
    spec, _ = store_spec(store)
    record = PolicyRecord.from_json(
        get(store, store_policy(store, spec, policy_for_id("CartPole-v1"))).data
    )
    trial = spec.trial_id(record.trial)
    checkpoint = CheckpointManifest(
        step=512,
        segment=1,
        attempt=1,
        spec_sha256=spec.sha256,
        trial_seed=1,
        numeric_class={},
        digest=record.digest,
        files={},
    )
    record = record.model_copy(
        update={
            "parameters": put(store, policy_key(trial, record.step, "safetensors"), b"p"),
            "manifest": put(
                store, checkpoint_key(trial, record.step, 1, "manifest.json"), checkpoint.to_json()
            ),
            "metadata": record.metadata.model_copy(update=metadata),
        }
    )
    report = Report(
        experiment=spec.experiment.name,
        run=spec.run,
        spec_sha256=record.spec_sha256,
        gate=gate_of(spec.experiment),
        first_seed=0,
        verdict=Verdict(decision=Decision.PROMOTE, reason="", n_pairs=0, alpha_spent=0.0, looks=()),
        candidate_sha256=record.policy.sha256,
        candidate_digest=record.digest,
        champion_sha256=None,
        champion_digest=None,
    )
    promote(
        store,
        spec,
        record,
        put(store, report_key(spec.experiment.name, spec.run, "gate"), report.to_json()),
        who="test",
        why="first",
        now=datetime(2026, 1, 3, tzinfo=UTC),
        new_nonce=lambda: "n",
    )


def test_the_example_drives_the_champion(store: DirectoryStore) -> None:
    """The example plays the promoted policy and prints its version with each return."""
    promote_policy(store)
    done = run(str(store.root), "cartpole", "--episodes", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(": return ")[0] for line in done.stdout.splitlines()] == [
        "version 1, seed 0",
        "version 1, seed 1",
    ]


def test_a_masked_champion_whose_file_takes_no_masks_is_not_loaded(store: DirectoryStore) -> None:
    """A champion of an earlier release would play forbidden actions, so it is refused."""
    promote_policy(store, algo="maskable_ppo")
    done = run(str(store.root), "cartpole")
    assert done.returncode == 2
    assert "was trained by maskable_ppo under action masks, but its file has no" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_example_plays_under_action_masks() -> None:
    """The champion gets the environment's masks, and plays as it does in the evaluator."""
    space = spaces.Discrete(5)
    model = MaskablePPO("MlpPolicy", MaskedEnv(space), seed=0, n_steps=8, batch_size=8)
    exported = export_policy(
        model, {}, algo="maskable_ppo", env_id="MaskedExample-v0", env_kwargs={}
    )
    champion = SimpleNamespace(onnx=exported.onnx, metadata=exported.metadata)
    judged = run_episodes(load_policy(exported.onnx), lambda: MaskedEnv(space), range(3))
    gymnasium.register("MaskedExample-v0", lambda: MaskedEnv(space))
    try:
        returns = [runpy.run_path(str(EXAMPLE))["play"](champion, seed) for seed in range(3)]
    finally:
        del gymnasium.registry["MaskedExample-v0"]
    assert returns == [judged[seed].total for seed in range(3)]


def test_the_example_refuses_a_policy_that_plays_inside_wrappers(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example refuses a policy with wrappers, which the model card names."""
    example = runpy.run_path(str(EXAMPLE))
    policy = load_policy(policy_for_id("CartPole-v1"))
    wrappers = (WrapperForm(name="gymnasium.wrappers.FlattenObservation"),)
    champion = SimpleNamespace(
        version=3, metadata=policy.metadata.model_copy(update={"wrappers": wrappers})
    )
    for name in ("load_champion", "refreshed"):
        monkeypatch.setitem(example["main"].__globals__, name, lambda *asked: champion)
    monkeypatch.setattr(sys, "argv", ["drive_champion.py", str(store.root), "cartpole"])
    assert example["main"]() == 2
    assert "version 3 plays inside gymnasium.wrappers.FlattenObservation" in capsys.readouterr().err


def test_the_example_reports_a_missing_champion(store: DirectoryStore) -> None:
    """Without a champion the example prints one line and exits with 2."""
    done = run(str(store.root), "cartpole")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not exist" in done.stderr
