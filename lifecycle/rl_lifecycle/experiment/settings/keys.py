"""The table of keys: what each hyper-parameter may hold.

The constructors' arguments and their defaults are in
:mod:`rl_lifecycle.experiment.algorithms`. A key without a row here has the type of its default. A
test compares both tables with the signatures of SB3, sb3-contrib, Gymnasium and torch.
"""

import dataclasses

from rl_lifecycle.experiment.algorithms import Algorithm, Exporter
from rl_lifecycle.experiment.settings.literals import ACTIVATIONS, OPTIMIZERS
from rl_lifecycle.experiment.settings.values import MOST, Form, Kind

_SHARE = Form(Kind.NUMBER, 0, 1)
_COUNT = Form(Kind.WHOLE, 1, MOST)
_POSITIVE = Form(Kind.NUMBER, 0)
_FLAG = Form(Kind.FLAG)
_MAPPING = Form(Kind.MAPPING, null=True)

#: Arguments of a constructor whose form does not follow from their default.
FORMS: dict[str, Form] = {
    **dict.fromkeys(
        (
            "batch_size",
            "buffer_size",
            "cg_max_steps",
            "line_search_max_iter",
            "n_critic_updates",
            "n_delta",
            "n_epochs",
            "n_eval_episodes",
            "n_steps",
            "n_top",
            "policy_delay",
            "sub_sampling_factor",
            "target_update_interval",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            "exploration_fraction",
            "exploration_final_eps",
            "exploration_initial_eps",
            "gae_lambda",
            "gamma",
            "line_search_shrinking_factor",
            "tau",
        ),
        _SHARE,
    ),
    **dict.fromkeys(
        (
            "cg_damping",
            "max_grad_norm",
            "rms_prop_eps",
            "target_kl",
            "target_noise_clip",
            "target_policy_noise",
            "vf_coef",
        ),
        _POSITIVE,
    ),
    **dict.fromkeys(
        ("learning_rate", "clip_range", "clip_range_vf", "delta_std"), Form(Kind.SCHEDULE, 0)
    ),
    "alive_bonus_offset": Form(Kind.NUMBER),
    "gradient_steps": Form(Kind.WHOLE, -1, MOST),
    "learning_starts": Form(Kind.WHOLE, 0, MOST),
    "policy_kwargs": _MAPPING,
    "replay_buffer_class": Form(Kind.CLASS, names=("HerReplayBuffer",)),
    "replay_buffer_kwargs": _MAPPING,
    "sde_sample_freq": Form(Kind.WHOLE, -1, MOST),
    "top_quantiles_to_drop_per_net": Form(Kind.WHOLE, 0, MOST),
    "train_freq": Form(Kind.FREQUENCY, 1, MOST),
}
#: Keys of rl_zoo3 that are not arguments of a constructor.
ZOO_FORMS: dict[str, Form] = {
    "env_wrapper": Form(Kind.ANY),
    "frame_stack": Form(Kind.WHOLE, 1, 1000, null=True),
    "monitor_kwargs": _MAPPING,
    "n_envs": Form(Kind.WHOLE, 1, 10_000),
    "n_timesteps": Form(Kind.NUMBER, 1, null=True),
    "noise_std": Form(Kind.NUMBER, 0, null=True),
    "noise_type": Form(Kind.TEXT, null=True, names=("normal", "ornstein-uhlenbeck")),
    "normalize": Form(Kind.ANY),
    "policy": Form(Kind.TEXT),
}
#: Keys whose value may be written as a Python expression, such as `dict(net_arch=[64, 64])`.
EXPRESSIONS = (
    "policy_kwargs",
    "replay_buffer_kwargs",
    "monitor_kwargs",
    "normalize",
)
#: The arguments of the policies.
POLICY_FORMS: dict[str, Form] = {
    **dict.fromkeys(
        (
            "batch_norm",
            "enable_critic_lstm",
            "full_std",
            "normalize_images",
            "ortho_init",
            "share_features_extractor",
            "shared_lstm",
            "squash_output",
            "use_expln",
            "with_bias",
        ),
        _FLAG,
    ),
    **dict.fromkeys(
        ("lstm_hidden_size", "n_critics", "n_lstm_layers", "n_quantiles"),
        Form(Kind.WHOLE, 1, 100_000),
    ),
    "activation_fn": Form(Kind.CLASS, names=ACTIVATIONS),
    "batch_norm_eps": _POSITIVE,
    "batch_norm_momentum": _SHARE,
    "clip_mean": _POSITIVE,
    "features_extractor_class": Form(Kind.CLASS),
    "features_extractor_kwargs": _MAPPING,
    "log_std_init": Form(Kind.NUMBER),
    "lstm_kwargs": _MAPPING,
    "net_arch": Form(Kind.LAYERS, null=True),
    "optimizer_class": Form(Kind.CLASS, names=(*OPTIMIZERS, "RMSpropTFLike")),
    "optimizer_kwargs": _MAPPING,
    "renorm_warmup_steps": Form(Kind.WHOLE, 0, MOST),
}
#: The keys of mappings inside `policy_kwargs`.
INNER_FORMS: dict[str, dict[str, Form]] = {
    "optimizer_kwargs": {
        "alpha": _SHARE,
        "amsgrad": _FLAG,
        "betas": Form(Kind.BETAS),
        "centered": _FLAG,
        "dampening": _SHARE,
        "eps": _POSITIVE,
        "momentum": _POSITIVE,
        "nesterov": _FLAG,
        "weight_decay": _POSITIVE,
    },
    "lstm_kwargs": {"bias": _FLAG, "dropout": _SHARE},
}
#: Optimizer → the keys of its `optimizer_kwargs`.
OPTIMIZER_KEYS = {
    "Adam": ("amsgrad", "betas", "eps", "weight_decay"),
    "AdamW": ("amsgrad", "betas", "eps", "weight_decay"),
    "RMSprop": ("alpha", "centered", "eps", "momentum", "weight_decay"),
    "RMSpropTFLike": ("alpha", "centered", "eps", "momentum", "weight_decay"),
    "SGD": ("dampening", "momentum", "nesterov", "weight_decay"),
}
#: The beginning of a policy's name → the keys of `features_extractor_kwargs`.
EXTRACTOR_FORMS: dict[str, dict[str, Form]] = {
    "Mlp": {},
    "Cnn": {"features_dim": Form(Kind.WHOLE, 1, 100_000), "normalized_image": _FLAG},
    "MultiInput": {"cnn_output_dim": Form(Kind.WHOLE, 1, 100_000), "normalized_image": _FLAG},
    "Linear": {},
}
NORMALIZE_FORMS: dict[str, Form] = {
    "norm_obs": _FLAG,
    "norm_reward": _FLAG,
    "clip_obs": _POSITIVE,
    "clip_reward": _POSITIVE,
    "epsilon": _POSITIVE,
    "gamma": _SHARE,
    "norm_obs_keys": Form(Kind.TEXTS, null=True),
}
MONITOR_FORMS: dict[str, Form] = {
    "allow_early_resets": _FLAG,
    "info_keywords": Form(Kind.TEXTS),
    "reset_keywords": Form(Kind.TEXTS),
}
REPLAY_FORMS: dict[str, Form] = {"handle_timeout_termination": _FLAG}
HER_FORMS: dict[str, Form] = {
    **REPLAY_FORMS,
    "copy_info_dict": _FLAG,
    "goal_selection_strategy": Form(Kind.TEXT, names=("future", "final", "episode")),
    "n_sampled_goal": Form(Kind.WHOLE, 1, 10_000),
}


def forms_of(algorithm: Algorithm) -> dict[str, Form]:
    """Return the keys that an algorithm takes, and what each may hold.

    >>> from rl_lifecycle.experiment.algorithms import ALGORITHMS
    >>> forms_of(ALGORITHMS["qrdqn"])["max_grad_norm"].null
    True
    """
    zoo = dict(ZOO_FORMS)
    zoo["policy"] = dataclasses.replace(zoo["policy"], names=algorithm.policies)
    if not takes_noise(algorithm):
        del zoo["noise_type"], zoo["noise_std"]
    return zoo | {key: _form_of(algorithm, key) for key in algorithm.settings}


def takes_noise(algorithm: Algorithm) -> bool:
    """Whether the constructor takes noise that is added to the actions."""
    return algorithm.keeps_transitions and "Discrete" not in algorithm.actions


def _form_of(algorithm: Algorithm, key: str) -> Form:
    default = algorithm.settings[key]
    form = FORMS.get(key)
    if form is None:
        if isinstance(default, str):
            return Form(Kind.AUTO, names=("auto_",) if key == "ent_coef" else ())
        types = {bool: Kind.FLAG, int: Kind.WHOLE, float: Kind.NUMBER}
        form = Form(types.get(type(default), Kind.ANY))
    return dataclasses.replace(form, null=default is None)


def policy_forms(algorithm: Algorithm, policy: str) -> dict[str, Form]:
    """Return the keys of `policy_kwargs`, for an algorithm and one of its policies."""
    linear = ("net_arch", "activation_fn") if policy == "LinearPolicy" else ()
    forms = {key: POLICY_FORMS[key] for key in algorithm.policy_keys if key not in linear}
    if "net_arch" in forms:
        parts = _PARTS.get(algorithm.exporter, ())
        forms["net_arch"] = dataclasses.replace(forms["net_arch"], names=parts)
    return forms


#: The networks that `net_arch` may size one by one.
_PARTS = {
    Exporter.ACTOR_CRITIC: ("pi", "vf"),
    Exporter.SQUASHED: ("pi", "qf"),
    Exporter.DETERMINISTIC: ("pi", "qf"),
}
