"""Retention deletes no checkpoint that a kept one, a policy or a version needs."""

from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.storage.layout import TrialId, buffer_key, checkpoint_key, checkpoint_prefix
from rl_lifecycle.trials.checkpoints import MANIFEST, CheckpointManifest, StoredFile
from rl_lifecycle.trials.retention import KEPT, plan_retention, plan_sweep

TRIAL = TrialId("e", "r", "t")
FILES = {"state.json": StoredFile(sha256="s", n_bytes=1)}


def link(
    step: int, chunks: tuple[str, ...] = (), attempt: int = 1
) -> tuple[str, CheckpointManifest]:
    """Build one checkpoint of a chain."""
    manifest = CheckpointManifest(
        step=step,
        segment=step,
        attempt=attempt,
        spec_sha256="s",
        trial_seed=1,
        numeric_class={},
        digest="d",
        files=FILES,
        buffer_chunks=chunks,
    )
    return checkpoint_key(TRIAL, step, attempt, MANIFEST), manifest


@given(n=st.integers(1, 12), held=st.integers(1, 6), kept=st.integers(1, 4))
def test_kept_checkpoints_stay_whole_and_the_rest_goes(n: int, held: int, kept: int) -> None:
    """The newest list's chunks stay, and chunks that only older lists name are deleted."""
    chain = [
        link(step, tuple(f"c{index}" for index in range(max(0, step - held), step)))
        for step in range(n, 0, -1)
    ]
    gone = set(plan_retention(TRIAL, chain, kept))
    needed = {
        buffer_key(TRIAL, chunk) for _, manifest in chain[:kept] for chunk in manifest.buffer_chunks
    }
    whole = {key.removesuffix(MANIFEST) + "state.json" for key, _ in chain[:kept]}
    assert not gone & (needed | whole)
    assert not any(key.endswith(MANIFEST) for key in gone)
    everything = {buffer_key(TRIAL, f"c{index}") for index in range(n)} | {
        key.removesuffix(MANIFEST) + "state.json" for key, _ in chain
    }
    assert everything - gone == needed | whole


def test_chunks_go_before_the_files_that_lead_to_them() -> None:
    """After a crash the rest is found again, because the checkpoint's files are deleted last."""
    chain = [link(step, (f"c{step}",)) for step in range(KEPT + 1, 0, -1)]
    assert plan_retention(TRIAL, chain) == (
        buffer_key(TRIAL, "c1"),
        checkpoint_key(TRIAL, 1, 1, "state.json"),
    )


def test_uncommitted_checkpoints_are_deleted_and_other_files_are_not() -> None:
    """An earlier attempt's unfinished checkpoint goes; head, manifests and later files stay."""
    chain = dict([link(200, attempt=2), link(100)])
    stay = [
        f"{checkpoint_prefix(TRIAL)}head.json",
        *(
            checkpoint_key(TRIAL, step, attempt, "state.json")
            for step, attempt in ((200, 2), (100, 1), (200, 3), (300, 1))
        ),
        checkpoint_key(TRIAL, 200, 1, MANIFEST),
    ]
    assert plan_sweep([*stay, checkpoint_key(TRIAL, 200, 1, "state.json")], chain, attempt=3) == (
        checkpoint_key(TRIAL, 200, 1, "state.json"),
    )
