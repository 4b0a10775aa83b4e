"""What the trainer's benchmarks train: one algorithm on one environment, with rl_zoo3's values."""

from dataclasses import dataclass
from typing import Any

from rl_lifecycle.experiment.tuned import TUNED

#: gSDE, which neither the fast path nor SBX has.
GSDE = ("use_sde", "sde_sample_freq")


@dataclass(frozen=True)
class TrainingCase:
    """One algorithm on one environment.

    :param steps: of one turn, or of the whole training.
    :param without: tuned keys that are left out.
    :param changes: keys that are not rl_zoo3's.
    :param held: schedules are held at their first value and warm-ups are short: what SBX is given
        too.
    """

    algo: str
    env_id: str
    steps: int
    without: tuple[str, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()
    held: bool = False

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"{self.algo} {self.env_id}" + (" without gSDE" if GSDE[0] in self.without else "")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What it is trained with, in rl_zoo3's keys."""
        chosen = {
            key: value
            for key, value in TUNED[self.algo][self.env_id].items()
            if key not in ("n_timesteps", *self.without)
        }
        return _held(chosen) | dict(self.changes) if self.held else chosen | dict(self.changes)


def _held(chosen: dict[str, Any]) -> dict[str, Any]:
    """Hold schedules at their first value, and shorten a warm-up, whose random steps say nothing
    about training.
    """
    held = {
        key: float(value.removeprefix("lin_"))
        if isinstance(value, str) and value.startswith("lin_")
        else value
        for key, value in chosen.items()
    }
    return held | ({"learning_starts": 100} if "learning_starts" in held else {})
