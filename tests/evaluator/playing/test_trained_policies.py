"""An exported policy has the returns of SB3's own evaluation of the model."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_evaluator.playing.environments import environment_maker
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.policies import Policy, load_policy
from rl_trainer.onnx_export.export import export_policy
from tests.evaluator.environments_for_tests import SpacesEnv


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Use one thread, because more threads of a small network only wait for each other."""
    torch.set_num_threads(1)


def export(model: Any, env: gymnasium.Env[Any, Any]) -> Policy:
    """Export a model as its trial does, with the spaces of the environment itself."""
    exported = export_policy(
        model, {}, algo="ppo", env_id="", env_kwargs={}, observation_space=env.observation_space
    )
    return load_policy(exported.onnx)


def returns_of_sb3(model: Any, env: gymnasium.Env[Any, Any], seeds: range) -> list[float]:
    """Run SB3's evaluate_policy per seed, because it does not seed the environment."""
    returns = []
    for seed in seeds:
        monitored = DummyVecEnv([lambda: Monitor(env)])
        monitored.seed(seed)
        returns.extend(
            evaluate_policy(model, monitored, n_eval_episodes=1, return_episode_rewards=True)[0]
        )
    return returns


@pytest.mark.parametrize(
    ("algorithm", "env_id", "steps"),
    [(PPO, "CartPole-v1", 1024), (DQN, "CartPole-v1", 300), (PPO, "LunarLander-v3", 512)],
    ids=str,
)
def test_returns_are_those_of_evaluate_policy(algorithm: Any, env_id: str, steps: int) -> None:
    """Returns agree seed by seed to the six digits that SB3's monitor keeps."""
    model = algorithm(
        "MlpPolicy",
        env_id,
        seed=0,
        **({"n_steps": 256} if algorithm is PPO else {"learning_starts": 50}),
    )
    model.learn(steps)
    policy = export(model, gymnasium.make(env_id))
    episodes = run_episodes(policy, environment_maker(env_id, {}), range(20, 26))
    expected = returns_of_sb3(model, gymnasium.make(env_id), range(20, 26))
    assert [round(episodes[seed].total or 0, 6) for seed in range(20, 26)] == expected


@pytest.mark.parametrize("algorithm", [PPO, SAC], ids=str)
def test_continuous_actions_give_the_same_returns_up_to_rounding(algorithm: Any) -> None:
    """Continuous actions give the same returns, up to rounding in torch and onnxruntime."""
    model = algorithm("MlpPolicy", "Pendulum-v1", seed=0)
    episodes = run_episodes(
        export(model, gymnasium.make("Pendulum-v1")), environment_maker("Pendulum-v1", {}), range(3)
    )
    expected = returns_of_sb3(model, gymnasium.make("Pendulum-v1"), range(3))
    assert [episodes[seed].total for seed in range(3)] == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    ("policy_kind", "observation", "action"),
    [
        ("CnnPolicy", spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(4)),
        (
            "MultiInputPolicy",
            spaces.Dict(
                {
                    "camera": spaces.Box(0, 255, (36, 36, 1), np.uint8),
                    "speed": spaces.Box(-1, 1, (2,)),
                    "gear": spaces.Discrete(5),
                }
            ),
            spaces.MultiDiscrete([3, 2]),
        ),
        ("MlpPolicy", spaces.MultiBinary(5), spaces.MultiBinary(3)),
        ("MlpPolicy", spaces.Discrete(6), spaces.Box(-1, 1, (3,))),
    ],
    ids=["picture", "dictionary", "bits", "number"],
)
def test_every_kind_of_space_that_sb3_trains_on_is_played(
    policy_kind: str, observation: spaces.Space[Any], action: spaces.Space[Any]
) -> None:
    """Every kind of space that SB3 trains on can be played through the exported network."""
    env = SpacesEnv(observation, action)
    model = PPO(policy_kind, env, seed=0, n_steps=8, batch_size=8)
    policy = export(model, env)
    episodes = run_episodes(policy, lambda: SpacesEnv(observation, action), range(6))
    expected = returns_of_sb3(model, SpacesEnv(observation, action), range(6))
    assert [episodes[seed].total for seed in range(6)] == pytest.approx(expected, abs=1e-3)
    sampled = run_episodes(
        policy, lambda: SpacesEnv(observation, action), range(6), deterministic=False
    )
    assert all(episode.total is not None for episode in sampled.values())
