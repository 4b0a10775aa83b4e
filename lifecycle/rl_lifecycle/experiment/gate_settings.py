"""The gate's settings: limits, defaults and shares of alpha, each written once.

An experiment declares them (:class:`rl_lifecycle.experiment.experiment.GateSettings`), and the gate
is frozen with them (:class:`rl_lifecycle.evaluation.gate.Gate`). Both are stored in forms of their
own, so both name the fields; a test compares them.
"""

from typing import Annotated

from pydantic import Field

#: Share of alpha that each of four looks may spend; by the union bound they spend all of it.
ALPHA_SHARES = (0.1, 0.2, 0.3, 0.4)

Alpha = Annotated[float, Field(gt=0, lt=0.5)]
CrashMargin = Annotated[float, Field(gt=0, lt=1)]
CrashRate = Annotated[float, Field(gt=0, le=1)]

ALPHA: float = 0.05
MARGIN: float = 0.0
CRASH_MARGIN: float = 0.02
MAX_CRASH_RATE: float | None = None
MAX_PAIRS: int = 2000
#: What an experiment may set `max_pairs` to. A gate that is given by hand may look at fewer pairs.
FEWEST_PAIRS, MOST_PAIRS = 40, 20_000
