"""Decide from a trial's learning curve whether to stop its training early.

The curve comes from the selection episodes that were evaluated so far.
"""

import logging
import re
from collections.abc import Mapping

from rl_airflow.errors import first_line
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.evaluation.early_stops import CurvePoint, curve_of, why_stop
from rl_lifecycle.evaluation.requests import Shard, merge_shards
from rl_lifecycle.evaluation.selection import SELECTION, read_selection_name
from rl_lifecycle.evaluation.stored_shards import parse_shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import evaluation_prefix, policy_key
from rl_lifecycle.storage.object_store import ObjectStore, get

log = logging.getLogger(__name__)

#: The shards of a trial's selection episodes: step → keys.
ShardKeys = Mapping[int, tuple[str, ...]]
#: A shard's key below its evaluation's prefix.
SHARD = re.compile(r"shards/\d+\.json")


class LearningCurve:
    """One trial's learning curve. Each shard is read once, because it never changes.

    :param trial: the trial's name.
    """

    def __init__(self, trial: str, spec: Spec | None = None) -> None:
        self.trial, self.spec = trial, spec
        self._shards: dict[str, Shard] = {}
        self._reported: set[tuple[int, int]] = set()
        self._judged: tuple[ShardKeys, str] | None = None

    @property
    def is_replay(self) -> bool:
        """Whether the run is known to be a replay. Then a look costs one GET."""
        return self.spec is not None and self.spec.replay is not None

    def find_answer(self, shards: ShardKeys) -> str | None:
        """Return the earlier answer for the same shards. It is None if there are new shards."""
        return (
            self._judged[1]
            if self._judged is not None and self._judged[0] == shards and not self.is_replay
            else None
        )

    def why_stop(self, store: ObjectStore, plan: RunPlan, shards: ShardKeys | None = None) -> str:
        """Return why the training can stop; empty if it must go on, or there is no rule.

        If the experiment has a rule, this costs one GET for each new shard. A replay costs one GET.
        If the curve cannot be read, the trial continues to train.

        :param shards: the shards of the trial's selection episodes, from :func:`find_shards`. If it
            is None, this method lists them.
        """
        try:
            return self._why_stop(store, plan, shards)
        except Exception as error:  # the trial continues to train, even if its curve has any error
            self.log_unreadable(error)
            return ""

    def log_unreadable(self, error: Exception) -> None:
        """Log that the curve cannot be read."""
        log.warning(
            "%s: its learning curve cannot be read, so it trains on: %s",
            self.trial,
            first_line(error),
        )

    def _why_stop(self, store: ObjectStore, plan: RunPlan, shards: ShardKeys | None) -> str:
        spec = self.spec = self.spec or plan.get_spec(store)
        rule = spec.experiment.early_stop
        if spec.replay is not None:
            there = store.find(policy_key(spec.trial_id(self.trial), spec.replay.step, "json"))
            return f"step {spec.replay.step:,} was reached: enough to compare with" if there else ""
        if not rule.active:
            return ""
        shards = (
            shards
            if shards is not None
            else find_shards(store, plan, self.trial).get(self.trial, {})
        )
        if (known := self.find_answer(shards)) is not None:
            return known
        self._judged = (
            shards,
            why_stop(self._read(store, spec, shards), rule, spec.experiment.total_timesteps),
        )
        return self._judged[1]

    def _read(self, store: ObjectStore, spec: Spec, shards: ShardKeys) -> tuple[CurvePoint, ...]:
        """Return all points of the curve so far."""
        merged = {
            step: merge_shards([self._shard(store, key) for key in keys])
            for step, keys in shards.items()
        }
        self._log_incomplete(merged, spec.experiment.evaluation.selection_episodes)
        return curve_of(merged, spec.experiment.evaluation)

    def _shard(self, store: ObjectStore, key: str) -> Shard:
        if key not in self._shards:
            self._shards[key] = parse_shard(get(store, key).data, f"{store.uri}/{key}")
        return self._shards[key]

    def _log_incomplete(self, merged: dict[int, Shard], n_episodes: int) -> None:
        """Log each policy with missing episodes once. It is not a point of the curve yet."""
        for step, shard in merged.items():
            if len(shard.returns) < n_episodes and (step, len(shard.returns)) not in self._reported:
                self._reported.add((step, len(shard.returns)))
                log.info(
                    "%s at step %s: %d of %d selection episodes are evaluated, so this is not "
                    "a point of the learning curve yet",
                    self.trial,
                    f"{step:,}",
                    len(shard.returns),
                    n_episodes,
                )


def find_shards(store: ObjectStore, plan: RunPlan, trial: str = "") -> dict[str, ShardKeys]:
    """Find the shards of a run's selection episodes, with one LIST for each thousand shards.

    :param trial: a prefix of the trials' names. An empty text means all trials of the run.
    :return: trial → step → keys.
    """
    stem = evaluation_prefix(plan.experiment, plan.run, SELECTION).removesuffix("/")
    found: dict[str, dict[int, list[str]]] = {}
    for item in store.list(stem + (f"{trial}-" if trial else "")):
        name, _, file = item.key.removeprefix(stem).partition("/")
        if SHARD.fullmatch(file) and (read := read_selection_name(SELECTION + name)):
            found.setdefault(read[0], {}).setdefault(read[1], []).append(item.key)
    return {
        name: {step: tuple(keys) for step, keys in steps.items()} for name, steps in found.items()
    }
