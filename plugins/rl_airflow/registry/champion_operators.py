"""The operators that change the champion, as the promoter: promotion and rollback."""

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rl_airflow.evaluation.evaluator import Evaluator, Scene, scene_of
from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.infrastructure.deployed_environment import DeployedEnvironment, find_environment
from rl_airflow.infrastructure.form_values import environment_of
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.registry.champion_asset import CHAMPIONS, announce
from rl_airflow.run.links import VERSION_LINKS, version_links
from rl_airflow.run.notes import keep_note
from rl_airflow.run.notices import send_notice
from rl_airflow.run.run_operator import RunOperator
from rl_lifecycle.errors import InvalidRecordError, LifecycleError
from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.evaluation.requests import PolicyReport
from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.registry.contents import (
    ChampionPointer,
    Move,
    VersionManifest,
    find_champion,
    get_manifest,
    list_versions,
    read_entries,
)
from rl_lifecycle.registry.promotion import Promotion, PromotionOutcome, promote, roll_back
from rl_lifecycle.registry.versions import VersionSource
from rl_lifecycle.storage.layout import POLICY_FILE, SPEC_FILE, attempt_prefix, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.storage.s3_store import S3Store

log = logging.getLogger(__name__)


class S3PromoteCandidateOperator(RunOperator):
    """Put the candidate into service if the verdict is PROMOTE and the champion has not changed.

    The evaluator loads the policy again before the pointer moves. The move sends an asset event. A
    retry or a clear continues where it stopped, and finds its own version again. Any other verdict
    skips the task.

    :param candidate: the result of `select`.
    :param verdict: the result of `judge`.
    :param approval: the result of `approve`. Without an approval nothing is promoted.
    :param aws_conn_id: a connection of the promoter. None: `nightshift_promoter` if it is defined,
        else the assumed role.
    """

    template_fields: Sequence[str] = ("plan", "candidate", "verdict", "approval")
    candidate, verdict = XComField(), XComField()
    move = Move.PROMOTED
    operator_extra_links = VERSION_LINKS

    def __init__(self, *, candidate: Any, verdict: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[CHAMPIONS], **kwargs)
        self.candidate, self.verdict, self.approval = candidate, verdict, approval

    def execute(self, context: Context) -> dict[str, Any]:
        """Promote. :return: the promotion as JSON; its outcome may be SUPERSEDED or REFUSED."""
        if self.verdict["decision"] != Decision.PROMOTE:
            raise AirflowSkipException(f"{self.verdict['decision']}: {self.verdict['reason']}")
        if not (self.approval or {}).get("approved"):
            by = (self.approval or {}).get("by", "no person answered")
            log.info("not approved (%s): the champion stays", by)
            return {
                "outcome": "NOT_APPROVED",
                "version": None,
                "uri": None,
                "reason": f"not approved: {by}",
            }
        plan, candidate = (
            self._plan(),
            Candidate.from_value(value_of(self.candidate), "the candidate"),
        )
        session = plan.session("promoter", self.aws_conn_id)
        store = plan.store(session)
        spec = plan.get_spec(store)
        record = self._record(store, candidate)
        report = check_policy(
            _evaluator(plan.session(None), plan.evaluator), scene_of(spec), candidate.policy
        )
        _check_own_metadata(report, record)
        promotion = promote(
            store,
            spec,
            record,
            Artifact.model_validate(self.verdict["report"]),
            who=_who(context, self.approval.get("person"), "approved by"),
            why=self.verdict["reason"],
            now=datetime.now(UTC),
            new_nonce=lambda: uuid.uuid4().hex,
            cost_usd=_cost(store, spec),
        )
        log.info("%s: %s %s", promotion.outcome, promotion.uri or "", promotion.reason)
        if promotion.outcome is PromotionOutcome.PROMOTED:
            self.links = version_links(plan.experiment)
            send_notice(
                plan,
                "promoted",
                f"version {promotion.version} at {promotion.uri}: {promotion.reason}",
            )
            announce(
                context,
                plan.experiment,
                environment=plan.environment,
                move=self.move.value,
                version=promotion.version,
                digest=promotion.digest,
                uri=promotion.uri,
            )
        return promotion.model_dump(mode="json")

    def _record(self, store: ObjectStore, candidate: Candidate) -> VersionSource:
        """Read the candidate's record."""
        data = get(store, candidate.record.key, candidate.record.sha256).data
        return PolicyRecord.from_json(data, candidate.record.key)


class S3RollBackChampionOperator(BaseOperator):
    """Put an earlier version back into service, with a reason, and log the history.

    Without a version nothing changes. A version that a person chose replaces only the champion that
    the question showed. After another move the task fails with SUPERSEDED. A version from the form
    replaces any champion. If the pointer has moved already, a retry or a clear finds the version in
    service and logs that.

    :param choice: the result of `choose`: the form's version, or the version that a person chose
        with the mark of the pointer at that time.
    :param aws_conn_id: a connection of the promoter. None: `nightshift_promoter` if it is defined,
        else the assumed role.
    """

    template_fields: Sequence[str] = ("choice",)
    operator_extra_links = VERSION_LINKS

    def __init__(self, *, choice: Any, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(outlets=[CHAMPIONS], **kwargs)
        self.choice, self.aws_conn_id = choice, aws_conn_id
        self.links: dict[str, str] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Roll back. :return: the move as JSON."""
        params = context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        deployed, name, version = (
            find_environment(environment, region),
            params["experiment"],
            (self.choice or {}).get("version"),
        )
        store = S3Store(
            RoleSession("promoter", environment, self.aws_conn_id, region).client("s3"),
            deployed.bucket,
        )
        try:
            log.info("%s", describe_versions(store, name))
            if params.get("only_list"):
                log.info("%s", describe_history(store, name))
        except LifecycleError as error:
            raise AirflowFailException(str(error)) from None
        if version is None or params.get("only_list"):
            why = "only listed" if params.get("only_list") else "no version was chosen"
            keep_note(context, f"{why}: nothing was moved")
            raise AirflowSkipException(f"{why}: nothing was moved")
        moved = self._moved(store, deployed, name, version, context)
        announce(
            context,
            name,
            environment=environment,
            move=Move.ROLLED_BACK.value,
            version=version,
            digest=moved["digest"],
            uri=moved["uri"],
        )
        self.links = version_links(name)
        log.info("%s", describe_history(store, name))
        keep_note(context, f"{name}: version {version} is in service")
        return moved

    def _moved(
        self,
        store: ObjectStore,
        deployed: DeployedEnvironment,
        name: str,
        version: int,
        context: Context,
    ) -> dict[str, Any]:
        """Move the pointer, unless this run has moved it already."""
        who, uri = (
            _who(context, (self.choice or {}).get("person"), "chosen by"),
            f"{store.uri}/{version_prefix(name, version)}".rstrip("/"),
        )
        try:
            there = find_readable_champion(store, name)
            if there is not None and (there[0].version, there[0].entry.who) == (version, who):
                log.info("version %s is in service by this very run", version)
                return _as_json(
                    Promotion(
                        outcome=PromotionOutcome.PROMOTED,
                        version=version,
                        digest=there[0].digest,
                        uri=uri,
                        reason=there[0].entry.why,
                    )
                )
            region = context["params"].get("region_name") or None
            session = RoleSession(None, deployed.environment, region_name=region)
            check_version(store, _evaluator(session, deployed.evaluator), name, version)
            moved = roll_back(
                store,
                name,
                version,
                who=who,
                why=context["params"]["reason"],
                now=datetime.now(UTC),
                new_nonce=lambda: uuid.uuid4().hex,
                pointer_mark=(self.choice or {}).get("pointer"),
            )
        except LifecycleError as error:
            raise AirflowFailException(f"{error}; versions: {_versions(store, name)}") from None
        if moved.outcome is not PromotionOutcome.PROMOTED:
            raise AirflowFailException(f"{moved.outcome}: {moved.reason}")
        return _as_json(moved)


def _check_own_metadata(report: PolicyReport, record: VersionSource) -> None:
    """Check that the metadata in the policy's file match the policy's record."""
    said = report.metadata
    if said is not None and (said.digest, said.wrappers) != (
        record.digest,
        record.metadata.wrappers,
    ):
        raise AirflowFailException(
            "the policy's own file names another digest or other wrappers than its record; "
            "it is not put into service, the champion stays"
        )


def check_policy(evaluator: Evaluator, scene: Scene, policy: Artifact) -> PolicyReport:
    """Let the evaluator load and try a policy before the pointer names it.

    :return: the report, with the policy's own metadata.
    :raises AirflowFailException: with the policy's problem. The champion stays in service.
    """
    report = evaluator.check_policy(scene, policy)
    if report.problem:
        raise AirflowFailException(
            f"{report.problem}; it is not put into service, the champion stays"
        )
    return report


def check_version(store: ObjectStore, evaluator: Evaluator, experiment: str, version: int) -> None:
    """Let the evaluator load and try a version in the environment where it was judged.

    :raises LifecycleError: if the version is incomplete.
    :raises AirflowFailException: as :func:`check_policy`.
    """
    manifest, prefix = get_manifest(store, experiment, version), version_prefix(experiment, version)
    spec = Spec.from_json(
        get(store, prefix + SPEC_FILE, manifest.files.get(SPEC_FILE)).data, prefix + SPEC_FILE
    )
    check_policy(
        evaluator,
        scene_of(spec),
        Artifact(key=prefix + POLICY_FILE, sha256=manifest.files[POLICY_FILE]),
    )


def describe_versions(store: ObjectStore, experiment: str) -> str:
    """List the complete versions, oldest first, one per line. The one in service is marked."""
    champion = find_readable_champion(store, experiment)
    lines = [f"versions of {experiment}:"]
    for manifest in list_versions(store, experiment):
        mark = (
            "  ← in service"
            if champion is not None and champion[0].version == manifest.version
            else ""
        )
        lines.append(f"  {describe_version(manifest)}{mark}")
    return "\n".join(lines)


def describe_version(manifest: VersionManifest) -> str:
    """Describe one version in one line that begins with its number."""
    return (
        f"{manifest.version}: {manifest.created_at:%Y-%m-%d %H:%M} UTC, {manifest.trial} at step "
        f"{manifest.step:,} of "
        f"{manifest.run}, digest {manifest.digest[:12]}"
    )


def find_readable_champion(
    store: ObjectStore, experiment: str
) -> tuple[ChampionPointer, str] | None:
    """Find the champion. If the pointer was edited and is unreadable, log a warning and return
    None, because a rollback replaces such a pointer.
    """
    try:
        return find_champion(store, experiment)
    except InvalidRecordError as error:
        log.warning("%s", error)
        return None


def describe_history(store: ObjectStore, experiment: str) -> str:
    """List every move of the champion, oldest first, one per line."""
    champion = find_readable_champion(store, experiment)
    lines = [f"history of {experiment}:"]
    for entry in read_entries(store, experiment, champion[0].entry if champion else None):
        before = f"version {entry.from_version}" if entry.from_version else "nothing"
        lines.append(
            f"  {entry.sequence}. {entry.at:%Y-%m-%d %H:%M} UTC {entry.move}: {before} → version "
            f"{entry.to_version} "
            f"by {entry.who}: {entry.why}"
        )
    return "\n".join(lines)


def _as_json(moved: Promotion) -> dict[str, Any]:
    told: dict[str, Any] = moved.model_dump(mode="json")
    return told


def _evaluator(session: RoleSession, function: str) -> Evaluator:
    return Evaluator(session.client("lambda"), function)


def _versions(store: ObjectStore, experiment: str) -> str:
    return (
        ", ".join(str(manifest.version) for manifest in list_versions(store, experiment)) or "none"
    )


def _who(context: Context, person: str | None = None, as_what: str = "") -> str:
    """Describe who moves the champion: the person who triggered the run if known, the run, and the
    person who answered.

    :param person: the person who answered. It is None if no person was asked.
    :param as_what: the meaning of the answer, such as "approved by".
    """
    run = context["dag_run"]
    triggered_by = getattr(run, "triggering_user_name", None)
    return (
        f"{triggered_by}, " * bool(triggered_by)
        + f"{run.dag_id} {run.run_id}"
        + f", {as_what} {person}" * bool(person)
    )


def _cost(store: ObjectStore, spec: Spec) -> float:
    """Add up the cost of the run's machines from its attempts."""
    usd = 0.0
    for seat in spec.seats:
        for item in store.list(attempt_prefix(seat)):
            usd += Attempt.from_json(get(store, item.key).data, item.key).outcome.usd or 0.0
    return round(usd, 6)
