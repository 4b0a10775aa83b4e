"""The evaluator samples an exported policy's actions as SB3 does."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from rl_evaluator.playing.sampling import find_sampler
from rl_lifecycle.evaluation.policies import LOG_STD, LOGITS, MEAN
from rl_trainer.checkpointing.model_state import final_parameters
from rl_trainer.onnx_export.export import export_policy
from tests.trainer.chains import TOY, make_trainer, train_chain
from tests.trainer.settings.test_algorithms import CASES, ON_POLICY

DRAWS = 4000
#: name → algorithm, hyper-parameters, environment, distribution in the metadata, outputs that hold
#: its parameters.
STOCHASTIC: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = {
    "ppo": (*CASES["ppo"], "categorical", (LOGITS,)),
    "ppo-gaussian": (
        "ppo",
        ON_POLICY | {"batch_size": 50},
        {"action": "wide"},
        "gaussian",
        (MEAN, LOG_STD),
    ),
    "ppo-squashed": (
        "ppo",
        ON_POLICY
        | {
            "batch_size": 50,
            "use_sde": True,
            "policy_kwargs": "dict(net_arch=[8], squash_output=True)",
        },
        {"action": "wide"},
        "squashed_gaussian",
        (MEAN, LOG_STD),
    ),
    "ppo-multi-discrete": (*CASES["ppo-multi-discrete"], "multi_categorical", (LOGITS,)),
    "ppo-multi-binary": (*CASES["ppo-multi-binary"], "bernoulli", (LOGITS,)),
    **{
        name: (*CASES[name], "squashed_gaussian", (MEAN, LOG_STD))
        for name in ("sac", "sac-gsde", "tqc", "crossq")
    },
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_sampled_actions_are_distributed_as_sb3s(name: str) -> None:
    """Thousands of actions for one observation have the same mean and spread, up to chance."""
    algo, hyperparameters, env_kwargs, distribution, outputs = STOCHASTIC[name]
    trained = train_chain(
        make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, total=200), through_files=False
    )
    statistics = trained.model.get_vec_normalize_env()
    exported = export_policy(
        trained.model,
        final_parameters(trained.state),
        algo=algo,
        env_id=TOY,
        env_kwargs={},
        observation_space=trained.model.env.observation_space,
        statistics=statistics,
    )
    assert exported.metadata.distribution == distribution
    observation = np.asarray(trained.model.env.observation_space.sample())
    session, rng = onnxruntime.InferenceSession(exported.onnx), np.random.default_rng(0)
    row = dict(
        zip(
            outputs,
            (part[0] for part in session.run(list(outputs), {"obs": observation[None]})),
            strict=True,
        )
    )
    sample = find_sampler(exported.metadata)
    assert sample is not None
    ours = np.array([sample(row, rng) for _ in range(DRAWS)], np.float64)
    ready = observation[None] if statistics is None else statistics.normalize_obs(observation[None])
    theirs = np.array(_drawn_by_sb3(trained.model, np.asarray(ready)), np.float64)
    standard_error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / DRAWS)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) <= 5 * standard_error + 1e-9).all()
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.1, atol=0.01)
    assert np.asarray(sample(row, rng)).dtype == trained.model.action_space.dtype


def _drawn_by_sb3(model: Any, observation: np.ndarray[Any, Any]) -> Any:
    """Sample thousands of actions for one observation, with a new gSDE matrix for each row."""
    torch.manual_seed(0)
    actor = getattr(model.policy, "actor", model.policy)
    if getattr(actor, "use_sde", False):
        actor.reset_noise(DRAWS)
    actions, _ = model.predict(np.repeat(observation, DRAWS, axis=0), deterministic=False)
    return actions
