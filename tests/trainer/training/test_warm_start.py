"""A warm start takes the champion's parameters, with or without its optimizer."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from rl_trainer.checkpointing.model_state import capture, final_parameters
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.export import export_policy, raw_space
from rl_trainer.training.segments import TrainedSegment
from rl_trainer.training.warm_start import WarmStart, begin_with, check_acts_alike, learning_state
from tests.trainer.chains import TOY, make_trainer, train_chain
from tests.trainer.settings.test_algorithms import CASES

SMALL: dict[str, Any] = {
    "n_envs": 2,
    "n_steps": 25,
    "batch_size": 25,
    "n_epochs": 2,
    "policy_kwargs": "dict(net_arch=[8])",
}


def warm_start(trained: TrainedSegment, algo: str, *, optimizer: bool = False) -> WarmStart:
    """Build the warm start that a version of this model stores."""
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
    )
    return WarmStart(
        final_parameters(trained.state) | learning_state(trained.state), exported.onnx, optimizer
    )


@pytest.fixture(scope="module")
def champion() -> WarmStart:
    """A PPO model with normalisation."""
    return warm_start(
        train_chain(make_trainer("ppo", SMALL | {"normalize": True}), through_files=False), "ppo"
    )


@pytest.mark.parametrize("algo", ["ppo", "a2c", "sac", "td3", "dqn", "ppo_lstm", "crossq", "ars"])
def test_a_warm_start_takes_parameters_and_optionally_the_optimizer(algo: str) -> None:
    """With the optimizer all state is the champion's; without it only the parameters are."""
    _, hyperparameters, env_kwargs = CASES[algo]
    trained = train_chain(
        make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, total=200), through_files=False
    )
    for optimizer in (True, False):
        start = warm_start(trained, algo, optimizer=optimizer)
        trainer = make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, seed=2)
        trainer.initial = start
        model = trainer.prepare(0, None)
        check_acts_alike(model, start)
        now = capture(model)
        for name, array in trained.state.arrays.items():
            if name.startswith(("policy/", "normalisation/")) or optimizer:
                np.testing.assert_array_equal(now.arrays[name], array, err_msg=name)
        assert bool([name for name in now.arrays if ".optimizer/" in name]) == (
            optimizer and algo != "ars"
        )
        assert model.num_timesteps == 0
        if optimizer:
            train_chain(trainer, through_files=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.01},
        {"n_envs": 4, "n_steps": 50, "batch_size": 10},
        {"normalize": "dict(norm_obs=True, norm_reward=False)"},
        {"gamma": 0.9, "ent_coef": 0.1, "clip_range": "lin_0.3"},
    ],
)
def test_a_compatibly_changed_spec_continues(champion: WarmStart, changes: dict[str, Any]) -> None:
    """The changes leave the policy's actions as they are."""
    trainer = make_trainer("ppo", SMALL | {"normalize": True} | changes)
    trainer.initial = champion
    check_acts_alike(trainer.prepare(0, None), champion)


def test_another_algorithm_with_the_same_policy_continues(champion: WarmStart) -> None:
    """A2C starts with PPO's policy, and its RMSprop takes no Adam moments."""
    trainer = make_trainer(
        "a2c", {"n_envs": 2, "normalize": True, "policy_kwargs": "dict(net_arch=[8])"}
    )
    trainer.initial = champion
    check_acts_alike(trainer.prepare(0, None), champion)
    with pytest.raises(
        BadInputError,
        match=r"init_optimizer: the champion's policy\.optimizer does not fit: .*holds exp_avg"
        r".*set init_optimizer: fresh",
    ):
        begin_with(
            trainer.builder.build(trainer.factory.make(1, 0)),
            dataclasses.replace(champion, optimizer=True),
        )


@pytest.mark.parametrize(
    ("changes", "env_kwargs", "message"),
    [
        (
            {"policy_kwargs": "dict(net_arch=[4])"},
            {},
            r"policy/action_net.weight is of shape \[3, 8\] in the champion and "
            r"of shape \[3, 4\] in the new model",
        ),
        ({"normalize": False}, {}, "normalisation/obs"),
        (
            {"policy_kwargs": "dict(net_arch=[8], activation_fn=nn.ReLU)"},
            {},
            "acts differently from the champion",
        ),
        ({"normalize": "dict(clip_obs=0.1)"}, {}, "acts differently from the champion"),
        ({}, {"observation": "double"}, "does not take the observations of this environment"),
        ({}, {"action": "box"}, "policy/action_net"),
    ],
)
def test_an_incompatible_champion_is_refused(
    champion: WarmStart, changes: dict[str, Any], env_kwargs: dict[str, Any], message: str
) -> None:
    """The message names the first array that does not fit, or the difference in the policy."""
    trainer = make_trainer("ppo", SMALL | {"normalize": True} | changes, env_kwargs=env_kwargs)
    trainer.initial = champion
    with pytest.raises(BadInputError, match=f"init_from: .*{message}"):
        check_acts_alike(trainer.prepare(0, None), champion)


def test_a_champion_without_an_optimizer_says_so(champion: WarmStart) -> None:
    """An imported champion has parameters only."""
    bare = {name: array for name, array in champion.arrays.items() if ".optimizer/" not in name}
    trainer = make_trainer("ppo", SMALL | {"normalize": True})
    trainer.initial = WarmStart(bare, champion.policy, optimizer=True)
    with pytest.raises(BadInputError, match="for parameter 0 it holds nothing"):
        trainer.prepare(0, None)
