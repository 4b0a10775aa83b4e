"""The operators that move the champion: promote the run's candidate, roll back to an earlier version. As the promoter."""

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from rl_airflow.forms import environment_of
from rl_airflow.notices import tell
from rl_airflow.operators.evaluations import Candidate
from rl_airflow.operators.trials import RunOperator
from rl_airflow.places import find_place
from rl_airflow.sessions import RoleSession
from rl_lifecycle.attempts import Attempt
from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.gates import Decision
from rl_lifecycle.layout import attempt_prefix
from rl_lifecycle.policies import PolicyRecord
from rl_lifecycle.promotion import Promotion, PromotionOutcome, promote, roll_back
from rl_lifecycle.registry import find_champion, list_versions, read_history
from rl_lifecycle.specs import Artifact, Spec
from rl_lifecycle.stores import ObjectStore, S3Store, get

log = logging.getLogger(__name__)


class S3PromoteCandidateOperator(RunOperator):
    """Put the candidate into service if the verdict says so, and the champion is still the one it was compared with.

    A retry or a clear goes on where it stopped, and finds its own version again. Any other decision skips the task.

    :param candidate: what `select` returned. :param verdict: what `judge` returned.
    :param approval: what `approve` returned; without an approval nothing is promoted.
    :param aws_conn_id: a connection of the promoter's; None: `nightshift_promoter` if defined, else the assumed role.
    """

    template_fields: Sequence[str] = ("plan", "candidate", "verdict", "approval")

    def __init__(self, *, candidate: Any, verdict: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate, self.verdict, self.approval = candidate, verdict, approval

    def execute(self, context: Context) -> dict[str, Any]:
        """Promote. :return: the promotion as JSON; its outcome may be SUPERSEDED or REFUSED."""
        if self.verdict["decision"] != Decision.PROMOTE:
            raise AirflowSkipException(f"{self.verdict['decision']}: {self.verdict['reason']}")
        if not (self.approval or {}).get("approved"):
            by = (self.approval or {}).get("by", "nobody answered")
            log.info("not approved (%s): the champion stays", by)
            return {"outcome": "NOT_APPROVED", "version": None, "uri": None, "reason": f"not approved: {by}"}
        plan, candidate = self._plan(), Candidate.model_validate(self.candidate)
        session = plan.session("promoter", self.aws_conn_id)
        store = plan.store(session)
        spec = plan.get_spec(store)
        record = PolicyRecord.from_json(get(store, candidate.record.key, candidate.record.sha256).data, candidate.record.key)
        promotion = promote(
            store, spec, record, Artifact.model_validate(self.verdict["report"]), who=_who(context),
            why=self.verdict["reason"], now=datetime.now(UTC), new_nonce=lambda: uuid.uuid4().hex, cost_usd=_cost(store, spec))
        log.info("%s: %s %s", promotion.outcome, promotion.uri or "", promotion.reason)
        if promotion.outcome is PromotionOutcome.PROMOTED:
            tell(plan, "promoted", f"version {promotion.version} at {promotion.uri}: {promotion.reason}")
        return promotion.model_dump(mode="json")


class S3RollBackChampionOperator(BaseOperator):
    """Put an earlier version back into service, with a reason, and show the history.

    A retry after the pointer moved finds the version in service and says so. A clear does the same.

    :param aws_conn_id: a connection of the promoter's; None: `nightshift_promoter` if defined, else the assumed role.
    """

    def __init__(self, *, aws_conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Roll back. :return: the move as JSON."""
        params = context["params"]
        environment, region = environment_of(params), params.get("region_name") or None
        place = find_place(environment, region)
        store = S3Store(RoleSession("promoter", environment, self.aws_conn_id, region).client("s3"), place.bucket)
        who = _who(context)
        there = find_champion(store, params["experiment"])
        if there is not None and (there[0].version, there[0].entry.who) == (int(params["version"]), who):
            log.info("version %s is in service by this very run", params["version"])
            return there[0].entry.model_dump(mode="json")
        try:
            moved = roll_back(store, params["experiment"], int(params["version"]), who=who, why=params["reason"],
                              now=datetime.now(UTC), new_nonce=lambda: uuid.uuid4().hex)
        except LifecycleError as error:
            raise AirflowFailException(f"{error}; versions: {_versions(store, params['experiment'])}") from None
        if moved.outcome is not PromotionOutcome.PROMOTED:
            raise AirflowFailException(f"{moved.outcome}: {moved.reason}")
        log.info("%s", describe_history(store, params["experiment"]))
        return _told(moved)


def describe_history(store: ObjectStore, experiment: str) -> str:
    """Every move of the champion, one line each, oldest first."""
    lines = [f"history of {experiment}:"]
    for entry in read_history(store, experiment):
        before = f"version {entry.from_version}" if entry.from_version else "nothing"
        lines.append(f"  {entry.sequence}. {entry.at:%Y-%m-%d %H:%M} UTC {entry.move}: {before} → version {entry.to_version} "
                     f"by {entry.who}: {entry.why}")
    return "\n".join(lines)


def _told(moved: Promotion) -> dict[str, Any]:
    told: dict[str, Any] = moved.model_dump(mode="json")
    return told


def _versions(store: ObjectStore, experiment: str) -> str:
    return ", ".join(str(manifest.version) for manifest in list_versions(store, experiment)) or "none"


def _who(context: Context) -> str:
    """Who moves the champion: the person that triggered the run if Airflow knows, and the run."""
    run = context["dag_run"]
    person = getattr(run, "triggering_user_name", None)
    return f"{person}, " * bool(person) + f"{run.dag_id} {run.run_id}"


def _cost(store: ObjectStore, spec: Spec) -> float:
    """What the run's machines cost, as its attempts say."""
    usd = 0.0
    for trial in spec.trials:
        for item in store.list(attempt_prefix(spec.trial_id(trial.name))):
            usd += Attempt.from_json(get(store, item.key).data, item.key).outcome.usd or 0.0
    return round(usd, 6)
