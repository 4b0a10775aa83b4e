"""Recorded gradient steps are SB3's DQN and SAC to the bit, as far as a CPU can show it."""

import io
import sys
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.logger import Logger

from rl_trainer.graphs.captures import PlainCalls
from rl_trainer.graphs.replayed import GraphDQN, GraphSAC
from rl_trainer.graphs.self_check import why_not_equal
from rl_trainer.model_state import capture
from tests.trainer.chains import make_trainer, train_chain, whole_digest
from tests.trainer.tapes import TapedCalls

SMALL: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 16,
    "buffer_size": 500,
    "learning_rate": "lin_0.003",
    "policy_kwargs": "dict(net_arch=[16])",
}
PICTURES = {
    "policy": "CnnPolicy",
    "policy_kwargs": "dict(net_arch=[16], features_extractor_kwargs=dict(features_dim=8))",
    "train_freq": 16,
}
BOX = {"action": "box"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dqn", {"target_update_interval": 30, "train_freq": 4, "gradient_steps": 2}, {}),
    ("dqn", PICTURES, {"observation": "image"}),
    ("dqn", {"policy": "MultiInputPolicy"}, {"observation": "dict"}),
    ("sac", {"normalize": True}, BOX),
    (
        "sac",
        {
            "ent_coef": 0.1,
            "n_steps": 3,
            "target_update_interval": 2,
            "train_freq": 3,
            "gradient_steps": 3,
        },
        {"action": "wide"},
    ),
    (
        "sac",
        {
            "policy": "MultiInputPolicy",
            "replay_buffer_class": "HerReplayBuffer",
            "learning_starts": 50,
            "train_freq": 4,
        },
        {"observation": "goal", "action": "box"},
    ),
]


@pytest.mark.parametrize(("algo", "changes", "env_kwargs"), CASES)
def test_a_chain_ends_where_stock_sb3_ends(
    algo: str, changes: dict[str, Any], env_kwargs: dict[str, Any]
) -> None:
    """Recorded anew in each segment, and killed between them: parameters, targets, moments and counters are the bytes of SB3's."""
    ends = [
        train_chain(
            make_trainer(
                algo,
                SMALL | changes,
                env_kwargs=env_kwargs,
                total=160,
                segment=80,
                fast=False,
                capturer=capturer,
            ),
            through_files=capturer is not None,
        )
        for capturer in (PlainCalls(), None)
    ]
    assert [type(end.model) for end in ends] == (
        [GraphDQN, DQN] if algo == "dqn" else [GraphSAC, SAC]
    )
    assert ends[0].state.values == ends[1].state.values
    assert len({whole_digest(end) for end in ends}) == 1
    assert any(name.endswith("exp_avg") for name in ends[0].state.arrays), "nothing was trained"


@pytest.mark.parametrize(("algo", "changes", "env_kwargs"), CASES)
def test_kernels_replayed_without_python_take_the_same_steps(
    algo: str, changes: dict[str, Any], env_kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is baked in that changes: batch, noise, learning rate, Adam's counters and targets are read where they are kept."""
    monkeypatch.setattr(
        sys.modules["torch.optim.adam"], "_get_capturable_supported_devices", lambda **_: ["cpu"]
    )
    monkeypatch.setattr(
        torch.optim.Optimizer, "_warned_capturable_if_run_uncaptured", True, raising=False
    )
    tapes, states, logs = TapedCalls(), [], []
    for capturer in (tapes, None):
        trainer = make_trainer(
            algo, SMALL | changes, env_kwargs=env_kwargs, fast=False, capturer=capturer
        )
        model = trainer.prepare(0, None)
        model.set_logger(Logger(None, []))
        recorded_before = tapes.recorded, tapes.replayed
        model.learn(90, log_interval=10**6)
        states.append(capture(model))
        logs.append(
            {
                name: value
                for name, value in model.logger.name_to_value.items()
                if name.startswith("train/")
            }
        )
        if capturer is not None:
            assert tapes.recorded - recorded_before[0] == (1 if algo == "dqn" else 2)
            assert tapes.replayed - recorded_before[1] >= model._n_updates > 0
    ours, stock = states
    assert ours.values == stock.values
    for name, array in stock.arrays.items():
        np.testing.assert_allclose(ours.arrays[name], array, rtol=2e-3, atol=2e-5, err_msg=name)
    assert logs[0] == pytest.approx(logs[1], rel=1e-3, abs=1e-5)


def test_who_reads_the_model_finds_plain_optimizers() -> None:
    """Between two steps they keep their recordable form, until a checkpoint or a file asks for them; then training goes on."""
    model = make_trainer("sac", SMALL, env_kwargs=BOX, fast=False, capturer=PlainCalls()).prepare(
        0, None
    )
    model.learn(60)
    assert isinstance(model.actor.optimizer.param_groups[0]["lr"], torch.Tensor)
    file = io.BytesIO()
    model.save(file)
    for optimizer in model.optimizers():
        assert isinstance(optimizer.param_groups[0]["lr"], float)
        assert not optimizer.param_groups[0]["capturable"]
    file.seek(0)
    loaded = SAC.load(file, env=model.env)
    assert (
        loaded.critic.optimizer.param_groups[0]["lr"]
        == model.critic.optimizer.param_groups[0]["lr"]
    )
    loaded.learn(60)
    model.learn(60, reset_num_timesteps=False)


@pytest.mark.parametrize(("algo", "changes", "env_kwargs"), CASES)
def test_the_check_passes_and_draws_from_no_generator_of_the_training(
    algo: str, changes: dict[str, Any], env_kwargs: dict[str, Any]
) -> None:
    """Whatever the spaces and the buffer: its batches have the form of those to come."""
    model = make_trainer(
        algo, SMALL | changes, env_kwargs=env_kwargs, fast=False, capturer=PlainCalls()
    ).prepare(0, None)
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    assert why_not_equal(model) == ""
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_state_dependent_exploration_of_sac_is_left_to_sb3() -> None:
    """Its noise would be drawn within the recording, and read outside."""
    trainer = make_trainer(
        "sac", SMALL | {"use_sde": True}, env_kwargs=BOX, fast=False, capturer=PlainCalls()
    )
    assert type(trainer.prepare(0, None)) is SAC
    assert trainer.builder.reason == "no CUDA graphs: state-dependent exploration of SAC"
