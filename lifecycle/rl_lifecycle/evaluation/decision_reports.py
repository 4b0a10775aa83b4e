"""The report of a decision: the verdict, and everything that the verdict was made from.

The evaluator draws it as an HTML page (`rl_evaluator.pages.report_html`).
"""

from typing import Literal

from rl_lifecycle.evaluation.pair_statistics import PairStatistics
from rl_lifecycle.evaluation.verdicts import Decision, Gate, Verdict
from rl_lifecycle.records.record import Record

#: What each decision means for the policy in service.
MEANINGS = {
    Decision.PROMOTE: "the candidate goes into service",
    Decision.KEEP: "the champion stays in service",
    Decision.INCONCLUSIVE: "nothing was shown, so the champion stays in service",
    Decision.CONTINUE: "more episodes are needed",
    Decision.UNCHANGED: "the candidate is the champion",
}


class Report(Record):
    """The record of a final decision. The evaluator writes it, and a promotion names its digest."""

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    spec_sha256: str
    gate: Gate
    verdict: Verdict
    first_seed: int
    candidate_sha256: str | None
    candidate_digest: str | None
    champion_sha256: str | None
    champion_digest: str | None
    bar: float | None = None
    statistics: PairStatistics | None = None


def summarise_report(report: Report) -> str:
    """Describe a report in a few lines, for a task's log or a run's note."""
    verdict, found = report.verdict, report.statistics
    lines = [f"{verdict.decision}: {verdict.reason}"]
    lines.extend(lost.describe() for lost in verdict.lost_episodes)
    if found is not None:
        against = "no champion"
        if found.champion is not None:
            against = f"the champion's {format_return(found.champion.mean)}"
        lines.append(
            f"mean return {format_return(found.candidate.mean)} against {against}; difference "
            f"{found.mean_difference:+.4g}, "
            f"shown to be at least {found.lower_bound:+.4g} (alpha {found.bound_alpha:.3g}, "
            f"{found.n} episodes each)"
        )
        crashed = f" against {found.champion.crashes}/{found.champion.n}" if found.champion else ""
        lines.append(
            f"crashes (below {report.gate.crash_below:g}) "
            f"{found.candidate.crashes}/{found.candidate.n}{crashed}; "
            f"worst seeds {', '.join(str(pair.seed) for pair in found.worst)}"
        )
        lines.extend(f"note: {warning}" for warning in found.warnings)
    return "\n".join(lines)


def format_return(value: float | None, absent: str = "–") -> str:
    """Write a return with four significant digits.

    :param absent: what to write when there is no return.
    """
    return absent if value is None else f"{value:.4g}"
