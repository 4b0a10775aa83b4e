"""Train the segments of a trial in order. Commit each segment while the next one trains.

:mod:`rl_trainer.attempts.attempts` calls this module once per process.
"""

import dataclasses
import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import JsonValue

from rl_lifecycle.errors import CorruptArtifactError, MissingObjectError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.registry.replays import why_path_removed
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.gangs import LOOPBACK, GangReport
from rl_trainer.attempts.policy_files import PolicyWriter
from rl_trainer.attempts.processes import Processes, choose_again, choose_processes
from rl_trainer.attempts.trial_gangs import WaitMeasure, make_roster
from rl_trainer.checkpointing.chain import Checkpoint, CheckpointChain, Contents
from rl_trainer.checkpointing.committer import Committer
from rl_trainer.checkpointing.digests import digest_arrays
from rl_trainer.checkpointing.model_state import ModelState, final_parameters
from rl_trainer.checkpointing.numeric_class import (
    COLLECTORS,
    MIXED,
    class_name,
    differences,
    numeric_class,
)
from rl_trainer.errors import (
    BadInputError,
    LostMemberError,
    OneProcessNeededError,
    OtherHardwareError,
    TrainerError,
)
from rl_trainer.gangs.gang import Gang, GangJob
from rl_trainer.gangs.roster import Start
from rl_trainer.reporting.curves import curve_files
from rl_trainer.reporting.journal import Journal
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.models import release
from rl_trainer.training.preparation import check_untrained, make_trainer
from rl_trainer.training.progress import TrainingProgress, describe_progress
from rl_trainer.training.segments import SegmentTrainer, TrainedSegment
from rl_trainer.training.warm_start import learning_state
from rl_trainer.training.watch import Room, TrainingWatch

#: Seconds between two progress lines in the log.
LOG_EVERY_S = 30.0
#: After this many generations without a new checkpoint another one would not help, either.
MOST_LOSSES = 8
#: Seconds between two reports that the training waits for the store.
REPORT_WAITING_EVERY_S = 1.0


@dataclass(frozen=True)
class TrialJob:
    """One trial that this process trains, and the objects that it needs.

    :param report: called with the progress, the segment, the name of the numeric class, and the
        gang of a trial with several machines.
    :param waiting: called with a sentence while the training waits for the store.
    :param address: this machine's own address, for the other machines of the trial.
    """

    spec: Spec
    trial: str
    store: ObjectStore
    chain: CheckpointChain
    journal: Journal
    interruption: Interruption
    report: Callable[[TrainingProgress, int, str, GangReport | None], None]
    waiting: Callable[[str], None]
    usd_per_hour: float | None = None
    address: str = LOOPBACK


@dataclass(frozen=True)
class TrialResult:
    """The position and the speed of a trial when its training has ended."""

    step: int
    digest: str
    resumed_from: int
    steps_per_s: float
    path: str
    episode_return_mean: float | None


def train_trial(job: TrialJob) -> TrialResult:
    """Train from the newest good checkpoint to the end of the training.

    :raises TrainerError: if the training ends earlier. Segments that were finished are committed,
        or were being committed.
    """
    trainer = make_trainer(job.spec, job.trial, job.store)
    check_untrained(trainer, begun=job.chain.step > 0)
    facts = numeric_class(trainer.builder.device, trainer.builder.path)
    newest = job.chain.read_newest()
    if newest is not None:
        facts = _checked_class(job, newest, facts)
    compute = job.spec.experiment.compute
    processes = choose_processes(
        compute.workers,
        trainer.factory,
        trainer.plan.trial_seed,
        shards=trainer.plan.n_shards,
        machines=compute.machines,
    )
    run = _TrialRun(job, trainer, facts, processes)
    return run.to_the_end(newest)


class _Position(NamedTuple):
    """The step of a training, and the digest of its policy there."""

    step: int
    digest: str


class _TrialRun:
    """The state of this process's work on a trial."""

    def __init__(
        self,
        job: TrialJob,
        trainer: SegmentTrainer,
        facts: dict[str, JsonValue],
        processes: Processes,
    ) -> None:
        self.job, self.trainer, self.facts = job, trainer, facts
        self.processes = processes
        self.class_name = class_name(facts)
        self.gang: Gang | None = None
        if trainer.plan.n_shards > 1:
            trainer.collectors = self.gang = self._make_gang()
        self.losses = 0
        self.policies = PolicyWriter(
            job.store, job.spec, job.trial, job.chain.attempt, trainer.factory.settings.wrappers
        )
        self.committer = Committer(self._while_waiting)
        self.segment = 0
        self.state: ModelState | None = None
        self.latest = TrainingProgress(0, 0.0, None)
        self.room: Room | None = None
        self.reconsidered = False
        self.began = self.logged_at = time.monotonic()
        self.next_waiting_report_at = 0.0

    def _make_gang(self) -> Gang:
        """Make the gang that collects the shards. A learner with a GPU does not collect."""
        job, collects = self.job, not self.trainer.builder.device.startswith("cuda")
        roster = make_roster(job.spec, job.chain, job.store, self.facts, learner_collects=collects)
        gang_job = GangJob(
            job.spec,
            job.trial,
            self.trainer.work,
            job.address,
            learner_collects=collects,
            waiting=WaitMeasure(self._while_gathering),
            start=self._start_of,
        )
        return Gang(gang_job, roster)

    def to_the_end(self, newest: Checkpoint | None) -> TrialResult:
        """Train all segments that are missing."""
        self.segment = newest.manifest.segment if newest else 0
        self._announce(newest)
        self._use(self.processes)
        position = self._continue_from(newest)
        started, resumed_from = time.monotonic(), position.step
        try:
            while self.segment < self.trainer.plan.n_segments:
                try:
                    position = self._train_one()
                except OneProcessNeededError as error:
                    newest = self._go_back_to_one_process(error)
                    position = self._continue_from(newest)
                    continue
                except LostMemberError as error:
                    newest = self._go_back(error)
                    position = self._continue_from(newest)
                    continue
                except (CorruptArtifactError, MissingObjectError) as error:
                    if newest is None or position.step != newest.manifest.step:
                        raise
                    # The replay buffer of the checkpoint cannot be read.
                    newest = self.job.chain.read_before(newest, error)
                    position = self._continue_from(newest)
                    resumed_from = position.step
                newest = newest if position.step == resumed_from else None
        finally:
            self.trainer.collectors.close()
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

    def _continue_from(self, newest: Checkpoint | None) -> "_Position":
        """Continue from a checkpoint: take its state, and return its position.

        :param newest: None means the beginning of the training.
        """
        self.segment = newest.manifest.segment if newest else 0
        if newest is None:
            self.state = None
            return _Position(0, "")
        self.state = ModelState.from_files(newest.take_files(), newest.chunks)
        self._complete_policy(newest, self.state)
        return _Position(newest.manifest.step, newest.manifest.digest)

    def _take_state(self) -> ModelState | None:
        """Return the state and forget it, so that only the model holds it."""
        state, self.state = self.state, None
        return state

    def _train_one(self) -> "_Position":
        """Train a segment, and start its commit.

        The state for the next segment does not hold the bytes that are being stored.
        """
        watch = TrainingWatch(self.job.interruption, self._report, self.room)
        trained = self.trainer.train(self.segment, self._take_state(), watch)

        self.losses = 0
        self.segment += 1
        self.latest = watch.progress(time.monotonic())
        self._report(self.latest)
        self._note("segment_finished", self.latest)
        self._reconsider_processes()
        segment, after = self.segment, trained.state
        self.room = self._room_of(trained)
        position = _Position(trained.step, digest_arrays(final_parameters(after)))
        self.committer.submit(lambda: self._commit(trained, segment))  # also frees the model
        memory = after.memory.without_data() if after.memory is not None else None
        self.state = dataclasses.replace(after, memory=memory)
        return position

    def _use(self, processes: Processes) -> None:
        """Step the environments of the next segments in so many processes, and log the reason."""
        self.processes, factory = processes, self.trainer.factory
        if self.gang is None:
            factory.processes = processes.number
        else:
            self.gang.processes = processes.number
        words = processes.describe(factory.settings.n_envs)
        self.job.journal.event("workers", f"{self.job.trial}: {words}", **processes.facts)

    def _reconsider_processes(self) -> None:
        """Choose again after this process's first segment, when the updates' time is known."""
        compute = self.job.spec.experiment.compute
        if self.reconsidered or compute.workers != "auto" or compute.machines > 1:
            return
        self.reconsidered = True
        chosen = choose_again(self.processes, self.latest.steps_per_s)
        if chosen.number != self.processes.number:
            self._use(chosen)

    def _go_back_to_one_process(self, error: OneProcessNeededError) -> Checkpoint | None:
        """Discard the running segment, and train on in one process.

        :return: the newest checkpoint; None if there is none.
        """
        self.reconsidered = True
        self._use(dataclasses.replace(self.processes, number=1, reason=str(error)))
        self.committer.wait()
        self.room = None
        return self.job.chain.read_newest()

    def _go_back(self, error: LostMemberError) -> Checkpoint | None:
        """Discard the running segment, and collect it again with those that are still there.

        :return: the newest checkpoint; None if there is none.
        :raises TrainerError: if that has happened too often without a new checkpoint.
        """
        self.losses += 1
        if self.losses >= MOST_LOSSES:
            raise TrainerError(
                f"{self.losses} generations in a row ended without a checkpoint; the last: {error}"
            ) from error
        self.job.journal.event("member_lost", f"{self.job.trial}: {error}", segment=self.segment)
        self.committer.wait()
        return self.job.chain.read_newest()

    def _start_of(self, segment: int) -> Start:
        """Tell what a generation begins with: the newest checkpoint that is committed."""
        return Start(segment, *self.job.chain.newest)

    def _while_gathering(self, problem: str, waited_s: float) -> None:
        """Report that the training waits for other processes.

        :raises InterruptedTrainingError: after a notice.
        """
        self.job.interruption.check()
        self._report_waiting(problem, waited_s)

    def _while_waiting(self, waited_s: float) -> None:
        """Report that the training waits for the store.

        :raises InterruptedTrainingError: if too much time has passed since an interruption notice.
        """
        self.job.interruption.check_grace()
        problem = f"step {self.latest.step:,} is being stored, and training waits for it"
        self._report_waiting(problem, waited_s)

    def _report_waiting(self, problem: str, waited_s: float) -> None:
        """Report each second, and each half minute in the log, what the training waits for."""
        now = time.monotonic()
        if waited_s < REPORT_WAITING_EVERY_S or now < self.next_waiting_report_at:
            return
        self.next_waiting_report_at = now + REPORT_WAITING_EVERY_S
        problem = f"{problem} ({waited_s:.0f} s)"
        self.job.waiting(problem)
        if now - self.logged_at > LOG_EVERY_S:
            self.job.journal.event("waiting", f"{self.job.trial}: {problem}")
            self.logged_at = now

    def _room_of(self, trained: TrainedSegment) -> Room | None:
        """Return how far the next segment may train while this one is being stored.

        It must not overwrite the replay buffer's newest rows.
        """
        rows = trained.state.memory.free_rows if trained.state.memory is not None else None
        return None if rows is None else Room(rows * trained.model.n_envs, self.committer.wait)

    def _commit(self, trained: TrainedSegment, segment: int) -> None:
        """Store a segment while the next one trains: checkpoint, head, policy, curves and log."""
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
            numeric_class=self._facts_now(),
            buffer_chunks=tuple(chunk.sha256 for chunk in chunks),
            new_chunks={chunk.sha256: chunk.pieces for chunk in chunks if chunk.pieces},
        )

    def _facts_now(self) -> dict[str, JsonValue]:
        """The numeric class of the segment: the learner's, and the collectors' if it is another."""
        if self.gang is None or not self.trainer.builder.device.startswith("cuda"):
            return self.facts
        return {**self.facts, COLLECTORS: self.gang.collectors_class}

    def _complete_policy(self, newest: Checkpoint, state: ModelState) -> None:
        """Write the policy of the newest checkpoint if the machine disappeared before."""
        manifest = newest.manifest
        if self.policies.exists(manifest.step):
            return
        without_buffer = dataclasses.replace(state, memory=None)
        model = self.trainer.prepare(manifest.segment, without_buffer)
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
        begun = f"continues from step {newest.manifest.step}" if newest else "starts"
        if newest is None and self.trainer.initial is not None:
            begun += " with the champion's parameters"
        why = f" ({builder.reason})" if builder.reason else ""
        self.job.journal.event(
            "started",
            f"{self.job.chain.trial} {begun} of {total}, attempt {self.job.chain.attempt}, "
            f"on {builder.path}{why}{self._in_shards()}",
            numeric_class=self.facts,
            segment=self.segment,
        )

    def _in_shards(self) -> str:
        """Say how many shards there are, and how many machines collect them."""
        if self.trainer.plan.n_shards == 1:
            return ""
        machines = self.job.spec.experiment.compute.machines
        on = f" on {machines} machines" if machines > 1 else ""
        return f", {self.trainer.plan.n_shards} shards{on}"

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
        self.logged_at = time.monotonic()

    def _report(self, progress: TrainingProgress) -> None:
        self.committer.raise_if_failed()
        self.latest = progress
        if time.monotonic() - self.logged_at > LOG_EVERY_S:
            self._note("progress", progress)
        gang = self.gang.report if self.gang is not None else None
        self.job.report(progress, self.segment, self.class_name, gang)


def _checked_class(
    job: TrialJob, newest: Checkpoint, facts: dict[str, JsonValue]
) -> dict[str, JsonValue]:
    """Compare this machine with the machine that made the checkpoint.

    :return: the facts of this machine, marked as mixed if several classes have trained.
    :raises OtherHardwareError: if they differ and the spec says `wait`.
    :raises BadInputError: if the checkpoint belongs to another spec or seed.
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
            f"{newest.key} was made on another numeric class ({'; '.join(other)}): continue on "
            "such a machine, or set compute.on_other_hardware: continue, and the digest will not "
            "be comparable"
            + (f"; {removed}" if (removed := why_path_removed(manifest.numeric_class)) else "")
        )
    if collectors := manifest.numeric_class.get(COLLECTORS):
        facts = {**facts, COLLECTORS: collectors}
    mixed = bool(other) or bool(manifest.numeric_class.get(MIXED))
    return {**facts, MIXED: True} if mixed else facts


def _sb3_files(model: Any) -> dict[str, bytes]:
    """Return the model as SB3 itself saves it, for `PPO.load` and similar methods.

    Loading this file executes code.
    """
    buffer = io.BytesIO()
    model.save(buffer)
    return {"model.zip": buffer.getvalue()}
