"""A trial that loses machines again and again ends with the reason."""

from pathlib import Path

import pytest

from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_trainer.attempts.trials import MOST_LOSSES, TrialJob, train_trial
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.errors import InterruptedTrainingError, LostMemberError, TrainerError
from rl_trainer.reporting.journal import Journal
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.segments import SegmentTrainer
from tests.trainer.shards.cases import sharded_spec


@pytest.mark.parametrize("good", [0, 1], ids=["at the beginning", "after a checkpoint"])
def test_eight_losses_without_a_checkpoint_end_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """A checkpoint starts the count anew. The error is no interruption, which would be repeated."""
    spec, train, calls = sharded_spec("ppo", "CartPole", normalize=False), SegmentTrainer.train, []

    def losing(*arguments: object) -> object:
        calls.append(arguments[1])
        if good and len(calls) == MOST_LOSSES:
            return train(*arguments)  # type: ignore[arg-type]
        raise LostMemberError("the machine of seat 1 was lost: silence")

    monkeypatch.setattr(SegmentTrainer, "train", losing)
    store = DirectoryStore(tmp_path)
    trial = spec.trial_id("seed-0")
    chain = CheckpointChain(store, trial, 1, spec.sha256, spec.trial("seed-0").seed)
    chain.take_over()
    job = TrialJob(
        spec,
        "seed-0",
        store,
        chain,
        Journal(trial, 1, quiet=True),
        Interruption(),
        lambda *_: None,
        lambda _problem: None,
    )
    with pytest.raises(TrainerError, match=r"^8 generations in a row .* seat 1 was lost") as end:
        train_trial(job)
    assert not isinstance(end.value, InterruptedTrainingError)
    assert calls == [0] * MOST_LOSSES + [1] * MOST_LOSSES * good
