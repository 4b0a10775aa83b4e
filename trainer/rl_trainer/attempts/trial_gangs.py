"""Make the gang of a trial, and say what its learner waits for."""

import time
from collections.abc import Callable

from pydantic import JsonValue

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import TrialId
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.checkpointing.numeric_class import COLLECTORS, MIXED, class_name
from rl_trainer.gangs.gang import Gang, GangJob
from rl_trainer.gangs.roster import Roster, Start
from rl_trainer.training.segments import SegmentTrainer

#: A wait that follows the last one after more than this many seconds is another wait.
ANOTHER_WAIT_S = 5.0


def make_gang(
    spec: Spec,
    trial: TrialId,
    attempt: int,
    store: ObjectStore,
    trainer: SegmentTrainer,
    address: str,
    facts: dict[str, JsonValue],
    waiting: Callable[[str, float], None],
    start: Callable[[int], Start],
) -> Gang:
    """Make the gang that collects the shards of a trial.

    :param address: this machine's own address.
    :param facts: the numeric class of the learner.
    :param waiting: called while the learner waits, with what it waits for and for how long.
    :param start: returns what a generation begins with, for a segment.
    """
    compute, on_cpu = spec.experiment.compute, not trainer.builder.device.startswith("cuda")
    own = {key: value for key, value in facts.items() if key != MIXED}
    known = class_name(own) if on_cpu else facts.get(COLLECTORS)
    roster = Roster(
        store,
        trial,
        attempt,
        compute.machines,
        str(known) if known else None,
        any_class=compute.on_other_hardware == "continue",
    )
    job = GangJob(
        spec,
        trial.trial,
        trainer.work,
        address,
        learner_collects=on_cpu,
        waiting=_WaitMeasure(waiting),
        start=start,
    )
    return Gang(job, roster if compute.machines > 1 else None)


class _WaitMeasure:
    """Measures how long the learner has waited."""

    def __init__(self, report: Callable[[str, float], None]) -> None:
        self._report = report
        self._began = self._last = -ANOTHER_WAIT_S

    def __call__(self, problem: str) -> None:
        """Report that the learner still waits."""
        now = time.monotonic()
        if now - self._last >= ANOTHER_WAIT_S:
            self._began = now
        self._last = now
        self._report(problem, now - self._began)
