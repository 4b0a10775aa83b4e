"""How often the gate errs, on returns of real agents.

    python -m benchmarks.judging.gate_characteristics [--repetitions N] [--years N]

It simulates candidates that are no better, worse or better, selection on the gate's seeds, and a
year of nights. docs/gate.md quotes the record, and
tests/lifecycle/evaluation/test_gate_characteristics.py repeats a small part.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from laptop.figures.records import write_record
from laptop.gate_study.return_pools import (
    RANGES,
    Array,
    Draw,
    agents_of,
    gate_for,
    load_pool,
    paired,
    unpaired,
    with_equal_means,
    with_rare_crashes,
)
from laptop.gate_study.simulation import Tally, judge_all, simulate
from rl_lifecycle.evaluation.verdicts import Gate

ENVIRONMENTS = ("LunarLander-v3", "Acrobot-v1", "Pendulum-v1")
NIGHTS = 365


def main(arguments: list[str] | None = None) -> int:
    """Run all parts and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repetitions", type=int, default=200, help="of each null and each power figure"
    )
    parser.add_argument("--years", type=int, default=5)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    result: dict[str, Any] = {"repetitions": options.repetitions}
    for name, part in (
        ("nulls", measure_nulls),
        ("regressions", measure_regressions),
        ("power", measure_power),
        ("selection", measure_selection),
    ):
        result[name] = part(options.repetitions)
        sys.stderr.write(f"{name}: {time.perf_counter() - started:.0f} s\n")
    result["year"] = measure_years(options.years)
    result["seconds"] = round(time.perf_counter() - started, 1)
    sys.stdout.write(f"{write_record('gate-characteristics', result)}\n")
    return 0


def measure_nulls(repetitions: int) -> dict[str, Any]:
    """Candidates that are no better, or crash too often by exactly the margin: how many are
    promoted?
    """
    cells = [_cell(name, draw, gate, repetitions) for name, draw, gate in list_nulls()]
    return {
        "cells": cells,
        **{
            rule: _summary([cell[rule]["promoted"] for cell in cells])
            for rule in ("gate", "paired_t_once", "paired_t_four_looks")
        },
    }


def list_nulls() -> list[tuple[str, Draw, Gate]]:
    """Every null: name, how to draw it, the gate. Only the crash nulls have a crash threshold that
    can bind.
    """
    nulls: list[tuple[str, Draw, Gate]] = []
    for env_id in ENVIRONMENTS:
        gate = gate_for(env_id, crash_below=RANGES[env_id][0])
        for before, after in itertools.permutations(agents_of(env_id), 2):
            champion = load_pool(env_id, before)
            candidate = with_equal_means(champion, load_pool(env_id, after), gate.return_range)
            nulls.append(
                (f"{env_id}: {before} → {after}, equal means", paired(champion, candidate), gate)
            )
        for agent in agents_of(env_id):
            pool = load_pool(env_id, agent)
            nulls.append((f"{env_id}: {agent} against itself", unpaired(pool, pool), gate))
    pool, gate = (
        load_pool("LunarLander-v3", "c0.det"),
        gate_for("LunarLander-v3", crash_below=RANGES["LunarLander-v3"][0]),
    )
    for rate in (0.0005, 0.001, 0.003, 0.01, 0.03):
        draw = with_rare_crashes(pool, rate, -200.0)
        nulls.append((f"LunarLander-v3: better, but {rate:.2%} ruinous, equal means", draw, gate))
    draw = crashing_more(pool, 0.02)
    nulls.append(
        ("LunarLander-v3: better, but crashes more by the margin", draw, gate_for("LunarLander-v3"))
    )
    return nulls


def crashing_more(pool: Array, margin: float) -> Draw:
    """A candidate that is clearly better on average, but crashes more often by exactly the
    margin.
    """

    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        before = rng.choice(pool, n)
        crashes = (before >= 100) & (rng.random(n) < margin / np.mean(pool >= 100))
        return before, np.where(crashes, 50.0, np.where(before < 100, before, before + 60))

    return draw


def measure_regressions(repetitions: int) -> list[dict[str, Any]]:
    """Agents that are truly worse than the champion: none should be promoted."""
    cells = []
    for env_id in ENVIRONMENTS:
        low, high, _ = RANGES[env_id]
        for before, after in itertools.permutations(agents_of(env_id), 2):
            champion, candidate = load_pool(env_id, before), load_pool(env_id, after)
            if np.clip(candidate, low, high).mean() < np.clip(champion, low, high).mean():
                tally = simulate(paired(champion, candidate), gate_for(env_id), repetitions)
                cells.append({"name": f"{env_id}: {before} → {after}", **_rounded(tally)})
    return cells


def measure_power(repetitions: int) -> list[dict[str, Any]]:
    """Agents that are truly better: how many are promoted, after how many pairs?"""
    cases = (
        ("LunarLander-v3", "c0.det", "c1.det", 0.0),
        ("LunarLander-v3", "c0.det", "c1.det", -2.83),
        ("Acrobot-v1", "dqn.det", "ppo.det", 0.0),
        ("Pendulum-v1", "ppo.det", "sac.det", 0.0),
        ("LunarLander-v3", "dqn.det", "a2c.det", 0.0),
    )
    rows = []
    for env_id, before, after, shift in cases:
        champion, candidate = load_pool(env_id, before), load_pool(env_id, after) + shift
        n = min(len(champion), len(candidate))
        difference = np.clip(candidate[:n], *RANGES[env_id][:2]) - np.clip(
            champion[:n], *RANGES[env_id][:2]
        )
        rows.append(
            {
                "name": f"{env_id}: {before} → {after} {shift:+g}",
                "mean_difference": round(float(difference.mean()), 3),
                "in_sd_of_difference": round(float(difference.mean() / difference.std()), 3),
                "crash_rates": [
                    round(float((part < RANGES[env_id][2]).mean()), 4)
                    for part in (champion, candidate)
                ],
                **_rounded(simulate(paired(champion, candidate), gate_for(env_id), repetitions)),
            }
        )
    return rows


def measure_selection(repetitions: int) -> dict[str, Any]:
    """Choose the best of five equal policies on the gate's own seeds, or on others: what it does to
    the error.
    """
    pool, gate = (
        load_pool("LunarLander-v3", "c0.det"),
        gate_for("LunarLander-v3", crash_below=-200.0),
    )
    n = gate.schedule()[-1][0]
    result = {}
    for name, reuse in (("on the gate's seeds", True), ("on seeds of their own", False)):
        rng = np.random.default_rng(5)
        champions, candidates = [], []
        for _ in range(repetitions):
            trials = rng.choice(pool, (5, n))
            best = int(np.argmax(trials[:, :100].mean(axis=1)))
            champions.append(rng.choice(pool, n))
            candidates.append(trials[best] if reuse else rng.choice(pool, n))
        champion, candidate = np.array(champions), np.array(candidates)
        result[name] = {
            "gate": _rounded(judge_all(champion, candidate, gate)),
            "paired_t_100_pairs": round(
                float(np.mean(_t_promotes(champion[:, :100], candidate[:, :100]))), 4
            ),
        }
    return result


def measure_years(years: int) -> dict[str, Any]:
    """Nightly candidates of varying quality, mostly no better; champions follow each other for a
    year.

    Candidates are real agents shifted so that their true mean is drawn from N(-5, 8) around the
    first champion's. A promotion is false if the candidate's true mean is lower than that of the
    champion in service.
    """
    gate = gate_for("LunarLander-v3")
    rules: dict[str, Callable[[Array, Array], bool]] = {
        "gate": lambda champion, candidate: (
            judge_all(champion[None], candidate[None], gate).promoted == 1
        ),
        "paired t on 250 pairs": lambda champion, candidate: bool(
            _t_promotes(champion[None, :250], candidate[None, :250])[0]
        ),
        "mean of five episodes": lambda champion, candidate: bool(
            candidate[:5].mean() > champion[:5].mean()
        ),
    }
    return {
        "nights": NIGHTS,
        "years": years,
        "candidates": "true mean N(-5, 8) around the first champion's",
        "rules": {name: _years(rule, years) for name, rule in rules.items()},
    }


def _years(rule: Callable[[Array, Array], bool], years: int) -> dict[str, Any]:
    pools = [load_pool("LunarLander-v3", agent) for agent in ("ppo.det", "c0.det", "c1.det")]
    rows = [_one_year(rule, pools, np.random.default_rng([11, year])) for year in range(years)]
    names = ("promotions", "false_promotions", "gain", "crash_rate_start", "crash_rate_end")
    columns = zip(names, np.array(rows).T, strict=True)
    return {
        name: {"mean": round(float(column.mean()), 3), "max": round(float(column.max()), 3)}
        for name, column in columns
    }


def _one_year(
    rule: Callable[[Array, Array], bool], pools: list[Array], rng: np.random.Generator
) -> tuple[float, ...]:
    """Promotions, false ones, what the true mean gained over the year, and the crash rate before
    and after.
    """
    start = pools[1].mean()
    champion, level = pools[1], start
    before = np.mean(champion < 100)
    promotions = false = 0
    for _ in range(NIGHTS):
        pool = pools[rng.integers(3)]
        goal = start + rng.normal(-5.0, 8.0)
        candidate = pool + (goal - pool.mean())
        seeds = rng.integers(0, 3000, 2000)
        if rule(champion[seeds], candidate[seeds]):
            promotions, false = promotions + 1, false + int(goal < level)
            champion, level = candidate, goal
    return promotions, false, level - start, float(before), float(np.mean(champion < 100))


def _cell(name: str, draw: Draw, gate: Gate, repetitions: int) -> dict[str, Any]:
    rng, last = np.random.default_rng(0), gate.schedule()[-1][0]
    drawn = [draw(rng, last) for _ in range(repetitions)]
    champion, candidate = (np.array([pair[side] for pair in drawn]) for side in (0, 1))
    low, high = gate.return_range
    clipped = np.clip(champion, low, high), np.clip(candidate, low, high)
    once = _t_promotes(clipped[0][:, :250], clipped[1][:, :250])
    looks = np.any(
        [_t_promotes(clipped[0][:, :n], clipped[1][:, :n]) for n, _ in gate.schedule()], axis=0
    )
    return {
        "name": name,
        "gate": _rounded(judge_all(champion, candidate, gate)),
        "paired_t_once": {"promoted": round(float(once.mean()), 4)},
        "paired_t_four_looks": {"promoted": round(float(looks.mean()), 4)},
    }


def _t_promotes(champion: Array, candidate: Array) -> Array:
    """A one-sided paired t-test at 5 %, row by row; equal rows promote nothing."""
    difference = candidate - champion
    spread = difference.std(axis=1, ddof=1) / np.sqrt(difference.shape[1])
    t = np.divide(difference.mean(axis=1), spread, out=np.zeros(len(difference)), where=spread > 0)
    return np.asarray(stats.t.sf(t, difference.shape[1] - 1) <= 0.05)


def _rounded(tally: Tally) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(tally).items()} | {
        "standard_error": round(tally.error, 4)
    }


def _summary(rates: list[float]) -> dict[str, float]:
    return {
        "mean": round(float(np.mean(rates)), 4),
        "max": round(float(np.max(rates)), 4),
        "cells": len(rates),
    }


if __name__ == "__main__":
    sys.exit(main())
