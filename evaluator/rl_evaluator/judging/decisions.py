"""Answer a DecideRequest: read the stored shards, apply the gate, write a final report.

The report is written only when the decision is final. This module loads no wheel and no policy.
"""

from typing import Any, NamedTuple

from rl_evaluator.errors import InvalidRequestError
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.gate import decide, decide_first, decide_shards
from rl_lifecycle.evaluation.lost_episodes import find_lost
from rl_lifecycle.evaluation.pair_statistics import describe_pairs
from rl_lifecycle.evaluation.requests import (
    DecideRequest,
    RenderReportRequest,
    Shard,
    differing_version,
    merge_shards,
    scenario_evaluation,
)
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.evaluation.verdicts import Decision, Verdict, gate_of
from rl_lifecycle.experiment.evaluation_settings import Scenario
from rl_lifecycle.experiment.spec import Champion, Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import former_report_key, report_key, shard_prefix, spec_key
from rl_lifecycle.storage.object_store import ObjectStore, StoredObject, get, put_once


def answer_decide(request: DecideRequest, store: ObjectStore) -> dict[str, Any]:
    """Decide on the candidate from the stored shards alone.

    A reported decision is final: it is read from its report and not made again. Another request
    writes the page for people (:mod:`rl_evaluator.pages.report_pages`), so that drawing pictures
    never delays a verdict.

    :return: the verdict, with `report_key` and `report_sha256`; both are None while the decision
        is CONTINUE.
    :raises InvalidRequestError: if the spec belongs to another run, or if the shards do not have
        the policies, environment and seeds that the run was frozen with.
    """
    place = (request.experiment, request.run, request.candidate)
    found = find_report(store, *place)
    if found is None:
        evidence = gather(request, store)
        verdict = _judge(request, store, evidence)
        if verdict.decision is Decision.CONTINUE:
            return {**verdict.model_dump(mode="json"), "report_key": None, "report_sha256": None}
        report = _report(request, evidence, verdict)
        key = report_key(*place)
        put_once(store, key, report.to_json())
        found = key, get(store, key)

    key, stored = found
    reported = Report.from_json(stored.data, f"{store.uri}/{key}").verdict
    return {
        **reported.model_dump(mode="json"),
        "report_key": key,
        "report_sha256": sha256_hex(stored.data),
    }


def find_report(
    store: ObjectStore, experiment: str, run: str, name: str
) -> tuple[str, StoredObject] | None:
    """Find the report of a decision, also where it was written before reports had their own class.

    :return: its key and its bytes; None if nothing was decided yet.
    """
    for key in (report_key(experiment, run, name), former_report_key(experiment, run, name)):
        if (stored := store.find(key)) is not None:
            return key, stored
    return None


class JudgedEpisodes(NamedTuple):
    """The episodes that a decision uses. A shard is None if it has not been evaluated."""

    spec: Spec
    candidate: Shard | None
    champion: Shard | None


def gather(request: DecideRequest | RenderReportRequest, store: ObjectStore) -> JudgedEpisodes:
    """Read the spec and the episodes of both policies.

    :raises InvalidRequestError: if the spec and the episodes do not belong to the same run.
    """
    if request.spec.key != spec_key(request.experiment, request.run):
        raise InvalidRequestError(
            f"{request.spec.key} is not the spec of {request.experiment}/{request.run}; name the "
            "run's own spec"
        )
    spec = Spec.from_json(get(store, request.spec.key, request.spec.sha256).data, request.spec.key)
    if (spec.experiment.name, spec.run) != (request.experiment, request.run):
        raise InvalidRequestError(
            f"{request.spec.key} is the spec of {spec.experiment.name}/{spec.run}, "
            f"not of {request.experiment}/{request.run}; name the run's own spec"
        )
    champion = (
        None if request.champion is None else _evaluation(request, store, request.champion, spec)
    )
    return JudgedEpisodes(spec, _evaluation(request, store, request.candidate, spec), champion)


def _report(request: DecideRequest, evidence: JudgedEpisodes, verdict: Verdict) -> Report:
    spec, candidate, champion = evidence
    gate, bar = gate_of(spec.experiment), spec.experiment.evaluation.first_champion_above
    return Report(
        experiment=request.experiment,
        run=request.run,
        spec_sha256=request.spec.sha256,
        gate=gate,
        verdict=verdict,
        first_seed=spec.gate_first_seed,
        bar=None if champion else bar,
        candidate_sha256=candidate.policy_sha256 if candidate else None,
        candidate_digest=candidate.policy_digest if candidate else None,
        champion_sha256=champion.policy_sha256 if champion else None,
        champion_digest=champion.policy_digest if champion else None,
        statistics=describe_pairs(candidate, champion, gate, verdict, bar) if candidate else None,
    )


def _judge(request: DecideRequest, store: ObjectStore, evidence: JudgedEpisodes) -> Verdict:
    spec, candidate, champion = evidence
    gate = gate_of(spec.experiment)
    if spec.champion is None or spec.champion.new_lineage:
        if request.champion is not None:
            raise InvalidRequestError(
                "the run froze no champion, but the request names a champion's evaluation; "
                "leave `champion` null"
            )
        return decide_first(
            candidate.returns if candidate else (),
            spec.experiment.evaluation.first_champion_above,
            gate,
        ).with_lost(find_lost({"candidate": candidate} if candidate else {}))
    if request.champion is None:
        raise InvalidRequestError(
            "the run froze a champion, but the request names no evaluation of it; "
            "put its evaluation on the gate's seeds into `champion`"
        )
    if candidate is None or champion is None:
        return decide((), (), gate)
    _check_champion(champion, spec.champion)
    _check_versions(candidate, champion)
    scenarios = {
        name: _scenario(request, store, name, spec, candidate, champion) for name in gate.scenarios
    }
    return decide_shards(
        candidate,
        champion,
        gate,
        {name: pair for name, pair in scenarios.items() if pair is not None},
    )


def _check_champion(shard: Shard, champion: Champion) -> None:
    if shard.policy_sha256 != champion.policy.sha256:
        raise InvalidRequestError(
            f"the champion's shards have another policy ({shard.policy_sha256[:12]}) than the "
            f"champion that the run froze ({champion.policy.sha256[:12]}); evaluate the latter"
        )


def _check_versions(candidate: Shard, champion: Shard) -> None:
    """Refuse to pair episodes that different versions of the evaluator played."""
    if differs := differing_version(candidate.versions, champion.versions):
        raise InvalidRequestError(
            "candidate and champion were played by different versions of the evaluator "
            f"({differs}), so their episodes are not paired; trigger a new run"
        )


def _check_evaluator(prefix: str, shard: Shard, spec: Spec) -> None:
    """Refuse episodes of another version of the evaluator than the spec froze.

    Shards of a laptop and of older releases name no version.
    """
    played = shard.versions.get("evaluator")
    if spec.evaluator and played and played != spec.evaluator.label:
        raise InvalidRequestError(
            f"{prefix} was played by another version of the evaluator ({played}) than the run "
            f"froze ({spec.evaluator.label}); trigger a new run"
        )


def _scenario(
    request: DecideRequest,
    store: ObjectStore,
    name: str,
    spec: Spec,
    candidate: Shard,
    champion: Shard,
) -> tuple[Shard, Shard] | None:
    """Join the shards of both policies in one scenario.

    :return: None if one of the policies has no shard yet.
    """
    scenario = spec.experiment.evaluation.scenarios[name]
    ours = _evaluation(request, store, scenario_evaluation(request.candidate, name), spec, scenario)
    theirs = _evaluation(
        request, store, scenario_evaluation(str(request.champion), name), spec, scenario
    )
    if ours is None or theirs is None:
        return None
    if (ours.policy_sha256, theirs.policy_sha256) != (
        candidate.policy_sha256,
        champion.policy_sha256,
    ):
        raise InvalidRequestError(
            f"scenario {name} was evaluated with other policies than the experiment's own "
            "environment; evaluate both with the same two policies"
        )
    _check_versions(ours, theirs)
    return ours, theirs


def _evaluation(
    request: DecideRequest | RenderReportRequest,
    store: ObjectStore,
    name: str,
    spec: Spec,
    scenario: Scenario | None = None,
) -> Shard | None:
    """Join the stored shards of an evaluation.

    :return: None if it has no shard yet.
    """
    prefix = shard_prefix(request.experiment, request.run, name)
    try:
        shards = [read_shard(store, item) for item in store.list(prefix)]
        if not shards:
            return None
        merged = merge_shards(shards)
    except InvalidRecordError as error:
        raise InvalidRequestError(f"{prefix}: {error.problem}") from None

    _check_evaluator(prefix, merged, spec)
    experiment = spec.experiment
    if merged.first_seed != spec.gate_first_seed:
        raise InvalidRequestError(
            f"{prefix} begins at seed {merged.first_seed}, but the run's gate begins at seed "
            f"{spec.gate_first_seed}; evaluate the gate's seeds"
        )

    scenario = scenario or Scenario()
    kwargs = {**experiment.env_kwargs, **scenario.env_kwargs}
    if (merged.env_id, merged.env_kwargs, merged.perturbation, merged.deterministic) != (
        experiment.env_id,
        kwargs,
        scenario.perturbation,
        experiment.evaluation.deterministic,
    ):
        raise InvalidRequestError(
            f"{prefix} was evaluated on another environment or with other settings than the run's "
            f"{experiment.env_id}; evaluate it as the run's spec says"
        )
    return merged
