"""Learning curves: the values of SB3's logger, as JSON lines and as TensorBoard events.

Each segment writes one object of each kind.
"""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

from rl_lifecycle.storage.layout import TrialId, curve_key, metrics_prefix
from rl_trainer.reporting.event_files import event_file


class Curves(KVWriter):
    """Collects the values that one segment logs."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int, dict[str, float]]] = []

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Add the values of one call of the logger's `dump`."""
        del key_excluded  # applies only to TensorBoard and terminal output
        self.add(
            step,
            {key: float(value) for key, value in key_values.items() if not isinstance(value, str)},
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add values of one step. Values that are not finite are left out."""
        finite = {key: value for key, value in sorted(values.items()) if math.isfinite(value)}
        self._points.append((time.time(), step, finite))

    def close(self) -> None:
        """Do nothing, because no file is open."""

    def to_json_lines(self) -> bytes:
        """Return one line with a JSON object for each dump."""
        return "".join(
            f"{json.dumps({'step': step, **values})}\n" for _, step, values in self._points
        ).encode()

    def to_events(self) -> bytes:
        """Return the same values as a TensorBoard event file."""
        return event_file(self._points)

    def logger(self) -> Logger:
        """Return an SB3 logger that writes only to this object."""
        return Logger(folder=None, output_formats=[self])


def episode_statistics(returns: Sequence[float], lengths: Sequence[int]) -> dict[str, float]:
    """Summarise the episodes of one segment; empty if no episode has ended.

    The names begin with `episodes/`, so they do not clash with SB3's.

    :param returns: the return of every episode that ended, before any normalisation.
    :param lengths: the length of each of these episodes, in steps.

    >>> episode_statistics([1.0, 3.0], [10, 30])["episodes/return_mean"]
    2.0
    """
    if not returns:
        return {}
    found = {"episodes/n": float(len(returns))}
    for name, numbers in (("return", returns), ("length", lengths)):
        values = [float(value) for value in numbers if math.isfinite(value)]
        if not values:  # the training has diverged
            continue
        found |= {
            f"episodes/{name}_mean": statistics.fmean(values),
            f"episodes/{name}_std": statistics.pstdev(values),
            f"episodes/{name}_min": min(values),
            f"episodes/{name}_median": statistics.median(values),
            f"episodes/{name}_max": max(values),
        }
    return found


def curve_files(curves: Curves, trial: TrialId, step: int) -> dict[str, bytes]:
    """Return the curve objects of the segment that ended at a step, by key.

    TensorBoard reads event files in the order of their names.
    """
    return {
        curve_key(trial, step): curves.to_json_lines(),
        f"{metrics_prefix(trial)}events.out.tfevents.{step:012d}.trainer": curves.to_events(),
    }
