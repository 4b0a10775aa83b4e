"""Where a task that an earlier release deferred finds its trigger."""

from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger

__all__ = ["LambdaEvaluationTrigger"]
