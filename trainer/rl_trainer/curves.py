"""Learning curves: what SB3's logger records, as JSON lines in the store, one object a segment."""

import json
import math
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

from rl_lifecycle.layout import TrialId, metrics_prefix


class Curves(KVWriter):
    """Keeps the lines of one segment until they are taken."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Take one dump of SB3's logger."""
        del key_excluded  # says what is not meant for TensorBoard or a terminal
        numbers = {key: float(value) for key, value in key_values.items() if not isinstance(value, str)}
        finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
        self._lines.append(json.dumps({"step": step, **finite}, sort_keys=True))

    def close(self) -> None:
        """Do nothing: there is no file."""

    def take(self) -> bytes:
        """Hand over what was written since the last call."""
        lines, self._lines = self._lines, []
        return "".join(f"{line}\n" for line in lines).encode()

    def logger(self) -> Logger:
        """A logger of SB3's that writes here and nowhere else."""
        return Logger(folder=None, output_formats=[self])


def curves_key(trial: TrialId, step: int) -> str:
    """Where the curves of the segment that ended at a step lie."""
    return f"{metrics_prefix(trial)}{step:012d}.jsonl"
