"""Training a trial from wherever it stands to its end: the segments in order, their commits beside
them.
"""

import dataclasses
import functools
import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import JsonValue

from rl_lifecycle.errors import CorruptArtifactError, InvalidExperimentError, MissingObjectError
from rl_lifecycle.experiment.experiment import why_removed
from rl_lifecycle.experiment.hyperparameters import check_segment
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.records.record import canonical_json
from rl_lifecycle.registry.replays import why_path_removed
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.checkpointing.chain import Checkpoint, CheckpointChain, Contents
from rl_trainer.checkpointing.committer import Committer
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import ModelState, final_parameters
from rl_trainer.checkpointing.numeric_class import differences, numeric_class
from rl_trainer.environments.factory import EnvironmentFactory, check_environment, max_episode_steps
from rl_trainer.errors import BadInputError, OtherHardwareError, OutOfMemoryError
from rl_trainer.onnx_export.export import check_exportable
from rl_trainer.reporting.curves import curve_files
from rl_trainer.reporting.journal import Journal
from rl_trainer.settings.algorithms import get_algorithm
from rl_trainer.settings.hyperparameters import read_settings
from rl_trainer.settings.replay_sizes import ReplayTooLargeError, check_replay_fits
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import ModelBuilder, release
from rl_trainer.training.policy_files import PolicyWriter
from rl_trainer.training.segments import SegmentPlan, SegmentTrainer, TrainedSegment
from rl_trainer.training.warm_start import check_acts_alike, learning_state, read_warm_start
from rl_trainer.training.watch import Room, TrainingProgress, TrainingWatch

#: How often a person hears how far a segment is.
SAY_EVERY_S = 30.0
WAITING_IS_SAID_S = 1.0


@dataclass(frozen=True)
class TrialJob:
    """One trial to be trained by this process."""

    spec: Spec
    trial: str
    store: ObjectStore
    chain: CheckpointChain
    journal: Journal
    interruption: Interruption
    report: Callable[[TrainingProgress, int, str], None]
    waiting: Callable[[str], None]
    usd_per_hour: float | None = None


@dataclass(frozen=True)
class TrialResult:
    """Where a trial stands now."""

    step: int
    digest: str
    resumed_from: int
    steps_per_s: float
    path: str
    episode_return_mean: float | None


def make_trainer(
    spec: Spec, trial: str, store: ObjectStore | None, *, fast: bool = True
) -> SegmentTrainer:
    """Check a spec against its algorithm and its environment, and give what trains its segments.

    A spec of an earlier release may ask for CUDA graphs. SB3's own updates then train on the GPU,
    as they did in that release on a machine that could not record them.

    :param store: where a champion's parameters are; None: there is none, which is refused if the
        spec needs one.
    :raises BadInputError: if it cannot be trained; nothing has been trained then.
    """
    get_algorithm(spec.experiment.algo)
    settings = read_settings(spec.experiment.algo, spec.hyperparameters)
    factory = EnvironmentFactory(spec.experiment.env_id, spec.experiment.env_kwargs, settings)
    env = check_environment(factory)
    try:
        check_segment(
            spec.experiment, spec.segment_timesteps, spec.hyperparameters, max_episode_steps(env)
        )
    except InvalidExperimentError as error:
        raise BadInputError(str(error)) from error
    finally:
        env.close()
    plan = SegmentPlan(
        spec.trial(trial).seed,
        spec.segment_timesteps,
        spec.experiment.total_timesteps,
        spec.n_segments,
    )
    fits = functools.partial(check_replay_fits, settings, plan.total_timesteps)
    removed = why_removed(spec.experiment.compute)
    builder = ModelBuilder(
        settings,
        _device(settings.policy, asked=bool(removed)),
        fast=fast and not removed,
        why_not_fast=removed or "switched off",
        check=fits,
    )
    return SegmentTrainer(plan, factory, builder, read_warm_start(spec, store))


def train_trial(job: TrialJob) -> TrialResult:
    """Go on from the newest good checkpoint to the end of the training.

    :raises TrainerError: for everything that ends it earlier; what was finished before is committed
        or being so.
    """
    trainer = make_trainer(job.spec, job.trial, job.store)
    _check_untrained(trainer, begun=job.chain.step > 0)
    facts = numeric_class(trainer.builder.device, trainer.builder.path)
    newest = job.chain.read_newest()
    if newest is not None:
        facts = _checked_class(job, newest, facts)
    run = _TrialRun(job, trainer, facts)
    return run.to_the_end(newest)


def _check_untrained(trainer: SegmentTrainer, *, begun: bool) -> None:
    """Build an untrained model: that chooses the path, and finds what SB3 or ONNX refuse before a
    segment is trained.

    :param begun: whether a checkpoint shows that a machine could train this; then it is the machine
        that is too small, not the spec that is wrong.
    """
    try:
        model = trainer.prepare(0, None)
    except ReplayTooLargeError as error:
        if not begun:
            raise
        raise OutOfMemoryError(f"{error.facts}: go on on a larger machine") from error
    check_exportable(model)
    if trainer.initial is not None:
        check_acts_alike(model, trainer.initial)
    model.env.close()
    release(model)


class _Position(NamedTuple):
    """Where a training stands, and what its policy is."""

    step: int
    digest: str


class _TrialRun:
    """The state of one process's work on a trial."""

    def __init__(self, job: TrialJob, trainer: SegmentTrainer, facts: dict[str, JsonValue]) -> None:
        self.job, self.trainer, self.facts = job, trainer, facts
        self.class_name = hashlib.sha256(canonical_json(facts)).hexdigest()[:12]
        self.policies = PolicyWriter(
            job.store, job.spec, job.trial, job.chain.attempt, trainer.factory.settings.wrappers
        )
        self.committer = Committer(self._while_waiting)
        self.segment = 0
        self.state: ModelState | None = None
        self.latest = TrainingProgress(0, 0.0, None)
        self.room: Room | None = None
        self.began = self.said_at = time.monotonic()
        self.beat_at = 0.0

    def to_the_end(self, newest: Checkpoint | None) -> TrialResult:
        """Train what is missing."""
        self.segment = newest.manifest.segment if newest else 0
        self._announce(newest)
        position = self._stand(newest)
        started, resumed_from = time.monotonic(), position.step
        try:
            while self.segment < self.trainer.plan.n_segments:
                try:
                    position = self._train_one()
                except (CorruptArtifactError, MissingObjectError) as error:
                    if newest is None or position.step != newest.manifest.step:
                        raise
                    newest = self.job.chain.read_before(
                        newest, error
                    )  # its replay buffer cannot be read
                    position = self._stand(newest)
                    resumed_from = position.step
                newest = newest if position.step == resumed_from else None
        finally:
            self.committer.finish()
        step, digest = position
        seconds = max(time.monotonic() - started, 1e-9)
        return TrialResult(
            step,
            digest,
            resumed_from,
            (step - resumed_from) / seconds,
            self.trainer.builder.path,
            self.latest.episode_return_mean,
        )

    def _stand(self, newest: Checkpoint | None) -> "_Position":
        """Take a checkpoint's place: take its state, and say where it is.
        :param newest: None: at the beginning.
        """
        self.segment = newest.manifest.segment if newest else 0
        if newest is None:
            self.state = None
            return _Position(0, "")
        self.state = ModelState.from_files(newest.take_files(), newest.chunks)
        self._complete_policy(newest, self.state)
        return _Position(newest.manifest.step, newest.manifest.digest)

    def _take_state(self) -> ModelState | None:
        """Give the state away: once a model has it, nobody needs to hold it."""
        state, self.state = self.state, None
        return state

    def _train_one(self) -> "_Position":
        """Train a segment and have it committed; the state for the next one is left without the
        bytes that are being stored.
        """
        watch = TrainingWatch(self.job.interruption, self._report, self.room)
        trained = self.trainer.train(self.segment, self._take_state(), watch)
        self.segment += 1
        self.latest = watch.progress(time.monotonic())
        self._report(self.latest)
        self._note("segment_finished", self.latest)
        segment, after = self.segment, trained.state
        self.room, position = (
            self._room_of(trained),
            _Position(trained.step, digest_arrays(final_parameters(after))),
        )
        self.committer.submit(
            lambda: self._commit(trained, segment)
        )  # and then the model is released
        memory = after.memory.without_data() if after.memory is not None else None
        self.state = dataclasses.replace(after, memory=memory)
        return position

    def _while_waiting(self, waited_s: float) -> None:
        """Look whether there is time to wait for the store, and say each second that the training
        waits, in the log each half minute.
        """
        self.job.interruption.check_grace()
        now = time.monotonic()
        if waited_s < WAITING_IS_SAID_S or now < self.beat_at:
            return
        self.beat_at = now + WAITING_IS_SAID_S
        problem = (
            f"step {self.latest.step:,} is being stored, and training waits for it "
            f"({waited_s:.0f} s)"
        )
        self.job.waiting(problem)
        if now - self.said_at > SAY_EVERY_S:
            self.job.journal.event("waiting", f"{self.job.trial}: {problem}")
            self.said_at = now

    def _room_of(self, trained: TrainedSegment) -> Room | None:
        """How far the next segment may go while this one is being stored: it must not overwrite the
        replay buffer's newest rows.
        """
        rows = trained.state.memory.free_rows if trained.state.memory is not None else None
        return None if rows is None else Room(rows * trained.model.n_envs, self.committer.wait)

    def _commit(self, trained: TrainedSegment, segment: int) -> None:
        """Runs beside the next segment: checkpoint, head, policy, curves, log."""
        final = segment == self.trainer.plan.n_segments
        manifest = self.job.chain.commit(self._contents(trained, segment, final=final))
        self.policies.write(
            trained.model,
            final_parameters(trained.state),
            trained.step,
            final=final,
            manifest=manifest,
            visited=trained.visited,
            learning=learning_state(trained.state),
        )
        for key, data in curve_files(trained.curves, self.job.chain.trial, trained.step).items():
            self.job.store.put(key, data)
        self.job.journal.write(self.job.store)
        trained.model.env.close()
        release(trained.model)

    def _contents(self, trained: TrainedSegment, segment: int, *, final: bool) -> Contents:
        files = trained.state.to_files() | (_sb3_files(trained.model) if final else {})
        chunks = trained.state.memory.chunks if trained.state.memory else ()
        return Contents(
            step=trained.step,
            segment=segment,
            digest=digest_arrays(final_parameters(trained.state)),
            files=files,
            numeric_class=self.facts,
            buffer_chunks=tuple(chunk.sha256 for chunk in chunks),
            new_chunks={chunk.sha256: chunk.pieces for chunk in chunks if chunk.pieces},
        )

    def _complete_policy(self, newest: Checkpoint, state: ModelState) -> None:
        """Write the policy of the newest checkpoint, if the machine vanished between the two."""
        manifest = newest.manifest
        if self.policies.exists(manifest.step):
            return
        model = self.trainer.prepare(
            manifest.segment, dataclasses.replace(state, memory=None)
        )  # a policy needs no replay buffer
        head = (newest.key, hashlib.sha256(manifest.to_json()).hexdigest())
        final = manifest.segment == self.trainer.plan.n_segments
        self.policies.write(
            model,
            final_parameters(state),
            manifest.step,
            final=final,
            manifest=head,
            learning=learning_state(state),
        )
        model.env.close()
        release(model)

    def _announce(self, newest: Checkpoint | None) -> None:
        builder, total = self.trainer.builder, self.trainer.plan.total_timesteps
        begun = f"goes on from step {newest.manifest.step}" if newest else "begins"
        if newest is None and self.trainer.initial is not None:
            begun += " with the champion's parameters"
        why = f" ({builder.reason})" if builder.reason else ""
        self.job.journal.event(
            "started",
            f"{self.job.chain.trial} {begun} of {total}, attempt {self.job.chain.attempt}, "
            f"on {builder.path}{why}",
            numeric_class=self.facts,
            segment=self.segment,
        )

    def _note(self, event: str, progress: TrainingProgress) -> None:
        words = describe_progress(
            progress,
            self.trainer.plan.total_timesteps,
            time.monotonic() - self.began,
            self.job.usd_per_hour,
        )
        self.job.journal.event(
            event,
            f"{self.job.trial}: {words}",
            step=progress.step,
            steps_per_s=progress.steps_per_s,
            segment=self.segment,
        )
        self.said_at = time.monotonic()

    def _report(self, progress: TrainingProgress) -> None:
        self.committer.raise_if_failed()
        self.latest = progress
        if time.monotonic() - self.said_at > SAY_EVERY_S:
            self._note("progress", progress)
        self.job.report(progress, self.segment, self.class_name)


def describe_progress(
    progress: TrainingProgress, total_timesteps: int, seconds: float, usd_per_hour: float | None
) -> str:
    """One line for a person: how far, how fast, how long still, for how much.

    :param seconds: since this machine began. :param usd_per_hour: what it costs; None: nobody said.

    >>> describe_progress(TrainingProgress(25_000, 500.0, 20.5), 100_000, 60.0, 0.36)
    '25,000/100,000 steps (25%), 500 steps/s, mean return 20.5, 150 s left, USD 0.0060 so far, about
    USD 0.0210 in the end'
    """
    left_s = max(total_timesteps - progress.step, 0) / max(progress.steps_per_s, 1e-9)
    parts = [
        (
            f"{progress.step:,}/{total_timesteps:,} steps "
            f"({min(1.0, progress.step / total_timesteps):.0%})"
        ),
        f"{progress.steps_per_s:,.0f} steps/s",
    ]
    if progress.episode_return_mean is not None:
        parts.append(f"mean return {progress.episode_return_mean:.1f}")
    parts.append(f"{left_s:.0f} s left" if left_s < 600 else f"{left_s / 60:.0f} min left")
    if usd_per_hour is not None:
        parts += [
            f"USD {seconds * usd_per_hour / 3600:.4f} so far",
            f"about USD {(seconds + left_s) * usd_per_hour / 3600:.4f} in the end",
        ]
    return ", ".join(parts)


def _checked_class(
    job: TrialJob, newest: Checkpoint, facts: dict[str, JsonValue]
) -> dict[str, JsonValue]:
    """Compare this machine with the one that made the checkpoint.
    :raises OtherHardwareError: as the spec says.
    """
    manifest = newest.manifest
    if (
        manifest.spec_sha256 != job.spec.sha256
        or manifest.trial_seed != job.spec.trial(job.trial).seed
    ):
        raise BadInputError(
            f"{newest.key} is a checkpoint of another spec ({manifest.spec_sha256[:12]}…, not "
            f"{job.spec.sha256[:12]}…): use its spec, or another store or run"
        )
    other = differences(manifest.numeric_class, facts)
    if other and job.spec.experiment.compute.on_other_hardware == "wait":
        raise OtherHardwareError(
            f"{newest.key} was made on another numeric class ({'; '.join(other)}): go on there, "
            "or set "
            "compute.on_other_hardware: continue, and the digest will not be comparable"
            + (f"; {removed}" if (removed := why_path_removed(manifest.numeric_class)) else "")
        )
    mixed = bool(other) or bool(manifest.numeric_class.get("mixed"))
    return {**facts, "mixed": True} if mixed else facts


def _sb3_files(model: Any) -> dict[str, bytes]:
    """The model as SB3 itself saves it, for `PPO.load` and its like; it executes code when
    loaded.
    """
    buffer = io.BytesIO()
    model.save(buffer)
    return {"model.zip": buffer.getvalue()}


def _device(policy: str, *, asked: bool) -> str:
    """Small MLP policies train faster on the CPU, even beside a GPU.
    :param asked: whether the spec asks for the GPU.
    """
    import torch

    wide = "Cnn" in policy or "MultiInput" in policy
    return "cuda" if (wide or asked) and torch.cuda.is_available() else "cpu"
