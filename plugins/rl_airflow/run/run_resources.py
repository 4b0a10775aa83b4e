"""The plan that the tasks of a run share: where its spec, bucket, template and evaluator are.

It is fixed when the spec is frozen. It travels through XCom as small plain JSON; all large data are
in the bucket.
"""

from typing import Self

from pydantic import JsonValue

from rl_airflow.infrastructure.sessions import Role, RoleSession
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.storage.s3_store import S3Store


class RunPlan(Record):
    """Where a run's resources are in AWS. A task that reads it needs no CloudFormation call."""

    environment: str
    region_name: str | None
    bucket: str
    experiment: str
    run: str
    spec: Artifact
    trials: tuple[str, ...]
    launch_template_id: str
    launch_template_version: str
    subnet_ids: dict[str, str]
    evaluator: str
    topic_arn: str | None = None
    ledger_key: str | None = None
    evaluator_memory_mib: float | None = None
    #: None means the profile of the launch template, which experiments share.
    instance_profile_arn: str | None = None

    def session(self, role: Role | None, aws_conn_id: str | None = None) -> RoleSession:
        """Return a session of a role in the run's environment and region.

        :param role: the role. None means the Airflow worker, which may read the bucket and call the
            evaluator.
        """
        return RoleSession(role, self.environment, aws_conn_id, self.region_name)

    def store(self, session: RoleSession) -> ObjectStore:
        """Return the run's bucket, with the session's role."""
        return S3Store(session.client("s3"), self.bucket)

    def get_spec(self, store: ObjectStore) -> Spec:
        """Read the frozen spec and check its digest."""
        return Spec.from_json(
            get(store, self.spec.key, self.spec.sha256).data, f"{store.uri}/{self.spec.key}"
        )

    def for_trial(self, trial: str) -> Self:
        """Return the same plan with one trial only."""
        return self.model_copy(update={"trials": (trial,)})

    def to_xcom(self) -> dict[str, JsonValue]:
        """Return the plan as plain JSON."""
        return self.model_dump(mode="json")

    @property
    def own_region(self) -> str:
        """The region of the environment and its bucket, also if the form left the region empty.

        The evaluator's ARN names it.
        """
        arn = self.evaluator.split(":")
        return arn[3] if arn[0] == "arn" else self.region_name or ""

    @property
    def zones(self) -> dict[str, str]:
        """Subnet id → zone."""
        return {subnet: zone for zone, subnet in self.subnet_ids.items()}
