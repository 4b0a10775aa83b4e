"""The operators of a replay: freeze the version's spec again, and compare the digests."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rl_airflow.infrastructure.deployed_environment import DeployedEnvironment, find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run.notes import keep_note
from rl_airflow.run.notices import send_notice
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.spec_operator import PLAN_KEY, plan_of
from rl_airflow.trials.attempt_files import AttemptFiles
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.experiment.spec import Artifact, Replay, Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.contents import VersionManifest, find_champion, get_manifest
from rl_lifecycle.registry.replays import EXPERIMENT as REPLAYS
from rl_lifecycle.registry.replays import ReplayAnswer, ReplayOutcome, judge_replay, plan_replay
from rl_lifecycle.storage.layout import SPEC_FILE, TrialId, policy_key, spec_key, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.checkpoints import CheckpointManifest

log = logging.getLogger(__name__)


class S3FreezeReplayOperator(BaseOperator):
    """Freeze a replay: the version's own spec, with its one trial, on the same type of machine.

    The spec is written once. A retry or a clear uses the frozen spec. No machine is launched here.

    :param experiment: the experiment of a scheduled replay. The task is skipped if there is no
        champion, or if the champion was imported. None: the form names the experiment.
    :param aws_conn_id: a connection of the launcher. None: `nightshift_launcher` if it is defined,
        else the assumed role.
    """

    def __init__(
        self, *, experiment: str | None = None, aws_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.experiment, self.aws_conn_id = experiment, aws_conn_id

    def execute(self, context: Context) -> str:
        """Freeze. :return: the trial's name; the plan is pushed as XCom."""
        params = context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        name = self.experiment or params["experiment"]
        # A replay runs the experiment's code, so it must not have more rights than the experiment.
        deployed = find_environment(environment, region, experiments=(name, REPLAYS))
        store = S3Store(
            RoleSession("launcher", environment, self.aws_conn_id, region).client("s3"),
            deployed.bucket,
        )
        try:
            spec = self._planned(store, deployed, context).with_instance_profile(
                deployed.instance_profile_arn
            )
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None
        key = spec_key(spec.experiment.name, spec.run)
        put_once(store, key, spec.to_json())
        data = get(store, key).data
        spec = Spec.from_json(data, key)
        log.info(
            "replay of %s version %s: %s to step %s, on %s",
            spec.replay and spec.replay.experiment,
            spec.replay and spec.replay.version,
            spec.trials[0].name,
            spec.replay and f"{spec.replay.step:,}",
            spec.experiment.compute.instance_types,
        )
        context["ti"].xcom_push(
            key=PLAN_KEY,
            value=plan_of(
                deployed, region, spec, Artifact(key=key, sha256=sha256_hex(data))
            ).to_xcom(),
        )
        return spec.trials[0].name

    def _planned(self, store: ObjectStore, deployed: DeployedEnvironment, context: Context) -> Spec:
        params = context["params"]
        name = self.experiment or params["experiment"]
        if self.experiment and not params.get("version"):
            _skip_without_a_trained_champion(store, name)
        version = int(params.get("version") or champion_version(store, name))
        manifest, prefix = get_manifest(store, name, version), version_prefix(name, version)
        before = Spec.from_json(
            get(store, prefix + SPEC_FILE, manifest.files[SPEC_FILE]).data, prefix + SPEC_FILE
        )
        spec = plan_replay(
            before,
            manifest,
            segments=int(params["segments"]),
            run_id=context["run_id"],
            created_at=datetime.now(UTC),
            instance_types=machine_types(store, manifest),
        )
        frozen_id = (spec.launch_template or "").partition(":")[0]
        if frozen_id == deployed.launch_template_id:
            return spec
        log.warning(
            "launch template %s is of an environment that was destroyed: today's is used",
            frozen_id,
        )
        return spec.with_launch_template(deployed.launch_template)


class S3CompareReplayOperator(RunOperator):
    """Compare the replay's digest with the version's digest.

    Fails if they differ. If the machine was of another numeric class, the task says what changed,
    and is skipped. It fails instead if the experiment has `replay_must_compare`. A retry or a clear
    compares the same digests again.

    :param must_compare: the experiment's `replay_must_compare` today. The version's own spec can
        ask for it, too.
    """

    template_fields: Sequence[str] = ("plan", "trial")

    def __init__(self, *, trial: Any, must_compare: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial, self.must_compare = trial, must_compare

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare. :return: the answer as JSON."""
        plan = self._plan()
        store = plan.store(self._session(plan))
        spec = plan.get_spec(store)
        if spec.replay is None:
            raise AirflowFailException(f"{plan.spec.key}: is not the spec of a replay")
        answer = self._compare(store, spec, spec.replay)
        keep_note(context, f"{answer.outcome}: {answer.reason}")
        if answer.outcome is ReplayOutcome.DRIFTED:
            send_notice(plan, "drifted", answer.reason)
            raise AirflowFailException(f"{answer.outcome}: {answer.reason}")
        if answer.outcome is ReplayOutcome.NOT_COMPARABLE:
            reason = f"{answer.outcome}: {answer.reason}"
            if not (self.must_compare or spec.experiment.replay_must_compare):
                raise AirflowSkipException(reason)
            send_notice(plan, "not comparable", answer.reason)
            raise AirflowFailException(f"{reason}; the experiment has replay_must_compare")
        log.info("%s: %s", answer.outcome, answer.reason)
        told: dict[str, Any] = answer.model_dump(mode="json")
        return told

    def _compare(self, store: ObjectStore, spec: Spec, replay: Replay) -> ReplayAnswer:
        key = policy_key(spec.trial_id(self.trial), replay.step, "json")
        record = PolicyRecord.from_json(get(store, key).data, key)
        facts = CheckpointManifest.from_json(
            get(store, record.manifest.key, record.manifest.sha256).data, record.manifest.key
        )
        manifest = get_manifest(store, replay.experiment, replay.version)
        return judge_replay(replay, record.digest, facts.numeric_class, manifest.numeric_class)


def _skip_without_a_trained_champion(store: ObjectStore, experiment: str) -> None:
    """Skip a scheduled replay that cannot work. Otherwise each run would fail.

    :raises AirflowSkipException: with the reason.
    """
    found = find_champion(store, experiment)
    if found is None:
        raise AirflowSkipException(
            f"{experiment} has no champion yet, so there is nothing to train again"
        )
    if get_manifest(store, experiment, found[0].version).kind == "imported":
        raise AirflowSkipException(
            f"the champion of {experiment} was imported, so it cannot be trained again from here"
        )


def champion_version(store: ObjectStore, experiment: str) -> int:
    """Return the version in service. :raises AirflowFailException: if there is none yet."""
    found = find_champion(store, experiment)
    if found is None:
        raise AirflowFailException(
            f"{experiment} has no champion yet; trigger retrain_{experiment}"
        )
    return found[0].version


def machine_types(store: ObjectStore, manifest: VersionManifest) -> tuple[str, ...]:
    """Return the type of the last machine that trained a version; empty if it is unknown."""
    attempts = AttemptFiles(
        store, TrialId(manifest.experiment, manifest.run, manifest.trial)
    ).read()
    types = [
        stored.attempt.outcome.instance_type
        for stored in attempts
        if stored.attempt.outcome.instance_type
    ]
    return (types[-1],) if types and types[-1] else ()
