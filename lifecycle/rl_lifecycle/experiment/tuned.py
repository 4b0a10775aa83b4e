"""rl_zoo3's tuned hyper-parameters by algorithm and environment id, as data.

`tuned.json` holds the values of DLR-RM/rl-baselines3-zoo (MIT licence),
https://github.com/DLR-RM/rl-baselines3-zoo, `hyperparams/*.yml` at commit 22e3ff24, entries of
single environments only, white space in strings normalised. LunarLander's v2 values stand for v3
too: Gymnasium 1.0 renamed the environment with a bug fix. `n_timesteps` is kept for reference; the
experiment's `total_timesteps` decides. Schedules and `dict(...)` strings are as rl_zoo3 writes
them; the trainer parses them with a whitelist.
"""

import json
from importlib.resources import files
from typing import Any

TUNED: dict[str, dict[str, dict[str, Any]]] = json.loads(
    files(__package__).joinpath("tuned.json").read_text()
)
