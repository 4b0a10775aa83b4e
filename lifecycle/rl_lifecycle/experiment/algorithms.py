"""The table of algorithms: everything that the other packages need to know about each of them.

To add an algorithm, add a row to :data:`ALGORITHMS`. All parts read this table: the reader
of experiments, the rounding of segments, the checks of hyper-parameters, training, resuming and
exporting. The module does not import torch or SB3. A test compares the table with the signatures of
SB3 and sb3-contrib.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

BOX, DISCRETE = ("Box",), ("Discrete",)
MULTI = ("MultiDiscrete", "MultiBinary")


#: The arguments of policies that an experiment may set.
NETWORK_KEYS = (
    "net_arch",
    "activation_fn",
    "features_extractor_class",
    "features_extractor_kwargs",
    "normalize_images",
    "optimizer_class",
    "optimizer_kwargs",
)
MASKED_KEYS = (*NETWORK_KEYS, "ortho_init", "share_features_extractor")
ACTOR_CRITIC_KEYS = (*MASKED_KEYS, "log_std_init", "full_std", "use_expln", "squash_output")
LSTM_KEYS = (
    "lstm_hidden_size",
    "n_lstm_layers",
    "shared_lstm",
    "enable_critic_lstm",
    "lstm_kwargs",
)
CRITICS_KEYS = (*NETWORK_KEYS, "n_critics", "share_features_extractor")
SQUASHED_KEYS = (*CRITICS_KEYS, "log_std_init", "use_expln", "clip_mean")
RENORM_KEYS = ("batch_norm", "batch_norm_momentum", "batch_norm_eps", "renorm_warmup_steps")


class Family(StrEnum):
    """How an algorithm collects its training data. Segments are rounded accordingly."""

    ON_POLICY = "on-policy"
    """It learns from a rollout of `n_steps` steps in each environment, and then discards it."""
    OFF_POLICY = "off-policy"
    """It learns after `train_freq` steps in each environment, and keeps them in a replay buffer."""
    EPISODES = "whole episodes"
    """It plays whole episodes with candidates, so a segment may end after any iteration."""


class Exporter(StrEnum):
    """Which layers of a policy become the ONNX file, and which distribution it has."""

    ACTOR_CRITIC = "actor-critic"
    SQUASHED = "squashed Gaussian"
    DETERMINISTIC = "deterministic actor"
    Q_VALUES = "Q-values"
    QUANTILES = "quantiles"
    LINEAR = "network of its own"


@dataclass(frozen=True)
class Algorithm:
    """One algorithm of SB3 or sb3-contrib.

    :param name: its name in an experiment.
    :param class_path: `module:Class`; the first part of the module is its package.
    :param settings: the hyper-parameters that its constructor takes, each with SB3's default.
    :param actions: the kinds of action spaces that it handles.
    :param exporter: how its policy is written as ONNX.
    :param default_policy: the policy that it uses if an experiment names none.
    :param minibatches: which networks are trained on minibatches of a rollout: all of them, or the
        critic alone. None means that it has no minibatches of a rollout.
    :param remembers: whether its policy carries a state from step to step. At the end of a segment
        the state is set to zero. The exported policy has `state_in` and `state_out`.
    :param action_masks: whether the environment must say which actions are allowed.
    :param policy_module: a model.zip is recognised by this part of the module name of its saved
        policies. It is empty if the algorithm shares its policies with others.
    :param policies: the names of its policies.
    :param policy_keys: the arguments of its policies that an experiment may set.
    :param saved_attributes: attributes in its model.zip that distinguish it from algorithms with
        the same policies. If several algorithms match, the longest list wins.
    """

    name: str
    class_path: str
    family: Family
    settings: Mapping[str, Any]
    actions: tuple[str, ...]
    exporter: Exporter
    default_policy: str = "MlpPolicy"
    policies: tuple[str, ...] = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")
    policy_keys: tuple[str, ...] = ACTOR_CRITIC_KEYS
    minibatches: Literal["all", "critic"] | None = None
    remembers: bool = False
    action_masks: bool = False
    policy_module: str = ""
    saved_attributes: tuple[str, ...] = ()

    @property
    def keeps_transitions(self) -> bool:
        """Whether a checkpoint includes a replay buffer."""
        return "buffer_size" in self.settings


_GAE = {"gamma": 0.99, "gae_lambda": 0.95}
_SDE = {"use_sde": False, "sde_sample_freq": -1}
_POLICY = {"policy_kwargs": None}
_PPO = {
    "learning_rate": 0.0003,
    "n_steps": 2048,
    "batch_size": 64,
    "n_epochs": 10,
    **_GAE,
    "clip_range": 0.2,
    "clip_range_vf": None,
    "normalize_advantage": True,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "target_kl": None,
    **_POLICY,
}
_REPLAY = {
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "batch_size": 256,
    "gamma": 0.99,
    "train_freq": 1,
    "gradient_steps": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": None,
    "optimize_memory_usage": False,
    "n_steps": 1,
    **_POLICY,
}
_TARGETS = {"tau": 0.005}
_ENTROPY = {"ent_coef": "auto", "target_entropy": "auto", **_SDE, "use_sde_at_warmup": False}
_SAC = {
    **_REPLAY,
    **_TARGETS,
    **_ENTROPY,
    "learning_rate": 0.0003,
    "target_update_interval": 1,
}
_DQN = {
    **_REPLAY,
    "learning_rate": 0.0001,
    "batch_size": 32,
    "tau": 1.0,
    "train_freq": 4,
    "target_update_interval": 10_000,
    "exploration_fraction": 0.1,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.05,
    "max_grad_norm": 10,
}
_DDPG = {**_REPLAY, **_TARGETS, "learning_rate": 0.001}

_ROWS = (
    Algorithm(
        "ppo",
        "stable_baselines3:PPO",
        Family.ON_POLICY,
        {**_PPO, **_SDE},
        (*BOX, *DISCRETE, *MULTI),
        Exporter.ACTOR_CRITIC,
        minibatches="all",
        saved_attributes=("n_epochs",),
    ),
    Algorithm(
        "a2c",
        "stable_baselines3:A2C",
        Family.ON_POLICY,
        {
            "learning_rate": 0.0007,
            "n_steps": 5,
            "gamma": 0.99,
            "gae_lambda": 1.0,
            "ent_coef": 0.0,
            "vf_coef": 0.5,
            "max_grad_norm": 0.5,
            "rms_prop_eps": 1e-05,
            "use_rms_prop": True,
            "normalize_advantage": False,
            **_SDE,
            **_POLICY,
        },
        (*BOX, *DISCRETE, *MULTI),
        Exporter.ACTOR_CRITIC,
    ),
    Algorithm(
        "dqn",
        "stable_baselines3:DQN",
        Family.OFF_POLICY,
        _DQN,
        DISCRETE,
        Exporter.Q_VALUES,
        policy_module="dqn",
        policy_keys=NETWORK_KEYS,
    ),
    Algorithm(
        "sac",
        "stable_baselines3:SAC",
        Family.OFF_POLICY,
        _SAC,
        BOX,
        Exporter.SQUASHED,
        policy_module="sac",
        policy_keys=SQUASHED_KEYS,
    ),
    Algorithm(
        "td3",
        "stable_baselines3:TD3",
        Family.OFF_POLICY,
        {**_DDPG, "policy_delay": 2, "target_policy_noise": 0.2, "target_noise_clip": 0.5},
        BOX,
        Exporter.DETERMINISTIC,
        policy_module="td3",
        policy_keys=CRITICS_KEYS,
    ),
    Algorithm(
        "ddpg",  # SB3 saves it with TD3's policies
        "stable_baselines3:DDPG",
        Family.OFF_POLICY,
        _DDPG,
        BOX,
        Exporter.DETERMINISTIC,
        policy_keys=CRITICS_KEYS,
    ),
    Algorithm(
        "tqc",
        "sb3_contrib:TQC",
        Family.OFF_POLICY,
        {**_SAC, "top_quantiles_to_drop_per_net": 2},
        BOX,
        Exporter.SQUASHED,
        policy_module="tqc",
        policy_keys=(*SQUASHED_KEYS, "n_quantiles"),
    ),
    Algorithm(
        "qrdqn",
        "sb3_contrib:QRDQN",
        Family.OFF_POLICY,
        {
            **_DQN,
            "learning_rate": 0.00005,
            "exploration_fraction": 0.005,
            "exploration_final_eps": 0.01,
            "max_grad_norm": None,
        },
        DISCRETE,
        Exporter.QUANTILES,
        policy_module="qrdqn",
        policy_keys=(*NETWORK_KEYS, "n_quantiles"),
    ),
    Algorithm(
        "crossq",
        "sb3_contrib:CrossQ",
        Family.OFF_POLICY,
        {**_REPLAY, **_ENTROPY, "learning_rate": 0.001, "policy_delay": 3},
        BOX,
        Exporter.SQUASHED,
        policy_module="crossq",
        policies=("MlpPolicy",),
        policy_keys=(*SQUASHED_KEYS, *RENORM_KEYS),
    ),
    Algorithm(
        "trpo",
        "sb3_contrib:TRPO",
        Family.ON_POLICY,
        {
            "learning_rate": 0.001,
            "n_steps": 2048,
            "batch_size": 128,
            **_GAE,
            "cg_max_steps": 15,
            "cg_damping": 0.1,
            "line_search_shrinking_factor": 0.8,
            "line_search_max_iter": 10,
            "n_critic_updates": 10,
            "normalize_advantage": True,
            "target_kl": 0.01,
            "sub_sampling_factor": 1,
            **_SDE,
            **_POLICY,
        },
        (*BOX, *DISCRETE, *MULTI),
        Exporter.ACTOR_CRITIC,
        minibatches="critic",
        saved_attributes=("cg_max_steps",),
    ),
    Algorithm(
        "ppo_lstm",
        "sb3_contrib:RecurrentPPO",
        Family.ON_POLICY,
        {**_PPO, **_SDE, "n_steps": 128, "batch_size": 128},
        (*BOX, *DISCRETE, *MULTI),
        Exporter.ACTOR_CRITIC,
        default_policy="MlpLstmPolicy",
        minibatches="all",
        remembers=True,
        policy_module="recurrent",
        policies=("MlpLstmPolicy", "CnnLstmPolicy", "MultiInputLstmPolicy"),
        policy_keys=(*ACTOR_CRITIC_KEYS, *LSTM_KEYS),
    ),
    Algorithm(
        "maskable_ppo",
        "sb3_contrib:MaskablePPO",
        Family.ON_POLICY,
        _PPO,
        (*DISCRETE, *MULTI),
        Exporter.ACTOR_CRITIC,
        minibatches="all",
        action_masks=True,
        policy_module="maskable",
        policy_keys=MASKED_KEYS,
    ),
    Algorithm(
        "ars",
        "sb3_contrib:ARS",
        Family.EPISODES,
        {
            "n_delta": 8,
            "n_top": None,
            "learning_rate": 0.02,
            "delta_std": 0.05,
            "zero_policy": True,
            "alive_bonus_offset": 0,
            "n_eval_episodes": 1,
            **_POLICY,
        },
        (*BOX, *DISCRETE),
        Exporter.LINEAR,
        default_policy="LinearPolicy",
        policy_module="ars",
        policies=("MlpPolicy", "LinearPolicy"),
        policy_keys=("net_arch", "activation_fn", "with_bias", "squash_output"),
    ),
)
#: Name → algorithm.
ALGORITHMS: dict[str, Algorithm] = {row.name: row for row in _ROWS}


def algorithm_names() -> list[str]:
    """All names that an experiment may use, in order."""
    return sorted(ALGORITHMS)
