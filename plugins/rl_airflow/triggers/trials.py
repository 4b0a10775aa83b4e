"""Where a task that an earlier release deferred finds its trigger."""

from rl_airflow.trials.trigger import Ec2TrialTrigger

__all__ = ["Ec2TrialTrigger"]
