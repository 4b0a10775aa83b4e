"""The other machines of a trial, and how long its learner has waited for them."""

import time
from collections.abc import Callable, Mapping

from pydantic import JsonValue

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.checkpointing.chain import CheckpointChain
from rl_trainer.checkpointing.numeric_class import COLLECTORS, MIXED, class_name
from rl_trainer.gangs.roster import Roster

#: A wait that follows the last one after more than this many seconds is another wait.
ANOTHER_WAIT_S = 5.0


def make_roster(
    spec: Spec,
    chain: CheckpointChain,
    store: ObjectStore,
    facts: Mapping[str, JsonValue],
    *,
    learner_collects: bool,
) -> Roster | None:
    """Make the roster of a trial's other machines; None if it has none.

    :param facts: the numeric class of the learner.
    """
    compute = spec.experiment.compute
    if compute.machines == 1:
        return None
    own = {key: value for key, value in facts.items() if key != MIXED}
    known = class_name(own) if learner_collects else facts.get(COLLECTORS)
    return Roster(
        store,
        chain.trial,
        chain.attempt,
        compute.machines,
        str(known) if known else None,
        any_class=compute.on_other_hardware == "continue",
    )


class WaitMeasure:
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
