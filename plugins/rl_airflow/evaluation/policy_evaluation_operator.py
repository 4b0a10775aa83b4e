"""The operator that evaluates a stored policy on request."""

import logging
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import Job, scene_of
from rl_airflow.evaluation.judge_operator import candidate_evaluation
from rl_airflow.evaluation.lambda_operator import LambdaRunOperator
from rl_airflow.infrastructure.deployed_environment import DeployedEnvironment, find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.run.notes import keep_note
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.selection import Contender, summarise
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.names import slug
from rl_lifecycle.registry.contents import find_champion, get_manifest
from rl_lifecycle.storage.layout import POLICY_FILE, SPEC_FILE, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get

log = logging.getLogger(__name__)


class LambdaEvaluatePolicyOperator(LambdaRunOperator):
    """Evaluate one version on a range of seeds, in the environment that it was trained for.

    A retry or a clear requests only the missing episodes.
    """

    template_fields = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(plan=None, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Evaluate. :return: mean return, crash rate and episodes."""
        return self._evaluate(context, None)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue after the trigger has fired."""
        return self._evaluate(context, event or {})

    def _evaluate(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        params = context["params"]
        name, region = params["experiment"], params.get("region_name") or None
        deployed = find_environment(environment_of(params), region)
        plan = _plan(deployed, region, name, slug(context["run_id"]))
        store = self._store(plan)
        try:
            version = int(params.get("version") or _champion(store, name))
            prefix = version_prefix(name, version)
            manifest = get_manifest(store, name, version)
            spec = Spec.from_json(
                get(store, prefix + SPEC_FILE, manifest.files[SPEC_FILE]).data, prefix + SPEC_FILE
            )
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None
        policy = Artifact(key=prefix + POLICY_FILE, sha256=manifest.files[POLICY_FILE])
        scene = scene_of(spec).of_run(plan.run)
        job = Job(
            name="evaluate",
            policy=policy,
            first_seed=params["first_seed"],
            n_episodes=params["n_episodes"],
        )
        judged = EvaluationFiles(store, scene_of(spec)).read(
            job.named(candidate_evaluation(policy))
        )
        job = job.in_shards_of(self._shard_episodes(judged))
        files = self._gather(plan, scene, [job], event)
        summary = summarise(
            manifest.trial, manifest.step, files.get_merged(job), spec.experiment.evaluation
        )
        line = _line(name, version, summary, job)
        log.info("%s", line)
        keep_note(context, line)
        return {"version": version, **summary.model_dump(mode="json")}


def _champion(store: ObjectStore, experiment: str) -> int:
    found = find_champion(store, experiment)
    if found is None:
        raise AirflowFailException(
            f"{experiment} has no champion yet; trigger retrain_{experiment}"
        )
    return found[0].version


def _line(name: str, version: int, summary: Contender, job: Job) -> str:
    return (
        f"{name} version {version} on seeds "
        f"{job.first_seed}…{job.first_seed + job.n_episodes - 1}: mean return "
        f"{summary.mean_return:.2f}, crashes {summary.crash_rate:.1%}, {summary.n_episodes} "
        "episodes"
    )


def _plan(deployed: DeployedEnvironment, region: str | None, experiment: str, run: str) -> RunPlan:
    """Make a plan without trials, for the locations of the resources only."""
    return RunPlan(
        environment=deployed.environment,
        region_name=region,
        bucket=deployed.bucket,
        experiment=experiment,
        run=run,
        spec=Artifact(key="", sha256=""),
        trials=(),
        launch_template_id=deployed.launch_template_id,
        launch_template_version=deployed.launch_template_version,
        subnet_ids=deployed.subnet_ids,
        evaluator=deployed.evaluator,
        topic_arn=deployed.topic_arn,
    )
