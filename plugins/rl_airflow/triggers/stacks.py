"""Where a task that an earlier release deferred finds its trigger."""

from rl_airflow.infrastructure.stack_trigger import CloudFormationStackTrigger

__all__ = ["CloudFormationStackTrigger"]
