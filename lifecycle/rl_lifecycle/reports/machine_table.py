"""The table of machines that the task log shows: processes, hours, steps per dollar, and why."""

import math
from collections.abc import Sequence

from rl_lifecycle.machines.machine_estimates import Estimate, MeasuredStep
from rl_lifecycle.machines.worker_counts import LEAST_GAIN
from rl_lifecycle.reports.run_summary import table

UNKNOWN = "–"
HEAD = ("machines of a trial", "vCPUs", "processes", "hours", "USD", "steps per USD", "")
#: Two figures that differ by less than this share are called the same.
SAME = 0.05


def render_machines(
    estimates: Sequence[Estimate], step: MeasuredStep, source: str, prices: str
) -> str:
    """Format the estimates for a task log, with the reasons and a comparison.

    :param estimates: at least one of them of machines that the run takes.
    :param source: where the step was measured.
    :param prices: where the prices are from.
    """
    lines = [
        f"How many? {source}: {_describe_step(step)}",
        *table([HEAD, *(_row(one) for one in estimates)]),
        *_describe_processes(estimates),
        *describe_more(estimates),
        f"Prices: {prices}; machines only. All cores count as equally fast. The trainer measures "
        "again, and chooses its processes then.",
    ]
    return "\n".join(lines)


def describe_more(estimates: Sequence[Estimate]) -> list[str]:
    """Compare the best machines that the run takes with the fastest and the cheapest ones.

    More is worth a thought from :data:`LEAST_GAIN` times as fast, and is never taken by itself.
    """
    base = best_taken(estimates)
    if base.hours is None:
        return []
    alike = [one for one in estimates if one.at_least == base.at_least and one.hours]
    fastest = min(alike, key=lambda one: one.hours or math.inf)
    cheapest = max(alike, key=lambda one: one.steps_per_usd or 0.0)
    lines = [_describe_fastest(base, fastest)]
    if cheapest not in (base, fastest) and (cheapest.steps_per_usd or 0) > (
        (base.steps_per_usd or math.inf) * (1 + SAME)
    ):
        lines.append(_describe_cheapest(base, cheapest))
    return lines


def _describe_fastest(base: Estimate, fastest: Estimate) -> str:
    gain = (base.hours or 0.0) / (fastest.hours or math.inf)
    if gain < LEAST_GAIN:
        name = base.machines.name
        return f"None of these is {LEAST_GAIN:g} times as fast as {name}: no more is worth taking."
    return (
        f"{fastest.machines.name} would be {gain:.1f} times as fast as {base.machines.name}, "
        f"{_describe_money(base, fastest)}.{_how_to_take(base, fastest)}"
    )


def _describe_cheapest(base: Estimate, cheapest: Estimate) -> str:
    hours = (cheapest.hours or 0.0) / (base.hours or math.inf)
    return (
        f"{cheapest.machines.name} would take {hours:.1f} times the hours of "
        f"{base.machines.name}, {_describe_money(base, cheapest)}.{_how_to_take(base, cheapest)}"
    )


def best_taken(estimates: Sequence[Estimate]) -> Estimate:
    """Return the machines, of those that the run takes, on which a dollar buys the most steps.

    Without prices they are the fastest.
    """
    taken = [one for one in estimates if one.machines.taken]
    return min(
        taken,
        key=lambda one: (
            one.hours is None,
            one.at_least,
            one.usd is None,
            one.usd or 0.0,
            one.hours or 0.0,
        ),
    )


def _describe_step(step: MeasuredStep) -> str:
    if step.environment_s is None:
        return f"a step takes {1000 * (step.training_s or 0.0):.2f} ms, updates included"
    environment = f"a step takes {1000 * step.environment_s:.2f} ms"
    if step.training_s is None:
        return (
            f"{environment}; updates are not known yet, so hours are at least, and steps per "
            "dollar at most, what is written"
        )
    return f"{environment}, and the updates {1000 * step.training_s:.2f} ms more"


def _row(one: Estimate) -> tuple[str, ...]:
    least, most = ("≥ ", "≤ ") if one.at_least else ("", "")
    hours, usd, steps = one.hours, one.usd, one.steps_per_usd
    return (
        one.machines.name,
        str(one.machines.cores),
        str(one.processes.workers),
        UNKNOWN if hours is None else f"{least}{hours:.3g}",
        UNKNOWN if usd is None else f"{least}{usd:.4f}",
        UNKNOWN if steps is None else f"{most}{float(f'{steps:.3g}'):,.0f}",
        "" if one.machines.taken else "not taken",
    )


def _describe_processes(estimates: Sequence[Estimate]) -> list[str]:
    """Give each reason once, with the machines that it holds for."""
    reasons: dict[str, list[str]] = {}
    for one in estimates:
        reasons.setdefault(one.processes.reason, []).append(one.machines.name)
    lines = [f"Processes on {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    unknown = [one.machines.name for one in estimates if one.at_least]
    if unknown and len(unknown) < len(estimates):
        lines.append(f"The updates on {', '.join(unknown)} are not known: other GPU, or none.")
    unpriced = [one.machines.name for one in estimates if one.machines.usd_per_hour is None]
    if unpriced:
        lines.append(f"No price is known for {', '.join(unpriced)}.")
    return lines


def _describe_money(base: Estimate, fastest: Estimate) -> str:
    """Describe what the faster machines cost. More cores buy hours, and rarely steps per dollar."""
    if base.steps_per_usd is None or fastest.steps_per_usd is None:
        return "and their steps per dollar cannot be compared without prices"
    ratio = fastest.steps_per_usd / base.steps_per_usd
    updates = ", both without updates" if base.at_least else ""
    if ratio < 1 - SAME:  # more cores, or more machines
        hours = "this buys hours, not steps per dollar"
        return f"and a dollar would buy {ratio:.2f} times the steps{updates}: {hours}"
    if ratio > 1 + SAME:
        return f"and a dollar would buy {ratio:.2f} times the steps{updates}"
    return f"and a dollar would buy as many steps{updates}"


def _how_to_take(base: Estimate, other: Estimate) -> str:
    machines = other.machines
    if machines.taken:
        return ""
    types = f"compute.instance_types: [{machines.instance_type}]"
    number = f"compute.machines: {machines.machines}"
    same = machines.machines == base.machines.machines
    key = types if same else number
    if not same and machines.instance_type != base.machines.instance_type:
        key = f"{types} and {number}"
    return f" It is not taken by itself: to take it, write {key} in the experiment's file."
