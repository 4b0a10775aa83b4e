"""The promotion gate: pure functions from paired returns to a decision.

It uses exact p-values, and each look spends a part of alpha. docs/gate.md explains the rule and
publishes how often it promotes falsely.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero
from rl_lifecycle.evaluation.futility import why_futile
from rl_lifecycle.evaluation.lost_episodes import MAX_LOST, find_lost
from rl_lifecycle.evaluation.paired_returns import Crashes, PairedReturns, Returns
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.evaluation.verdicts import Decision, Gate, Guard, Look, Verdict
from rl_lifecycle.experiment.spec import Champion


def decide(
    candidate: Returns,
    champion: Returns,
    gate: Gate,
    scenarios: Mapping[str, tuple[Returns, Returns]] | None = None,
) -> Verdict:
    """Judge a candidate against a champion on paired episodes, look by look.

    :param candidate: returns on the gate's seeds, in their order. None is a lost episode.
    :param champion: the same for the champion. A pair counts only if both have its episode.
    :param scenarios: scenario → (candidate, champion), for each scenario of the gate. Only the base
        scenario must show an improvement. The crash guard must hold in every scenario, so alpha
        needs no correction.
    :return: CONTINUE with the pairs that the next look needs, or a final decision. More pairs do
        not change a final decision.
    """
    pairs = PairedReturns(candidate, champion, gate.return_range)
    crashes = Crashes.of(candidate, champion, gate.crash_below)
    guards = {
        name: Crashes.of(*(scenarios or {}).get(name, ((), ())), threshold)
        for name, threshold in gate.scenarios.items()
    }
    last = gate.schedule()[-1][0]

    def judge(n: int, alpha: float) -> tuple[Look, Decision, str]:
        look = _look(pairs, crashes, guards, gate, n, alpha)
        decision, reason = _decide_look(look, gate)
        if decision is Decision.CONTINUE and (
            hopeless := why_futile(
                pairs, crashes, n, last, margin=gate.margin, crash_margin=gate.crash_margin
            )
        ):
            return look, Decision.INCONCLUSIVE, hopeless
        return look, decision, reason

    lost = [pairs.missing, *(guard.lost for guard in guards.values())]
    return _replay(
        pairs,
        lost,
        gate,
        judge,
        "pairs",
        "the last look did not tell the two apart: the champion stays",
    )


def decide_first(candidate: Returns, above: float | None, gate: Gate) -> Verdict:
    """Judge a first champion by a bar that its mean must exceed, and by the ceiling of crashes.

    The rule is the same as against a champion that returns exactly the bar in every episode. So the
    looks, the alpha and the floor are the same. There is no champion to compare crashes with, so
    the ceiling is the only guard that counts.

    :param above: the bar. None means the floor of the return range. The mean of a policy is above
        it if at least one return is.
    """
    bar = gate.return_range[0] if above is None else above
    pairs = PairedReturns(candidate, [bar] * len(candidate), gate.return_range)
    crashes = Crashes.of(candidate, [bar] * len(candidate), gate.crash_below)
    alone = gate.without_margin()

    def judge(n: int, alpha: float) -> tuple[Look, Decision, str]:
        # No return can be below the floor, so the phantom observation is at the floor.
        gains = pairs.differences[:n]
        look = _look(pairs, crashes, {}, alone, n, alpha).against_bar(
            p_better=p_mean_at_most_zero(gains, bar - pairs.low),
            p_worse=p_mean_at_most_zero([-gain for gain in gains], pairs.high - bar),
        )
        if look.p_better <= alpha and (look.p_ceiling is None or look.p_ceiling <= alpha):
            return (
                look,
                Decision.PROMOTE,
                (
                    f"after {n} episodes the mean return is above {bar:g} "
                    f"(p = {look.p_better:.2g} ≤ {alpha:.3g}): the first champion"
                ),
            )
        if look.p_worse <= alpha:
            return (
                look,
                Decision.KEEP,
                (
                    f"after {n} episodes the mean return is not above {bar:g} "
                    f"(p = {look.p_worse:.2g} ≤ {alpha:.3g}): there is still no champion"
                ),
            )
        return look, Decision.CONTINUE, ""

    return _replay(
        pairs,
        [pairs.missing],
        gate,
        judge,
        "episodes",
        f"the last look did not show a mean return above {bar:g}"
        f"{' and few enough crashes' if gate.max_crash_rate is not None else ''}: there is still "
        "no champion",
    )


def decide_unchanged(candidate_digest: str, champion: Champion | None) -> Verdict | None:
    """Decide UNCHANGED, without any episode, if the candidate is the policy in service.

    :param candidate_digest: digest of its parameters and normalisation statistics.
    :return: None if it must be evaluated: it is another policy, or the champion is of another
        lineage.
    """
    if champion is None or champion.new_lineage or champion.digest != candidate_digest:
        return None
    return Verdict(
        decision=Decision.UNCHANGED,
        n_pairs=0,
        alpha_spent=0.0,
        looks=(),
        reason=f"the candidate is champion version {champion.version}, byte for byte",
    )


def decide_shards(
    candidate: Shard,
    champion: Shard,
    gate: Gate,
    scenarios: Mapping[str, tuple[Shard, Shard]] | None = None,
) -> Verdict:
    """Judge two evaluations.

    :param scenarios: scenario → (candidate, champion).
    :raises InvalidRecordError: if they are not of the same environment, settings and seeds.
    """
    for ours, theirs in ((candidate, champion), *(scenarios or {}).values()):
        _check_paired(ours, theirs)
    verdict = decide(
        candidate.returns,
        champion.returns,
        gate,
        {
            name: (ours.returns, theirs.returns)
            for name, (ours, theirs) in (scenarios or {}).items()
        },
    )
    played = {"candidate": candidate, "champion": champion}
    for name, (ours, theirs) in (scenarios or {}).items():
        played |= {f"candidate in {name}": ours, f"champion in {name}": theirs}
    return verdict.with_lost(find_lost(played))


def _replay(
    pairs: PairedReturns,
    lost: Sequence[Sequence[bool]],
    gate: Gate,
    judge: Callable[[int, float], tuple[Look, Decision, str]],
    unit: str,
    undecided: str,
) -> Verdict:
    """Take the looks in their order until one of them decides.

    :param lost: for each scenario, the base first: which pairs lack an episode.
    """
    looks: list[Look] = []
    for n, alpha in gate.schedule():
        if n > min(len(part) for part in lost):
            return _verdict(
                pairs,
                Decision.CONTINUE,
                f"{n} {unit} are needed for the next look",
                looks,
                next_look=n,
            )
        if (most := max(sum(part[:n]) for part in lost)) > MAX_LOST * n:
            return _verdict(
                pairs,
                Decision.INCONCLUSIVE,
                f"{most} of {n} {unit} were lost: that is trouble with the "
                "infrastructure, not evidence",
                looks,
            ).as_broken()
        look, decision, reason = judge(n, alpha)
        looks.append(look)
        if decision is not Decision.CONTINUE:
            return _verdict(pairs, decision, reason, looks)
    return _verdict(pairs, Decision.INCONCLUSIVE, undecided, looks)


def _look(
    pairs: PairedReturns,
    crashes: Crashes,
    guards: Mapping[str, Crashes],
    gate: Gate,
    n: int,
    alpha: float,
) -> Look:
    """Compute the results of one look."""
    width, margin = pairs.high - pairs.low, gate.crash_margin
    gains = [difference - gate.margin for difference in pairs.differences[:n]]
    return Look(
        n=n,
        alpha=alpha,
        mean_difference=pairs.mean_difference(n),
        p_better=p_mean_at_most_zero(gains, width + gate.margin),
        p_worse=p_mean_at_most_zero([-gain for gain in gains], width - gate.margin),
        p_guard=crashes.p_guard(n, margin),
        p_guard_broken=crashes.p_guard_broken(n, margin),
        p_ceiling=None
        if gate.max_crash_rate is None
        else crashes.p_ceiling(n, gate.max_crash_rate),
        crashes_candidate=sum(crashes.candidate[:n]),
        crashes_champion=sum(crashes.champion[:n]),
        lost=pairs.lost(n),
        scenarios={
            name: Guard(
                p_guard=guard.p_guard(n, margin),
                p_guard_broken=guard.p_guard_broken(n, margin),
                crashes_candidate=sum(guard.candidate[:n]),
                crashes_champion=sum(guard.champion[:n]),
                lost=sum(guard.lost[:n]),
            )
            for name, guard in guards.items()
        },
    )


def _decide_look(look: Look, gate: Gate) -> tuple[Decision, str]:
    """Apply the rule to one look.

    It promotes if improvement and every guard are shown. It keeps the champion if one is refuted.
    """
    shown = {"better": look.p_better, "crashes no more often": look.p_guard}
    if look.p_ceiling is not None:
        shown[f"crashes in at most {gate.max_crash_rate:.1%}"] = look.p_ceiling
    shown |= {
        f"crashes no more often in {name}": guard.p_guard for name, guard in look.scenarios.items()
    }
    if all(p <= look.alpha for p in shown.values()):
        said = ", ".join(f"{what} (p = {p:.2g})" for what, p in shown.items())
        return (
            Decision.PROMOTE,
            f"after {look.n} pairs the candidate is {said}, each at most {look.alpha:.3g}",
        )
    if look.p_worse <= look.alpha:
        return (
            Decision.KEEP,
            f"after {look.n} pairs the candidate is not better (p = {look.p_worse:.2g} ≤ "
            f"{look.alpha:.3g})",
        )
    places: dict[str, Look | Guard] = {
        "": look,
        **{f" in {name}": guard for name, guard in look.scenarios.items()},
    }
    for where, guard in places.items():
        if guard.p_guard_broken <= look.alpha:
            return Decision.KEEP, (
                f"after {look.n} pairs the candidate crashes more often{where} "
                f"({guard.crashes_candidate} "
                f"against {guard.crashes_champion}; p = {guard.p_guard_broken:.2g} ≤ "
                f"{look.alpha:.3g})"
            )
    return Decision.CONTINUE, ""


def _verdict(
    pairs: PairedReturns,
    decision: Decision,
    reason: str,
    looks: list[Look],
    next_look: int | None = None,
) -> Verdict:
    n = len(pairs)
    return Verdict(
        decision=decision,
        reason=reason,
        next_look=next_look,
        n_pairs=n,
        alpha_spent=sum(look.alpha for look in looks),
        looks=tuple(looks),
        mean_candidate=math.fsum(pairs.candidate) / n if n else None,
        mean_champion=math.fsum(pairs.champion) / n if n else None,
        clipped_share=pairs.n_outside / (2 * n) if n else 0.0,
        lost=pairs.lost(n),
        ties=sum(d == 0 for d in pairs.differences) / n if n else 0.0,
    )


def _check_paired(candidate: Shard, champion: Shard) -> None:
    if candidate.first_seed != champion.first_seed:
        raise InvalidRecordError(
            "decide",
            f"the candidate's seeds begin at {candidate.first_seed}, the champion's at "
            f"{champion.first_seed}: pairs need the same seeds",
        )
    if (
        candidate.env_id,
        candidate.env_kwargs,
        candidate.perturbation,
        candidate.deterministic,
    ) != (champion.env_id, champion.env_kwargs, champion.perturbation, champion.deterministic):
        raise InvalidRecordError(
            "decide",
            f"the candidate was evaluated on {candidate.env_id}, the champion on "
            f"{champion.env_id}, or with other settings: evaluate both alike",
        )
