"""rl_zoo3's tuned hyper-parameters, numbers only, by algorithm and environment id.

Source: https://github.com/DLR-RM/rl-baselines3-zoo/tree/master/hyperparams (MIT licence). `n_timesteps` is kept for
reference; the experiment's `total_timesteps` decides. Schedules are written as rl_zoo3 writes them (`lin_0.001`).
"""

from typing import Any

TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "CartPole-v1": {
            "n_envs": 8, "policy": "MlpPolicy", "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98,
            "n_epochs": 20, "ent_coef": 0.0, "learning_rate": "lin_0.001", "clip_range": "lin_0.2"},
        "LunarLander-v3": {
            "n_envs": 16, "policy": "MlpPolicy", "n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98,
            "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01},
        "Acrobot-v1": {
            "normalize": True, "n_envs": 16, "policy": "MlpPolicy", "n_steps": 256, "gae_lambda": 0.94,
            "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
        "Pendulum-v1": {
            "n_envs": 4, "policy": "MlpPolicy", "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10,
            "ent_coef": 0.0, "learning_rate": 0.001, "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4},
        "MountainCar-v0": {
            "normalize": True, "n_envs": 16, "policy": "MlpPolicy", "n_steps": 16, "gae_lambda": 0.98,
            "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
    },
}
