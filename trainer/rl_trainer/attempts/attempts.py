"""One attempt at a trial: the whole process behind `python -m rl_trainer train`.

This module opens the store, takes over the head, starts heartbeats, and reports how the attempt
ended. The training between these steps is in :mod:`rl_trainer.attempts.trials`. torch is imported
after the first heartbeat, because its import takes seconds.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, head_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.gangs import LOOPBACK, GangReport
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from rl_trainer.attempts.end_reports import EndReporter, reported
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.checkpointing.numeric_class import pin_threads
from rl_trainer.checkpointing.retention import DirectoryRetention
from rl_trainer.checkpointing.stores import PatientStore, open_store
from rl_trainer.environments.wheels import make_importable
from rl_trainer.errors import (
    BadInputError,
    FencedError,
)
from rl_trainer.reporting.heartbeat import HeartbeatThread
from rl_trainer.reporting.journal import Journal
from rl_trainer.reporting.startup_times import describe_startup, startup_facts
from rl_trainer.settings.algorithm_classes import block_tensorboard
from rl_trainer.settings.spec_files import load_spec
from rl_trainer.training.interruptions import Interruption

if TYPE_CHECKING:
    from rl_trainer.training.progress import TrainingProgress


#: When the trainer's code started, in seconds since the epoch. The interpreter started earlier.
BEGAN = time.time()


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of the command line.

    :param attempt: None means the last attempt's number plus one.
    :param usd_per_hour: price of this machine, for the progress messages.
    :param address: this machine's own address, for the other machines of the trial.
    """

    spec: str
    store: str
    trial: str | None = None
    attempt: int | None = None
    watch_interruption: bool = False
    quiet: bool = False
    usd_per_hour: float | None = None
    address: str = LOOPBACK


def run_attempt(request: TrainRequest, interruption: Interruption) -> dict[str, Any]:
    """Train a trial to its end.

    :return: the object that `--json` prints.
    :raises TrainerError: if the training cannot reach its end.
    """
    pin_threads()
    near = open_store(request.store)
    store = PatientStore(near, on_wait=_Waiting(near.uri), check=interruption.check)
    spec = load_spec(request.spec, store)
    trial = spec.trial_id(trial_name(spec, request.trial))
    attempt = request.attempt or next_attempt(store, trial)
    journal = Journal(trial, attempt, quiet=request.quiet)
    chain = CheckpointChain(
        store,
        trial,
        attempt,
        spec.sha256,
        spec.trial(trial.trial).seed,
        on_problem=lambda problem: journal.event("checkpoint_damaged", problem),
        retention=DirectoryRetention(near, trial, attempt)
        if isinstance(near, DirectoryStore)
        else None,
    )
    head = chain.take_over()
    beats = HeartbeatThread(near, trial, attempt)
    reporter = _Reporter(beats, attempt, spec.experiment.total_timesteps, head.step, interruption)
    store.on_wait, store.check = reporter.waiting, interruption.check_grace
    interruption.on_deadline = reporter.give_up
    if request.watch_interruption:
        interruption.watch_ec2()
    with (
        tempfile.TemporaryDirectory(prefix="rl-trainer-") as folder,
        reported(reporter, journal, store, "finished"),
    ):
        return _train(
            spec,
            trial,
            store,
            chain,
            journal,
            interruption,
            reporter,
            Path(folder),
            request.usd_per_hour,
            request.address,
        )


def _train(
    spec: Spec,
    trial: TrialId,
    store: ObjectStore,
    chain: CheckpointChain,
    journal: Journal,
    interruption: Interruption,
    reporter: "_Reporter",
    folder: Path,
    usd_per_hour: float | None,
    address: str,
) -> dict[str, Any]:
    reporter.beat(TrainerState.STARTING)
    make_importable(spec.requirements, store, folder)
    importing = time.time()
    block_tensorboard()  # before anything imports SB3's logger
    from rl_trainer.attempts.trials import TrialJob, train_trial
    from rl_trainer.training.lean_torch import leave_compiler_out

    leave_compiler_out()
    facts = startup_facts(os.environ, began=BEGAN, importing=importing, imported=time.time())
    journal.event("imported", describe_startup(facts), **facts)
    result = train_trial(
        TrialJob(
            spec,
            trial.trial,
            store,
            chain,
            journal,
            interruption,
            reporter.progress,
            reporter.waiting,
            usd_per_hour,
            address,
        )
    )
    reporter.step, reporter.segment = result.step, spec.n_segments
    return {
        "experiment": trial.experiment,
        "run": trial.run,
        "trial": trial.trial,
        "attempt": chain.attempt,
        "state": TrainerState.FINISHED.value,
        "step": result.step,
        "digest": result.digest,
        "resumed_from": result.resumed_from,
        "steps_per_s": round(result.steps_per_s, 1),
        "path": result.path,
        "episode_return_mean": result.episode_return_mean,
    }


class _Waiting:
    """Says once on stderr, also with `--quiet`, that the start waits for the store.

    There is no heartbeat yet that could report it.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self._said = uri, False

    def __call__(self, problem: str) -> None:
        """Say it, at the first problem."""
        if not self._said:
            self._said = True
            text = f"rl_trainer train: waiting for the store {self.uri}: {problem}"
            print(text, file=sys.stderr, flush=True)  # noqa: T201  a message for a person


def next_attempt(store: ObjectStore, trial: TrialId) -> int:
    """Return the number of the attempt that holds the head, plus one; 1 for a new trial."""
    found = store.find(head_key(trial))
    return Head.from_json(found.data, head_key(trial)).attempt + 1 if found else 1


def trial_name(spec: Spec, name: str | None) -> str:
    """Return the trial with this name, or the run's first trial for None."""
    if name is None:
        return spec.trials[0].name
    try:
        return spec.trial(name).name
    except LifecycleError as error:
        raise BadInputError(f"--trial: {error}") from error


class _Reporter(EndReporter):
    """Turns progress into heartbeats, and remembers the last values for the final heartbeat."""

    late = "the training loop did not stop in time"

    def __init__(
        self,
        beats: HeartbeatThread,
        attempt: int,
        total_timesteps: int,
        step: int,
        interruption: Interruption,
    ) -> None:
        super().__init__(beats, attempt, total_timesteps)
        self.interruption = interruption
        self.step, self.segment, self.steps_per_s = step, 0, 0.0
        self.class_name = ""
        self.gang: GangReport | None = None
        self.return_mean: float | None = None

    def progress(
        self,
        progress: "TrainingProgress",
        segment: int,
        class_name: str,
        gang: GangReport | None = None,
    ) -> None:
        """Report the progress of the training loop.

        :raises FencedError: if the stored heartbeat belongs to a later attempt.
        """
        if self.beats.fenced.is_set():
            raise FencedError(f"a later attempt than {self.attempt} has taken over the trial")
        self.step, self.segment, self.class_name = progress.step, segment, class_name
        self.gang = gang
        self.steps_per_s, self.return_mean = progress.steps_per_s, progress.episode_return_mean
        self.beat(TrainerState.TRAINING)

    def waiting(self, problem: str) -> None:
        """Report that the store does not answer, or that training waits for it."""
        self.beats.report(self._heartbeat(TrainerState.WAITING, message=problem[:300]))

    def beat(self, state: TrainerState) -> None:
        """Send a heartbeat."""
        self.beats.report(self._heartbeat(state))

    @property
    def steps_so_far(self) -> int:
        """The newest step."""
        return self.step

    def _heartbeat(
        self, state: TrainerState, cause: TrainerCause | None = None, message: str = ""
    ) -> Heartbeat:
        return Heartbeat(
            attempt=self.attempt,
            state=state,
            step=self.step,
            total_timesteps=self.total_timesteps,
            steps_per_s=self.steps_per_s,
            at=datetime.now(UTC),
            segment=self.segment,
            episode_return_mean=self.return_mean,
            cause=cause,
            message=message,
            numeric_class=self.class_name,
            rebalance_at=self.interruption.rebalance_at,
            gang=self.gang,
        )
