"""Specs and versions of the release that had CUDA graphs can be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.records.record import sha256_hex
from rl_trainer.attempts import trials
from rl_trainer.attempts.attempts import TrainRequest, run_attempt
from rl_trainer.checkpointing.numeric_class import numeric_class
from rl_trainer.errors import OtherHardwareError
from rl_trainer.training.interruptions import Interruption
from tests.trainer.conftest import Trainer, json_of

#: A spec as the earlier release froze it.
SPEC = Path(__file__).parent / "data" / "spec_with_cuda_graphs.json"
RELEASE = "release 0.2.0 removed"


def test_a_stored_spec_that_asked_for_graphs_is_read_and_keeps_its_bytes() -> None:
    """Its bytes stay, because checkpoints and versions contain its digest."""
    data = SPEC.read_bytes()
    spec = Spec.from_json(data)
    assert spec.experiment.compute.gpu_updates == "cuda_graphs"
    assert spec.to_json() == data
    assert spec.sha256 == "a742420814d09386fba3e2e8957cb2f80573fb282ee84439b056ee9e0474dff9"


def test_a_stored_spec_with_graphs_is_trained_by_sb3(
    tmp_path: Path,
) -> None:
    """SB3 trains it, as the earlier release did without a GPU, and the log says so."""
    done = run_attempt(TrainRequest(str(SPEC), str(tmp_path), quiet=True), Interruption())
    assert (done["path"], done["step"]) == ("torch", 256)
    log = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert f"on torch ({RELEASE} compute.gpu_updates: cuda_graphs)" in log


def test_a_training_begun_with_graphs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the release, because no machine can continue it."""
    monkeypatch.setattr(
        trials,
        "numeric_class",
        lambda device, path: numeric_class(device, path) | {"path": "graphs"},
    )
    request = TrainRequest(str(SPEC), str(tmp_path), quiet=True)
    run_attempt(request, Interruption())
    monkeypatch.setattr(trials, "numeric_class", numeric_class)
    with pytest.raises(
        OtherHardwareError, match=f"path: graphs → torch.*{RELEASE} the trainer's path graphs"
    ):
        run_attempt(request, Interruption())


@pytest.mark.parametrize("path", ["graphs", "torch"])
def test_a_replay_is_not_comparable_if_graphs_trained(
    path: str, tmp_path: Path, trainer: Trainer
) -> None:
    """Such a replay trains nothing; a version that SB3 trained is compared as usual."""
    manifest = tmp_path / "manifest.json"
    claim: dict[str, Any] = {
        "trial": "seed-0",
        "step": 256,
        "digest": "a" * 64,
        "spec_sha256": sha256_hex(SPEC.read_bytes()),
        "numeric_class": {"path": path},
    }
    manifest.write_text(json.dumps(claim))
    answer = json_of(trainer("replay", "--manifest", str(manifest), "--spec", str(SPEC), "--json"))
    assert (answer["expected"], answer["equal"]) == ("a" * 64, False)
    reasons = [line for line in answer["differences"] if line.startswith("NOT_COMPARABLE")]
    if path == "graphs":
        assert (answer["digest"], answer["same_numeric_class"]) == ("", False)
        assert f"{RELEASE} the trainer's path graphs" in reasons[0]
    else:
        assert len(answer["digest"]) == 64
        assert not reasons
