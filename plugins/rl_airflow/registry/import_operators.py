"""The operators that import a policy from elsewhere. It must pass the same gate as a candidate."""

import logging
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.evaluation.evaluator import Evaluator, Scene, scene_of
from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.registry.champion_operators import S3PromoteCandidateOperator
from rl_airflow.run.experiment_files import find_experiment_file
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.contents import Move
from rl_lifecycle.registry.parameter_files import digest_parameters
from rl_lifecycle.registry.versions import ImportBundle, ImportRecord, VersionSource
from rl_lifecycle.storage.layout import import_key, sha256_of_artifact
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once

log = logging.getLogger(__name__)

#: The XCom key of the imported candidate.
CANDIDATE_KEY = "candidate"


class S3FreezeImportOperator(S3FreezeSpecOperator):
    """Freeze an import: the experiment of the current file, the champion, and the policy.

    The evaluator loads the policy first. The spec is written as the launcher. A retry or a clear
    uses the frozen spec. Only ONNX, safetensors and JSON are read, so no imported code is executed.

    :param folder: the folder of the experiments' files.
    """

    run_prefix = "import-"

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(experiment={}, folder=folder, with_form=False, **kwargs)

    def execute(self, context: Context) -> list[str]:
        """Freeze. :return: an empty list; plan and candidate are pushed as XComs."""
        file = find_experiment_file(Path(self.folder), context["params"]["experiment"])
        if file.experiment is None:
            raise AirflowFailException(file.problem)
        experiment = file.experiment.without_due_time().with_one_machine()  # none is rented
        self.experiment = experiment.model_dump(mode="json")
        super().execute(context)
        plan = self.plan
        if plan is None:
            raise RuntimeError("the task wrote no plan when it froze the run")
        store = plan.store(plan.session("launcher", self.aws_conn_id))
        evaluator = Evaluator(plan.session(None).client("lambda"), plan.evaluator)
        try:
            candidate = self._bring_in(store, evaluator, plan, context["params"])
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None
        context["ti"].xcom_push(key=CANDIDATE_KEY, value=candidate.model_dump(mode="json"))
        return []

    def _bring_in(
        self, store: ObjectStore, evaluator: Evaluator, plan: RunPlan, params: Any
    ) -> Candidate:
        """Write the record of the import once.

        :raises AirflowFailException: with the problem of the policy.
        """
        key, bundle_key = import_key(plan.experiment, plan.run), params["bundle"]
        bundle = ImportBundle.from_json(
            get(store, bundle_key, sha256_of_artifact(bundle_key)).data, bundle_key
        )
        if store.find(key) is None:
            scene = scene_of(plan.get_spec(store))
            report = evaluator.check_policy(scene, bundle.policy)
            if report.problem or report.metadata is None:
                raise AirflowFailException(
                    f"{report.problem or 'the policy has no metadata'}; nothing is imported"
                )
            _check_provenance(
                scene,
                report.metadata,
                digest_parameters(
                    get(store, bundle.parameters.key, bundle.parameters.sha256).data,
                    bundle.parameters.key,
                ),
            )
            put_once(
                store,
                key,
                ImportRecord(
                    experiment=plan.experiment,
                    run=plan.run,
                    spec_sha256=plan.spec.sha256,
                    digest=report.digest,
                    policy=bundle.policy,
                    parameters=bundle.parameters,
                    origin=params["origin"].strip(),
                    metadata=report.metadata,
                ).to_json(),
            )
        data = get(store, key).data
        record = ImportRecord.from_json(data, key)
        if (record.policy, record.parameters) != (bundle.policy, bundle.parameters):
            raise AirflowFailException(
                f"{key} is of another bundle: this run's id was used before; trigger again with "
                "another run id"
            )
        log.info("%s: digest %s, %s", plan.experiment, record.digest[:12], record.origin)
        return Candidate(
            trial=record.trial,
            step=record.step,
            digest=record.digest,
            policy=record.policy,
            record=Artifact(key=key, sha256=sha256_hex(data)),
            mean_return=0.0,
        )


def _check_provenance(scene: Scene, said: PolicyMetadata, digest: str) -> None:
    """Compare a policy's metadata with the experiment and the parameters.

    :raises AirflowFailException: naming the difference.
    """
    if (said.env_id, said.env_kwargs) != (scene.env_id, scene.env_kwargs):
        raise AirflowFailException(
            f"the policy says that it was trained on {said.env_id or 'no environment'} with "
            f"{said.env_kwargs}, and the experiment is on "
            f"{scene.env_id} with {scene.env_kwargs}: export it with --env-id and --env-kwargs of "
            "the experiment; nothing is imported"
        )
    if digest != said.digest:
        raise AirflowFailException(
            f"the parameters have the digest {digest[:12]}, and the policy was made from "
            f"{said.digest[:12]}: "
            "upload the two files of one export; nothing is imported"
        )


class S3ImportPolicyOperator(S3PromoteCandidateOperator):
    """Put the imported policy into service as a new version if the gate says PROMOTE; else fail.

    It acts as the promoter. A retry or a clear continues where it stopped.
    """

    move = Move.IMPORTED

    def execute(self, context: Context) -> dict[str, Any]:
        """Import. :return: the promotion as JSON."""
        if self.verdict["decision"] != Decision.PROMOTE:
            raise AirflowFailException(
                f"not imported. {self.verdict['decision']}: {self.verdict['reason']}"
            )
        done = super().execute(context)
        if done["outcome"] != "PROMOTED":
            raise AirflowFailException(f"not imported. {done['outcome']}: {done['reason']}")
        return done

    def _record(self, store: ObjectStore, candidate: Candidate) -> VersionSource:
        return ImportRecord.from_json(
            get(store, candidate.record.key, candidate.record.sha256).data, candidate.record.key
        )
