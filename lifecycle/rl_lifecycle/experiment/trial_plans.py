"""The trials of a run: how many there are, their names, and what differs between them."""

from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.seeds import trial_seed
from rl_lifecycle.records.record import Record


class TrialPlan(Record):
    """One trial of a run. The trials of a run differ in their seeds alone."""

    name: str
    seed: int


def plan_trials(experiment: Experiment, run: str) -> tuple[TrialPlan, ...]:
    """Name the trials of a run and draw their seeds.

    :param run: the run's slug. It decides the seeds, unless the experiment has `reseed: false`.
    """
    names = (f"seed-{index}" for index in range(experiment.trials))
    return tuple(
        TrialPlan(name=name, seed=trial_seed(experiment.seed, run, name, reseed=experiment.reseed))
        for name in names
    )
