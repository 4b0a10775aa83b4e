"""For every algorithm, a chain through checkpoints equals one in memory, and the policy exports."""

from typing import Any

import numpy as np
import pytest

from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_trainer.checkpointing.model_state import final_parameters
from rl_trainer.onnx_export.export import check_exportable, export_policy, raw_space
from rl_trainer.onnx_export.observations import parts_of
from tests.trainer.chains import TOY, make_trainer, train_chain, whole_digest

OFF_POLICY: dict[str, Any] = {
    "buffer_size": 350,
    "learning_starts": 50,
    "batch_size": 16,
    "policy_kwargs": "dict(net_arch=[8])",
}
ON_POLICY: dict[str, Any] = {"n_envs": 2, "n_steps": 25, "policy_kwargs": "dict(net_arch=[8])"}
#: name → algorithm, hyper-parameters, environment.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ppo": ("ppo", ON_POLICY | {"batch_size": 25, "n_epochs": 2, "normalize": True}, {}),
    "ppo-stock": (
        "ppo",
        ON_POLICY | {"batch_size": 25, "n_epochs": 2, "use_sde": True, "sde_sample_freq": 4},
        {"action": "wide"},
    ),
    "ppo-multi-discrete": (
        "ppo",
        ON_POLICY | {"batch_size": 50},
        {"action": "multi_discrete", "observation": "multi_discrete"},
    ),
    "ppo-multi-binary": (
        "ppo",
        ON_POLICY | {"batch_size": 50},
        {"action": "multi_binary", "observation": "multi_binary"},
    ),
    "ppo-dict": (
        "ppo",
        ON_POLICY | {"policy": "MultiInputPolicy", "normalize": True, "batch_size": 50},
        {"observation": "dict"},
    ),
    "ppo-frames": (
        "ppo",
        ON_POLICY | {"batch_size": 50, "frame_stack": 3, "normalize": "dict(norm_reward=False)"},
        {},
    ),
    "ppo-pictures": (
        "ppo",
        {
            "policy": "CnnPolicy",
            "n_envs": 2,
            "n_steps": 20,
            "batch_size": 40,
            "n_epochs": 1,
            "frame_stack": 2,
            "policy_kwargs": "dict(features_extractor_kwargs=dict(features_dim=8))",
        },
        {"observation": "image"},
    ),
    "a2c": (
        "a2c",
        ON_POLICY | {"n_steps": 5, "normalize": True, "learning_rate": "lin_0.001"},
        {"action": "box"},
    ),
    "trpo": ("trpo", ON_POLICY | {"batch_size": 25}, {"observation": "discrete"}),
    "ppo_lstm": (
        "ppo_lstm",
        {
            "n_envs": 2,
            "n_steps": 25,
            "batch_size": 25,
            "n_epochs": 2,
            "policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=6, n_lstm_layers=2)",
        },
        {"action": "box"},
    ),
    "maskable_ppo": ("maskable_ppo", ON_POLICY | {"batch_size": 25, "n_epochs": 2}, {}),
    "dqn": (
        "dqn",
        OFF_POLICY | {"target_update_interval": 90, "exploration_fraction": 0.5, "n_envs": 2},
        {},
    ),
    "dqn-n-step": ("dqn", OFF_POLICY | {"n_steps": 3, "target_update_interval": 90}, {}),
    "qrdqn": (
        "qrdqn",
        OFF_POLICY
        | {"target_update_interval": 90, "policy_kwargs": "dict(net_arch=[8], n_quantiles=5)"},
        {},
    ),
    "sac": (
        "sac",
        OFF_POLICY | {"train_freq": 8, "normalize": "{'norm_obs': True, 'norm_reward': False}"},
        {"action": "wide"},
    ),
    "sac-gsde": (
        "sac",
        OFF_POLICY
        | {
            "train_freq": 8,
            "use_sde": True,
            "policy_kwargs": "dict(net_arch=[8], log_std_init=-2)",
        },
        {"action": "box"},
    ),
    "sac-her": (
        "sac",
        OFF_POLICY
        | {
            "policy": "MultiInputPolicy",
            "train_freq": 8,
            "n_envs": 2,
            "replay_buffer_class": "HerReplayBuffer",
            "replay_buffer_kwargs": "dict(goal_selection_strategy='future', n_sampled_goal=4)",
            "learning_starts": 100,
        },
        {"observation": "goal", "action": "box"},
    ),
    "td3": (
        "td3",
        OFF_POLICY
        | {
            "noise_type": "normal",
            "noise_std": 0.1,
            "train_freq": [1, "episode"],
            "gradient_steps": 4,
        },
        {"action": "wide"},
    ),
    "ddpg": (
        "ddpg",
        OFF_POLICY | {"noise_type": "ornstein-uhlenbeck", "noise_std": 0.3, "train_freq": 8},
        {"action": "box"},
    ),
    "tqc": (
        "tqc",
        OFF_POLICY
        | {"train_freq": 8, "policy_kwargs": "dict(net_arch=[8], n_critics=2, n_quantiles=5)"},
        {"action": "box"},
    ),
    "ars": (
        "ars",
        {
            "n_delta": 4,
            "n_top": 2,
            "n_envs": 3,
            "delta_std": "lin_0.05",
            "normalize": "dict(norm_reward=False)",
        },
        {"action": "wide"},
    ),
    "ars-mlp": (
        "ars",
        {"policy": "MlpPolicy", "n_delta": 2, "policy_kwargs": "dict(net_arch=[8])"},
        {},
    ),
    "crossq": ("crossq", OFF_POLICY | {"train_freq": 8}, {"action": "box"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_chain_through_checkpoints_equals_one_in_memory(name: str) -> None:
    """The checkpoint has all that learning depends on."""
    algo, hyperparameters, env_kwargs = CASES[name]
    ends = [
        train_chain(
            make_trainer(algo, hyperparameters, env_kwargs=env_kwargs), through_files=through_files
        )
        for through_files in (False, True)
    ]
    assert whole_digest(ends[0]) == whole_digest(ends[1])
    assert ends[0].state.values == ends[1].state.values


@pytest.mark.parametrize("name", CASES)
def test_the_exported_policy_acts_as_the_model(name: str) -> None:
    """The ONNX file gives `model.predict`'s deterministic actions."""
    algo, hyperparameters, env_kwargs = CASES[name]
    trainer = make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, total=200)
    check_exportable(trainer.prepare(0, None))
    trained = train_chain(trainer, through_files=False)
    space, stack = raw_space(trained.model.env)
    exported = export_policy(
        trained.model,
        final_parameters(trained.state),
        algo=algo,
        env_id=TOY,
        env_kwargs={},
        observation_space=space,
        stack=stack,
        statistics=trained.model.get_vec_normalize_env(),
        visited=trained.visited,
    )
    assert exported.metadata.equality["sampled_differing"] == 0 or np.allclose(
        exported.metadata.equality["sampled_largest_difference"], 0, atol=1e-5
    )
    if algo != "ars":  # it keeps none
        assert int(exported.metadata.equality["visited"]) > 1  # type: ignore[arg-type]
        assert exported.metadata.equality["visited_largest_difference"] < 1e-4  # type: ignore[operator]
        seen = trained.visited if isinstance(trained.visited, dict) else {"": trained.visited}
        assert all(
            space.contains(rows[0])
            for rows, space in zip(seen.values(), parts_of(space).values(), strict=True)
        )
    assert exported.metadata.recurrent == (ALGORITHMS[algo].remembers or stack is not None)


def test_only_what_is_covered_takes_the_numpy_path() -> None:
    """The spec selects the path; SB3 trains gSDE and dictionaries, and the reason is logged."""
    paths = {}
    for name in ("ppo", "ppo-stock", "ppo-dict"):
        algo, hyperparameters, env_kwargs = CASES[name]
        trainer = make_trainer(algo, hyperparameters, env_kwargs=env_kwargs)
        trainer.prepare(0, None)
        paths[name] = (trainer.builder.path, bool(trainer.builder.reason))
    assert paths == {
        "ppo": ("numpy", False),
        "ppo-stock": ("torch", True),
        "ppo-dict": ("torch", True),
    }
