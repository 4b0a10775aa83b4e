"""The one task of an experiment whose file is wrong."""

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException


class ExplainProblemOperator(BaseOperator):
    """Fail and show what is wrong with a file. A retry or a clear fails until you correct it."""

    def __init__(self, *, problem: str, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.problem = problem

    def execute(self, context: Context) -> None:
        """Fail with the problem as the message."""
        del context
        raise AirflowFailException(self.problem)
