"""Whether a trial has been trained enough: its learning curve, read off the selection episodes that are there already."""

import logging
import re

from rl_airflow.run_plan import RunPlan
from rl_lifecycle.early_stops import CurvePoint, curve_of, why_stop
from rl_lifecycle.evaluations import Shard, merge_shards
from rl_lifecycle.layout import evaluation_prefix, policy_key
from rl_lifecycle.selection import selection_name
from rl_lifecycle.specs import Spec
from rl_lifecycle.stores import ObjectStore, get

log = logging.getLogger(__name__)


class LearningCurve:
    """One trial's curve; each shard is read once, because it never changes.

    :param trial: the trial's name.
    """

    def __init__(self, trial: str, spec: Spec | None = None) -> None:
        self.trial, self.spec = trial, spec
        self._shards: dict[str, Shard] = {}
        self._told: set[tuple[int, int]] = set()

    @property
    def is_replay(self) -> bool:
        """Whether it is known to be a replay: one trial, of which a look costs one GET."""
        return self.spec is not None and self.spec.replay is not None

    def why_stop(self, store: ObjectStore, plan: RunPlan) -> str:
        """Look, and say why the trial need not be trained any further; empty while it must, or no rule was set.

        Costs one LIST, and only if the experiment has a rule; for a replay one GET. A curve that cannot be read stops nothing: it
        must not cost a healthy training.
        """
        try:
            return self._why_stop(store, plan)
        except Exception as error:  # whatever lies there, or does not answer
            log.warning("%s: its learning curve cannot be read, so it trains on: %s", self.trial, str(error).partition("\n")[0])
            return ""

    def _why_stop(self, store: ObjectStore, plan: RunPlan) -> str:
        spec = self.spec = self.spec or plan.get_spec(store)
        rule = spec.experiment.early_stop
        if spec.replay is not None:
            there = store.find(policy_key(spec.trial_id(self.trial), spec.replay.step, "json"))
            return f"step {spec.replay.step:,} is there: enough to compare with" if there else ""
        return why_stop(self.read(store, spec), rule, spec.experiment.total_timesteps) if rule.active else ""

    def read(self, store: ObjectStore, spec: Spec) -> tuple[CurvePoint, ...]:
        """All points that are there."""
        experiment = spec.experiment
        stem = evaluation_prefix(experiment.name, spec.run, selection_name(self.trial, 0)).removesuffix("0/")
        pattern, found = re.compile(rf"{re.escape(stem)}(\d+)/shards/\d+\.json"), dict[int, list[Shard]]()
        for item in store.list(stem):
            if matched := pattern.fullmatch(item.key):
                if item.key not in self._shards:
                    self._shards[item.key] = Shard.from_json(get(store, item.key).data, item.key)
                found.setdefault(int(matched.group(1)), []).append(self._shards[item.key])
        merged = {step: merge_shards(shards) for step, shards in found.items()}
        self._tell_incomplete(merged, experiment.evaluation.selection_episodes)
        return curve_of(merged, experiment.evaluation)

    def _tell_incomplete(self, merged: dict[int, Shard], n_episodes: int) -> None:
        """Say once of each policy that not all of its episodes are there: it is no point of the curve."""
        for step, shard in merged.items():
            if len(shard.returns) < n_episodes and (step, len(shard.returns)) not in self._told:
                self._told.add((step, len(shard.returns)))
                log.info("%s at step %s: %d of %d selection episodes are there, so it is no point of the learning curve yet",
                         self.trial, f"{step:,}", len(shard.returns), n_episodes)
