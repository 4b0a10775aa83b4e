"""A replay trains what was trained, and only the same numeric class can show a drift."""

from collections.abc import Callable

import pytest

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Replay, Spec
from rl_lifecycle.registry.contents import VersionManifest, get_manifest
from rl_lifecycle.registry.replays import ReplayOutcome, judge_replay, plan_replay
from rl_lifecycle.storage.object_store import ObjectStore
from tests.lifecycle.conftest import NIGHT
from tests.lifecycle.registry.test_promotion import Night, imported


@pytest.fixture
def night(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> Callable[[str], Night]:
    """Return a function that makes nights on one store."""
    return lambda run: Night(store, experiment, run, new_nonce)


@pytest.fixture
def trained(store: ObjectStore, night: Callable[[str], Night]) -> tuple[Spec, VersionManifest]:
    """A version's spec and manifest, with the digests of three segments."""
    one = night("n1")
    one.promote()
    manifest = get_manifest(store, "cartpole_ppo", 1)
    return one.spec, manifest.model_copy(
        update={"digests": {"10": "a", "20": "b", "100": manifest.digest}}
    )


@pytest.mark.parametrize(
    ("segments", "step", "digest"), [(1, 10, "a"), (2, 20, "b"), (9, 100, "digest of n1")]
)
def test_all_that_decides_the_bits_stays_as_it_was(
    trained: tuple[Spec, VersionManifest], segments: int, step: int, digest: str
) -> None:
    """Everything that decides the bits stays the same; only run, name and machine are new."""
    spec, manifest = trained
    made = plan_replay(
        spec,
        manifest,
        segments=segments,
        run_id="r1",
        created_at=NIGHT,
        instance_types=("c7i.large",),
    )
    for key in (
        "hyperparameters",
        "segment_timesteps",
        "trainer",
        "requirements",
        "image_id",
        "champion",
    ):
        assert getattr(made, key) == getattr(spec, key), key
    assert made.experiment.total_timesteps == spec.experiment.total_timesteps
    assert (made.trials[0].name, made.trials[0].seed) == (manifest.trial, manifest.trial_seed)
    assert made.replay == Replay(experiment="cartpole_ppo", version=1, step=step, digest=digest)
    assert (made.experiment.name, made.experiment.compute.instance_types) == (
        "replay",
        ("c7i.large",),
    )
    assert made.run.startswith("cartpole_ppo-r1")
    assert not made.experiment.early_stop.active


def test_a_replay_has_no_time_by_which_it_is_needed(trained: tuple[Spec, VersionManifest]) -> None:
    """The version's due moment is in the past and would force on-demand."""
    spec, manifest = trained
    compute = spec.experiment.compute.model_copy(update={"needed_by": "2026-11-23T06:00:00+00:00"})
    spec = spec.model_copy(
        update={"experiment": spec.experiment.model_copy(update={"compute": compute})}
    )
    assert spec.due_at is not None
    assert plan_replay(spec, manifest, segments=1, run_id="r1", created_at=NIGHT).due_at is None


def test_an_import_cannot_be_trained_again(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """An import is refused with the place that it came from."""
    one = night("n1")
    one.record = imported(one)
    one.promote()
    with pytest.raises(
        InvalidRecordError,
        match=r"was imported \(trained on a laptop by Ada\), so it cannot be trained again",
    ):
        plan_replay(
            one.spec,
            get_manifest(store, "cartpole_ppo", 1),
            segments=1,
            run_id="r",
            created_at=NIGHT,
        )


@pytest.mark.parametrize(
    ("digest", "cpu", "outcome"),
    [
        ("a", "x", ReplayOutcome.SAME),
        ("a", "y", ReplayOutcome.SAME),
        ("b", "x", ReplayOutcome.DRIFTED),
        ("b", "y", ReplayOutcome.NOT_COMPARABLE),
    ],
)
def test_only_the_same_numeric_class_can_show_a_drift(
    digest: str, cpu: str, outcome: ReplayOutcome
) -> None:
    """Another processor gives another digest without a drift."""
    answer = judge_replay(
        Replay(experiment="e", version=3, step=10, digest="a"), digest, {"cpu": cpu}, {"cpu": "x"}
    )
    assert answer.outcome is outcome
    assert ("cpu y instead of x" in answer.reason) == (outcome is ReplayOutcome.NOT_COMPARABLE)


@pytest.mark.parametrize(
    ("digest", "path", "outcome"),
    [
        ("a", "graphs", ReplayOutcome.SAME),
        ("b", "graphs", ReplayOutcome.DRIFTED),
        ("b", "torch", ReplayOutcome.NOT_COMPARABLE),
    ],
)
def test_a_version_trained_on_a_removed_path_names_the_release_that_removed_it(
    digest: str, path: str, outcome: ReplayOutcome
) -> None:
    """The release is named, and a replay with the version's own wheels is compared as usual."""
    replay = Replay(experiment="e", version=3, step=10, digest="a")
    answer = judge_replay(replay, digest, {"path": path}, {"path": "graphs"})
    assert answer.outcome is outcome
    assert ("release 0.2.0 removed the trainer's path graphs" in answer.reason) == (
        outcome is ReplayOutcome.NOT_COMPARABLE
    )
