"""Stock SB3 alone, for `trainer_costs`: trains one case with a full replay buffer, then ends.

TensorBoard is not imported, although SB3 would load it, so the result is the least that SB3 needs.
"""

import json
import sys
from typing import Any


def main(case: dict[str, Any]) -> int:
    """Train. :param case: class, env_id, n_envs, kwargs, steps. :return: 0."""
    sys.modules.setdefault("torch.utils.tensorboard", None)  # type: ignore[arg-type]
    import gymnasium as gym
    import numpy as np
    import stable_baselines3
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(1)
    env = DummyVecEnv([lambda: Monitor(gym.make(case["env_id"])) for _ in range(case["n_envs"])])
    model = getattr(stable_baselines3, case["class"])(
        "MlpPolicy", env, device="cpu", **case["kwargs"]
    )
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        for column in (
            buffer.observations,
            buffer.next_observations,
            buffer.actions,
            buffer.rewards,
            buffer.dones,
            buffer.timeouts,
        ):
            column[...] = np.zeros(column.shape[1:])
        buffer.pos, buffer.full = 0, True
    model.learn(case["steps"])
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
