"""The settings of the gate: limits, defaults and shares of alpha.

An experiment declares them (:class:`rl_lifecycle.experiment.experiment.GateSettings`). The frozen
gate holds them (:class:`rl_lifecycle.evaluation.verdicts.Gate`). The two have different stored
forms, so both list the fields; a test compares them.
"""

from typing import Annotated

from pydantic import Field

#: The share of alpha that each of the four looks may spend. Together they spend all of it (union
#: bound).
ALPHA_SHARES = (0.1, 0.2, 0.3, 0.4)

Alpha = Annotated[float, Field(gt=0, lt=0.5)]
CrashMargin = Annotated[float, Field(gt=0, lt=1)]
CrashRate = Annotated[float, Field(gt=0, le=1)]

ALPHA: float = 0.05
MARGIN: float = 0.0
CRASH_MARGIN: float = 0.02
MAX_CRASH_RATE: float | None = None
MAX_PAIRS: int = 2000
#: The limits of `max_pairs` in an experiment. A gate from the command line may have fewer pairs.
FEWEST_PAIRS, MOST_PAIRS = 40, 20_000
