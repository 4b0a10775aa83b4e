"""Simulate the rule of `rl_lifecycle.evaluation.gate` on arrays of many repetitions.

The p-values of a batch are computed together, along the anti-diagonals of the recursion in
`rl_lifecycle.evaluation.bounds`. A test compares them with the rule itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lifecycle.evaluation.futility import HOPE
from rl_lifecycle.evaluation.verdicts import Gate

Array = np.ndarray[Any, Any]
#: Repetitions that fit into a core's cache together.
BATCH = 64


@dataclass(frozen=True)
class Tally:
    """The decisions of many repetitions of the gate, as shares."""

    repetitions: int
    promoted: float
    kept: float
    stopped_early: float
    mean_pairs: float

    @property
    def error(self) -> float:
        """Standard error of `promoted`."""
        return float(
            np.sqrt(
                max(self.promoted * (1 - self.promoted), 1 / self.repetitions) / self.repetitions
            )
        )


def p_values(gains: Array, worst: float) -> Array:
    """Compute :func:`rl_lifecycle.evaluation.bounds.p_mean_at_most_zero` of every row."""
    parts = [_p_batch(gains[at : at + BATCH], worst) for at in range(0, len(gains), BATCH)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _p_batch(gains: Array, worst: float) -> Array:
    rise, fall = _packed(np.where(gains > 0, gains, 0.0)), _packed(np.where(gains < 0, -gains, 0.0))
    fall = np.concatenate([np.full((len(gains), 1), worst), fall], axis=1)
    n_above, n_below = rise.shape[1], fall.shape[1]
    share = np.zeros((len(gains), n_above + 1))
    share[:, 0] = 1.0
    backwards = fall[:, ::-1]
    for diagonal in range(1, n_above + n_below):
        first, last = max(1, diagonal - n_below + 1), min(n_above, diagonal)
        # Row i of this diagonal meets fall number diagonal - i; backwards, that index grows with i.
        start = n_below - 1 - (diagonal - first)
        down, up = backwards[:, start : start + last - first + 1], rise[:, first - 1 : last]
        share[:, first : last + 1] = _mixed(
            up, share[:, first : last + 1], down, share[:, first - 1 : last]
        )
    return np.where(rise.any(axis=1), np.clip(share[:, n_above], 0.0, 1.0), 1.0)


def _mixed(rise: Array, old: Array, fall: Array, left: Array) -> Array:
    """One step of the recursion. Padding is zero. Where the rise is zero, the result is `left`.
    Where the fall is zero, the result is `old`.
    """
    total = rise + fall
    mixed = rise * old + fall * left
    return np.where(
        total > 0, np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0), left
    )


def _packed(values: Array) -> Array:
    """Move the positive values of each row to its front, and fill the rest with zeros. The result
    has as many columns as the row with the most positive values needs.
    """
    order = np.argsort(values <= 0, axis=1, kind="stable")
    packed = np.take_along_axis(values, order, axis=1)
    return packed[:, : max(1, int((values > 0).sum(axis=1).max()))]


def simulate(
    draw: Callable[[np.random.Generator, int], tuple[Array, Array]],
    gate: Gate,
    repetitions: int,
    seed: int = 0,
) -> Tally:
    """Judge fresh draws again and again.

    :param draw: gives the champion's and the candidate's returns of one repetition, as many pairs
        as asked for.
    """
    rng = np.random.default_rng(seed)
    last = gate.schedule()[-1][0]
    drawn = [draw(rng, last) for _ in range(repetitions)]
    champion, candidate = (np.array([pair[side] for pair in drawn]) for side in (0, 1))
    return judge_all(champion, candidate, gate)


def judge_all(champion: Array, candidate: Array, gate: Gate) -> Tally:
    """Judge every row. Episodes are never lost here."""
    low, high = gate.return_range
    difference = np.clip(candidate, low, high) - np.clip(champion, low, high)
    crashes = (champion < gate.crash_below).astype(float) - (candidate < gate.crash_below)
    promoted, kept, futile = (np.zeros(len(difference), bool) for _ in range(3))
    pairs = np.full(len(difference), gate.schedule()[-1][0])
    for n, alpha in gate.schedule():
        open_rows = np.flatnonzero(~(promoted | kept | futile))
        if not len(open_rows):
            break
        better, worse, hopeless = _judge_look(
            difference[open_rows, :n], crashes[open_rows, :n], gate, n, alpha
        )
        promoted[open_rows[better]], kept[open_rows[worse]], futile[open_rows[hopeless]] = (
            True,
            True,
            True,
        )
        pairs[open_rows[better | worse | hopeless]] = n
    return Tally(
        len(difference),
        float(promoted.mean()),
        float(kept.mean()),
        float(futile.mean()),
        float(pairs.mean()),
    )


def _judge_look(
    difference: Array, crashes: Array, gate: Gate, n: int, alpha: float
) -> tuple[Array, Array, Array]:
    """Which rows are promoted, kept, or given up at this look."""
    width = gate.return_range[1] - gate.return_range[0]
    gains, guards = difference - gate.margin, crashes + gate.crash_margin
    better = p_values(gains, width + gate.margin) <= alpha
    better[better] = p_values(guards[better], 1 - gate.crash_margin) <= alpha
    worse = ~better
    worse[worse] = (p_values(-gains[worse], width - gate.margin) <= alpha) | (
        p_values(-guards[worse], 1 + gate.crash_margin) <= alpha
    )
    hopeless = np.zeros_like(better)
    if n < gate.schedule()[-1][0]:
        hopeless = (
            _hopeless(gains, width + gate.margin, gate)
            | _hopeless(guards, 1 - gate.crash_margin, gate)
            | (~difference.any(axis=1) & (gate.margin >= 0))
        )
    return better, worse, hopeless & ~better & ~worse


def _hopeless(gains: Array, width: float, gate: Gate) -> Array:
    """:func:`rl_lifecycle.evaluation.futility.why_futile`'s question, for every row."""
    spread = gains.std(axis=1, ddof=1)
    hoped = gains.mean(axis=1) + HOPE * spread / np.sqrt(gains.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(hoped > 0, 3 * width / hoped + (1.65 * spread / hoped) ** 2, np.inf)
    return np.asarray(needed > gate.schedule()[-1][0])
