"""rl_zoo3's tuned hyper-parameters, by algorithm and environment id.

`tuned.json` holds the values of DLR-RM/rl-baselines3-zoo (MIT licence),
https://github.com/DLR-RM/rl-baselines3-zoo, `hyperparams/*.yml` at commit 22e3ff24. It has only
entries of single environments, and white space in strings is normalised. LunarLander's v2 values
are also used for v3, because Gymnasium 1.0 renamed the environment with a bug fix. `n_timesteps` is
kept for reference; the experiment's `total_timesteps` decides. Schedules and `dict(...)` strings
are as in rl_zoo3, and the trainer parses them with a whitelist.
"""

import json
from importlib.resources import files
from typing import Any

TUNED: dict[str, dict[str, dict[str, Any]]] = json.loads(
    files(__package__).joinpath("tuned.json").read_text()
)
