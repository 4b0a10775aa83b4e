"""The operator that freezes the spec of a run before the run costs money."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.infrastructure.deployed_environment import DeployedEnvironment, find_environment
from rl_airflow.infrastructure.form_values import NEW_LINEAGE, environment_of, read_overrides
from rl_airflow.infrastructure.project_version import find_bundle_version, find_commit
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.machine_advice import log_machines
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.errors import (
    InvalidExperimentError,
    LaunchRefusedError,
    LifecycleError,
    OverlappingSeedsError,
)
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, check_fresh_seeds, freeze_spec
from rl_lifecycle.machines.launch_requests import collector_types_of, instance_types_of
from rl_lifecycle.records.names import slug
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.contents import freeze_champion
from rl_lifecycle.storage.layout import (
    artifact_key,
    ledger_key,
    run_of_spec_key,
    spec_key,
    spec_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once
from rl_lifecycle.storage.s3_store import S3Store

log = logging.getLogger(__name__)

#: The XCom key of the run's plan. The return value is the list of trials, for mapped tasks.
PLAN_KEY = "plan"


class S3FreezeSpecOperator(BaseOperator):
    """Freeze the run's spec: experiment, overrides, seeds, image, wheels, champion.

    The spec is written once, as the launcher. A retry or a clear uses the frozen spec, even if the
    experiment's file has changed: a change needs a new run. No machine is launched here. The log
    compares the machines: processes, hours and steps per dollar.

    :param experiment: the experiment as JSON.
    :param folder: the folder of the experiment's file and its wheels.
    :param with_form: whether the DAG's form may override the experiment.
    :param aws_conn_id: a connection of the launcher's; None: `nightshift_launcher` if defined, else
        the assumed role.
    """

    #: The beginning of the run's id. It differs between DAGs, so that they never share a run.
    run_prefix = ""

    def __init__(
        self,
        *,
        experiment: dict[str, Any],
        folder: str,
        with_form: bool = True,
        aws_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment, self.folder, self.with_form, self.aws_conn_id = (
            experiment,
            folder,
            with_form,
            aws_conn_id,
        )
        self.plan: RunPlan | None = None

    def execute(self, context: Context) -> list[str]:
        """Freeze. :return: the names of the trials; the plan is pushed as XCom `plan`."""
        experiment, params = Experiment.model_validate(self.experiment), context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        deployed = find_environment(environment, region, experiments=(experiment.name,))
        session = RoleSession("launcher", environment, self.aws_conn_id, region)
        store = S3Store(session.client("s3"), deployed.bucket)
        key = spec_key(experiment.name, slug(self.run_prefix + context["run_id"]))
        found = store.find(key)
        if found is None:
            found_spec = self._freeze(context, experiment, deployed, store)
            refuse_served_seeds(store, found_spec)
            _check_gang(found_spec, session)
            put_once(store, key, found_spec.to_json())
            found = get(store, key)
        else:
            log.info("the run was frozen before; its spec stays the same")
        spec = Spec.from_json(found.data, f"{store.uri}/{key}")
        plan = plan_of(deployed, region, spec, Artifact(key=key, sha256=sha256_hex(found.data)))
        self._log_spec(spec)
        self.plan = plan
        context["ti"].xcom_push(key=PLAN_KEY, value=plan.to_xcom())
        if self.with_form:  # a drill compares no machines, and an import rents none
            log_machines(spec, store, session)
        return list(plan.trials)

    def _freeze(
        self,
        context: Context,
        experiment: Experiment,
        deployed: DeployedEnvironment,
        store: ObjectStore,
    ) -> Spec:
        run = context["dag_run"]
        try:
            overrides = (
                read_overrides(context["params"], run.conf, f"run of {experiment.name}")
                if self.with_form
                else {}
            )
            _keep_approval(experiment, overrides)
            return freeze_spec(
                experiment,
                run_id=self.run_prefix + context["run_id"],
                created_at=datetime.now(UTC),
                overrides=overrides,
                trainer=deployed.trainer_wheels,
                requirements=self._upload_wheels(experiment, store),
                image_id=deployed.image_id,
                launch_template=deployed.launch_template,
                commit=find_bundle_version(context["ti"]) or find_commit(Path(self.folder)),
                champion=freeze_champion(store, experiment, new_lineage=_new_lineage(context)),
                evaluator=deployed.evaluator_version,
                instance_profile_arn=deployed.instance_profile_arn,
                gang_launch_template=deployed.gang_launch_template,
            )
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None

    def _upload_wheels(self, experiment: Experiment, store: ObjectStore) -> tuple[Artifact, ...]:
        """Upload the experiment's own wheels; the keys hold their digests."""
        artifacts = []
        for name in experiment.requirements:
            path = Path(self.folder) / name
            if not path.is_file():
                raise InvalidExperimentError(
                    f"experiments/{experiment.name}.yaml",
                    "requirements",
                    f"{name} does not exist; put the wheel beside the experiment's file",
                )
            data = path.read_bytes()
            artifact = Artifact(
                key=artifact_key(sha256_hex(data), path.name), sha256=sha256_hex(data)
            )
            put_once(store, artifact.key, data)
            artifacts.append(artifact)
        return tuple(artifacts)

    def _log_spec(self, spec: Spec) -> None:
        champion = f"version {spec.champion.version}" if spec.champion else "none yet"
        log.info(
            "%s: %d trials × %s steps in segments of %s; seeds %s; champion: %s; spec %s",
            spec.run_id,
            len(spec.trials),
            f"{spec.experiment.total_timesteps:,}",
            f"{spec.segment_timesteps:,}",
            ", ".join(str(plan.seed) for plan in spec.trials),
            champion,
            spec.sha256[:12],
        )


def _keep_approval(experiment: Experiment, overrides: dict[str, Any]) -> None:
    """Refuse a form that switches off an approval that the experiment's file requires.

    The person who triggers a run must not switch off the approval alone.
    """
    if experiment.approval and overrides.get("approval") is False:
        raise InvalidExperimentError(
            f"run of {experiment.name}",
            "approval",
            f"experiments/{experiment.name}.yaml asks for an approval, "
            "and a form cannot take it away; change the file, or leave the field as it is",
        )


def _new_lineage(context: Context) -> str:
    """Explain that a person left the champion out in the form; empty if none did."""
    if not context["params"].get(NEW_LINEAGE):
        return ""
    person = getattr(context["dag_run"], "triggering_user_name", None) or "the trigger"
    return f"{person} asked to judge without the champion (new_lineage in the form)"


def _check_gang(spec: Spec, session: RoleSession) -> None:
    """Refuse trials with several machines that could never have all of them.

    :raises AirflowFailException: with what to do.
    """
    compute = spec.experiment.compute
    if compute.machines == 1:
        return
    if spec.gang_launch_template is None:
        raise AirflowFailException(
            f"compute.machines is {compute.machines}, and environment {session.environment} has "
            "no launch template for several machines, because an earlier release deployed it: "
            "trigger bootstrap_infrastructure, then a new run"
        )
    checks = LaunchChecks(session.client("ec2"), log, lambda: session.client("service-quotas"))
    try:
        checks.check_gang(compute)
        checks.prefer_encrypted((*instance_types_of(compute), *collector_types_of(compute)))
    except LaunchRefusedError as error:
        raise AirflowFailException(str(error)) from None


def plan_of(
    deployed: DeployedEnvironment, region: str | None, spec: Spec, artifact: Artifact
) -> RunPlan:
    """Make the plan of a run, with the frozen versions of launch template and evaluator."""
    template = spec.gang_launch_template or spec.launch_template or deployed.launch_template
    template_id, _, template_version = template.partition(":")
    return RunPlan(
        environment=deployed.environment,
        region_name=region,
        bucket=deployed.bucket,
        experiment=spec.experiment.name,
        run=spec.run,
        spec=artifact,
        trials=tuple(trial.name for trial in spec.trials),
        launch_template_id=template_id,
        launch_template_version=template_version,
        subnet_ids=deployed.subnet_ids,
        evaluator=spec.evaluator.function if spec.evaluator else deployed.evaluator,
        topic_arn=deployed.topic_arn,
        evaluator_memory_mib=deployed.evaluator_memory_mib,
        instance_profile_arn=spec.instance_profile_arn,
        ledger_key=ledger_key(f"{spec.created_at:%Y-%m}", spec.experiment.name, spec.run),
    )


def refuse_served_seeds(store: ObjectStore, spec: Spec) -> None:
    """Refuse seeds that selected or judged an earlier run of the experiment.

    Seeds depend on the runs' names, so one LIST is enough.

    :raises AirflowFailException: naming the earlier run. A new run draws other seeds.
    """
    earlier = {run_of_spec_key(item.key) for item in store.list(spec_prefix(spec.experiment.name))}
    try:
        check_fresh_seeds(spec, sorted(earlier))
    except OverlappingSeedsError as error:
        raise AirflowFailException(str(error)) from None
