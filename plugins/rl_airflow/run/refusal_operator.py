"""The first task of an experiment whose file is wrong: it refuses new runs only."""

import logging

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import EnvironmentNotReadyError, first_line
from rl_airflow.infrastructure.deployed_environment import find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.spec_operator import PLAN_KEY, plan_of
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.names import slug
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import spec_key
from rl_lifecycle.storage.s3_store import S3Store

log = logging.getLogger(__name__)


class S3RefuseRunOperator(BaseOperator):
    """Fail and show what is wrong with an experiment's file.

    A run whose spec was frozen before the file became wrong goes on: a retry or a clear returns the
    frozen spec. A new run is refused until you correct the file.

    :param experiment: the experiment's name.
    :param problem: one line with the file, the key and what is allowed.
    :param aws_conn_id: a connection of the launcher's; None: `nightshift_launcher` if defined, else
        the assumed role.
    """

    def __init__(
        self, *, experiment: str, problem: str, aws_conn_id: str | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.experiment, self.problem, self.aws_conn_id = experiment, problem, aws_conn_id

    def execute(self, context: Context) -> list[str]:
        """Find the run's frozen spec. :return: the names of the trials.

        :raises AirflowFailException: with the problem, if the run was not frozen before.
        """
        try:
            plan = self._find_plan(context)
        except EnvironmentNotReadyError:  # nothing was frozen there
            plan = None
        except Exception as error:  # the problem of the file must be shown in any case
            raise AirflowFailException(
                f"{self.problem} (whether this run was frozen before could not be read: "
                f"{first_line(error)}; if it was, clear this task)"
            ) from None
        if plan is None:
            raise AirflowFailException(self.problem)
        log.warning(
            "the file is wrong now, and this run goes on with its frozen spec: %s", self.problem
        )
        context["ti"].xcom_push(key=PLAN_KEY, value=plan.to_xcom())
        return list(plan.trials)

    def _find_plan(self, context: Context) -> RunPlan | None:
        params = context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        deployed = find_environment(environment, region, experiments=(self.experiment,))
        session = RoleSession("launcher", environment, self.aws_conn_id, region)
        store = S3Store(session.client("s3"), deployed.bucket)
        key = spec_key(self.experiment, slug(context["run_id"]))
        found = store.find(key)
        if found is None:
            return None
        spec = Spec.from_json(found.data, f"{store.uri}/{key}")
        return plan_of(deployed, region, spec, Artifact(key=key, sha256=sha256_hex(found.data)))
