"""Learning curves: what SB3's logger records, as JSON lines and as TensorBoard events, one object
of each a segment.
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
    """Keeps what one segment recorded."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int, dict[str, float]]] = []

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Take one dump of SB3's logger."""
        del key_excluded  # says what is not meant for TensorBoard or a terminal
        self.add(
            step,
            {key: float(value) for key, value in key_values.items() if not isinstance(value, str)},
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep some values of one step; what is not finite is left out."""
        finite = {key: value for key, value in sorted(values.items()) if math.isfinite(value)}
        self._points.append((time.time(), step, finite))

    def close(self) -> None:
        """Do nothing: there is no file."""

    def to_json_lines(self) -> bytes:
        """One JSON object a dump."""
        return "".join(
            f"{json.dumps({'step': step, **values})}\n" for _, step, values in self._points
        ).encode()

    def to_events(self) -> bytes:
        """The same as a TensorBoard event file."""
        return event_file(self._points)

    def logger(self) -> Logger:
        """A logger of SB3's that writes here and nowhere else."""
        return Logger(folder=None, output_formats=[self])


def episode_statistics(returns: Sequence[float], lengths: Sequence[int]) -> dict[str, float]:
    """What the episodes of one segment were like, under names of their own beside SB3's; empty if
    none has ended.

    :param returns: of every episode that ended, before any normalisation.
    :param lengths: likewise, in steps.

    >>> episode_statistics([1.0, 3.0], [10, 30])["episodes/return_mean"]
    2.0
    """
    if not returns:
        return {}
    found = {"episodes/n": float(len(returns))}
    for name, numbers in (("return", returns), ("length", lengths)):
        values = [float(value) for value in numbers if math.isfinite(value)]
        if not values:  # a training that diverged
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
    """The objects of the segment that ended at a step, by key; TensorBoard reads the event files in
    the order of their names.
    """
    return {
        curve_key(trial, step): curves.to_json_lines(),
        f"{metrics_prefix(trial)}events.out.tfevents.{step:012d}.trainer": curves.to_events(),
    }
