"""A machine that only collects: the whole process behind `python -m rl_trainer collect`.

This process steps no environments. It announces the machine in its heartbeat, finds the generations
that name it, and starts a process for each of its ranks. So it stays awake whatever the
environments do.
"""

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.gangs import LOOPBACK, Announcement
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.attempts.attempts import trial_name
from rl_trainer.attempts.end_reports import reported
from rl_trainer.attempts.seat_reports import SeatReporter
from rl_trainer.checkpointing.numeric_class import class_name, numeric_class, pin_threads
from rl_trainer.checkpointing.stores import PatientStore, open_store
from rl_trainer.environments.fork_server import start_fork_server
from rl_trainer.environments.wheels import make_importable
from rl_trainer.errors import BadInputError
from rl_trainer.reporting.heartbeat import HeartbeatThread
from rl_trainer.reporting.journal import Journal
from rl_trainer.settings.algorithm_classes import block_tensorboard
from rl_trainer.settings.spec_files import load_spec
from rl_trainer.training.interruptions import Interruption

if TYPE_CHECKING:
    from rl_trainer.attempts.seat import Seat


@dataclass(frozen=True)
class CollectRequest:
    """The arguments of the command line.

    :param seat: the number of this machine in its trial.
    :param attempt: None means the number of the stored heartbeat plus one.
    :param address: this machine's own address, on which its processes listen.
    """

    spec: str
    store: str
    seat: int
    trial: str | None = None
    attempt: int | None = None
    watch_interruption: bool = False
    quiet: bool = False
    address: str = LOOPBACK


def run_collector(request: CollectRequest, interruption: Interruption) -> dict[str, Any]:
    """Collect for a trial until its learner has ended it.

    :return: the object that `--json` prints.
    :raises TrainerError: if this machine cannot collect.
    """
    pin_threads()
    near = open_store(request.store)
    store = PatientStore(near, check=interruption.check)
    spec = load_spec(request.spec, store)
    machines = spec.experiment.compute.machines
    if request.seat >= machines:
        raise BadInputError(
            f"--seat {request.seat}: the trial has {machines} machine{'s' * (machines > 1)}, so "
            f"its seats are 0 to {machines - 1}; set compute.machines of the experiment"
        )
    place = spec.trial_id(trial_name(spec, request.trial)).at_seat(request.seat)
    attempt = request.attempt or _next_attempt(store, place)
    if request.watch_interruption:
        interruption.watch_ec2()
    journal = Journal(place, attempt, quiet=request.quiet)
    beats = HeartbeatThread(near, place, attempt)
    reporter = SeatReporter(beats, attempt, spec.experiment.total_timesteps)
    interruption.on_deadline = reporter.give_up
    with (
        tempfile.TemporaryDirectory(prefix="rl-collector-") as folder,
        reported(reporter, journal, store, "the trial has ended"),
    ):
        reporter.beat(TrainerState.STARTING)
        make_importable(spec.requirements, store, Path(folder))
        start_fork_server()  # imports torch while this process does the same
        seat = _prepared(request, spec, place, store, journal, reporter, interruption)
        seat.run()
    return {
        "experiment": place.experiment,
        "run": place.run,
        "trial": place.trial,
        "seat": place.seat,
        "attempt": attempt,
        "state": TrainerState.FINISHED.value,
        "steps": reporter.steps,
        "generations": reporter.generations,
    }


def _next_attempt(store: ObjectStore, place: TrialId) -> int:
    """Return the number of the attempt that wrote the stored heartbeat, plus one."""
    found = store.find(key := heartbeat_key(place))
    return Heartbeat.from_json(found.data, key).attempt + 1 if found else 1


def _prepared(
    request: CollectRequest,
    spec: Spec,
    place: TrialId,
    store: ObjectStore,
    journal: Journal,
    reporter: SeatReporter,
    interruption: Interruption,
) -> "Seat":
    """Check that this machine can collect, and say what it is."""
    block_tensorboard()
    from rl_trainer.attempts.processes import choose_processes
    from rl_trainer.attempts.seat import Seat
    from rl_trainer.training.lean_torch import leave_compiler_out
    from rl_trainer.training.preparation import check_untrained, make_trainer

    leave_compiler_out()
    trainer = make_trainer(spec, place.trial, store, device="cpu")
    check_untrained(trainer, begun=True)
    compute = spec.experiment.compute
    processes = choose_processes(
        compute.workers,
        trainer.factory,
        trainer.plan.trial_seed,
        shards=spec.shards,
        machines=compute.machines,
    )
    facts = numeric_class("cpu", trainer.builder.path)
    announcement = Announcement(
        nonce=uuid.uuid4().hex,
        address=request.address,
        processes=processes.number,
        numeric_class=class_name(facts),
    )
    journal.event(
        "started",
        f"{place}: collects in {processes.number} process{'es' * (processes.number > 1)} "
        f"({processes.reason})",
        numeric_class=facts,
    )
    return Seat(spec, place, store, announcement, journal, reporter, interruption)
