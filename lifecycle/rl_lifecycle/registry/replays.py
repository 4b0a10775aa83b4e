"""Replays: training a version's first segments again, to see that they give the same digest."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.experiment.compute_settings import GRAPHS_REMOVED_IN
from rl_lifecycle.experiment.spec import Replay, Spec
from rl_lifecycle.experiment.trial_plans import TrialPlan
from rl_lifecycle.records.record import Record
from rl_lifecycle.registry.contents import VersionManifest

#: All replays are runs of an experiment with this name, so that they never mix with the runs of the
#: version's own experiment.
EXPERIMENT = "replay"


#: Path of the trainer, by its name in the numeric class → the release that removed it.
REMOVED_PATHS = {"graphs": GRAPHS_REMOVED_IN}


class ReplayOutcome(StrEnum):
    """The outcomes of a replay."""

    SAME = "SAME"  # the digest is the same: the version can be rebuilt
    DRIFTED = "DRIFTED"  # the same kind of machine gives another digest
    NOT_COMPARABLE = "NOT_COMPARABLE"  # the machine has another numeric class: no conclusion


class ReplayAnswer(Record):
    """The result of the comparison of a replay with its version."""

    outcome: ReplayOutcome
    reason: str
    step: int
    expected: str
    digest: str


def plan_replay(
    spec: Spec,
    manifest: VersionManifest,
    *,
    segments: int,
    run_id: str,
    created_at: datetime,
    instance_types: tuple[str, ...] = (),
) -> Spec:
    """Make the spec of a replay: that of the version, for one trial and some segments.

    Steps, schedules, seeds, wheels and image stay the same, because they decide the bits. A replay
    has no due time, because the version's has passed.

    :param segments: after how many segments to compare. If the version has fewer digests, its last
        digest is compared.
    :param instance_types: types of the machine that trained the version. If it is empty, the types
        of its experiment are used.
    :raises InvalidRecordError: if the version was imported, so that it cannot be trained again.
    """
    if manifest.kind != "trained" or manifest.trial_seed is None:
        raise InvalidRecordError(
            f"version {manifest.version} of {manifest.experiment}",
            f"was imported ({manifest.origin}), so it cannot be trained again from here",
        )
    steps = sorted(int(step) for step in manifest.digests or {str(manifest.step): manifest.digest})
    step = steps[min(max(1, segments), len(steps)) - 1]
    expected = manifest.digests.get(str(step), manifest.digest)
    experiment = spec.experiment.without_due_time().as_replay(EXPERIMENT)
    if instance_types:
        experiment = experiment.with_instance_types(instance_types)
    return spec.as_replay(
        Replay(
            experiment=manifest.experiment, version=manifest.version, step=step, digest=expected
        ),
        run_id=run_id,
        created_at=created_at,
        experiment=experiment,
        trial=TrialPlan(name=manifest.trial, seed=manifest.trial_seed),
    )


def why_path_removed(numeric_class: Mapping[str, Any]) -> str:
    """Explain which release removed the path that trained a version. It is empty if none did.

    >>> why_path_removed({"path": "graphs"})
    "release 0.2.0 removed the trainer's path graphs, so this training can be repeated only by the
    trainer that began it"
    """
    path = numeric_class.get("path")
    if path not in REMOVED_PATHS:
        return ""
    return (
        f"release {REMOVED_PATHS[path]} removed the trainer's path {path}, so this training can be "
        "repeated only by the trainer that began it"
    )


def judge_replay(
    replay: Replay, digest: str, numeric_class: Mapping[str, Any], expected_class: Mapping[str, Any]
) -> ReplayAnswer:
    """Compare a replay with its version.

    :param digest: digest of the replay at the step.
    :param numeric_class: numeric class of the replay's machine.
    :param expected_class: numeric class of the version.
    """
    same, removed = digest == replay.digest, why_path_removed(expected_class)
    if same:
        outcome, reason = (
            ReplayOutcome.SAME,
            f"version {replay.version} has the same digest at step {replay.step:,}",
        )
    elif differing := sorted(
        name
        for name in {*numeric_class, *expected_class}
        if numeric_class.get(name) != expected_class.get(name)
    ):
        said = ", ".join(
            f"{name} {numeric_class.get(name)} instead of {expected_class.get(name)}"
            for name in differing
        )
        outcome, reason = (
            ReplayOutcome.NOT_COMPARABLE,
            f"the machine is of another numeric class: {said}"
            + (f"; {removed}" if "path" in differing and removed else ""),
        )
    else:
        outcome = ReplayOutcome.DRIFTED
        reason = (
            f"version {replay.version} of {replay.experiment} cannot be rebuilt any more: at step "
            f"{replay.step:,} the digest is "
            f"{digest[:12]} instead of {replay.digest[:12]}, on the same numeric class"
        )
    return ReplayAnswer(
        outcome=outcome, reason=reason, step=replay.step, expected=replay.digest, digest=digest
    )
