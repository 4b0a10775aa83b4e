"""Looking without acting: what a trigger sees of a trial at each poll, with as few calls as the newest news need."""

from typing import NamedTuple

from rl_airflow.machines import Machines
from rl_lifecycle.heartbeats import Heartbeat
from rl_lifecycle.layout import TrialId, heartbeat_key, heartbeat_prefix
from rl_lifecycle.states import Machine
from rl_lifecycle.stores import ObjectStore


class Look(NamedTuple):
    """What was seen of a trial at one poll."""

    machine: Machine | None
    heartbeat: Heartbeat | None


class TrialWatch:
    """Looks at trials of one environment: one DescribeInstances and one LIST a run, and only the changed beats are read."""

    def __init__(self, store: ObjectStore, machines: Machines) -> None:
        self.store, self.machines = store, machines
        self._beats: dict[str, tuple[str, Heartbeat]] = {}

    def look(self, trials: dict[TrialId, str | None]) -> dict[TrialId, Look]:
        """Look at trials.

        :param trials: trial → the id of its machine, None if it has none.
        """
        machines = self.machines.describe(instance for instance in trials.values() if instance)
        for experiment, run in sorted({(trial.experiment, trial.run) for trial in trials}):
            wanted = {heartbeat_key(trial) for trial in trials if (trial.experiment, trial.run) == (experiment, run)}
            self._read_changed(heartbeat_prefix(experiment, run), wanted)
        return {trial: Look(machines.get(instance) if instance else None, self._beat(trial))
                for trial, instance in trials.items()}

    def _read_changed(self, prefix: str, wanted: set[str]) -> None:
        for item in self.store.list(prefix):
            known = self._beats.get(item.key)
            if item.key in wanted and (known is None or known[0] != item.etag):
                found = self.store.find(item.key)
                if found is not None:
                    self._beats[item.key] = (found.etag, Heartbeat.from_json(found.data, item.key))

    def _beat(self, trial: TrialId) -> Heartbeat | None:
        known = self._beats.get(heartbeat_key(trial))
        return known[1] if known is not None else None
