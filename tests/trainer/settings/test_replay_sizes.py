"""Only a replay buffer that the machine cannot hold is refused before training."""

import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_trainer.checkpointing.replay_memory import COLUMNS
from rl_trainer.errors import BadInputError, OutOfMemoryError
from rl_trainer.settings.replay_sizes import (
    INFOS,
    REST,
    ReplayNeeds,
    ReplayTooLargeError,
    buffer_size,
    check_replay_fits,
    machine_memory,
    transition_bytes,
)
from rl_trainer.training.preparation import check_untrained
from rl_trainer.training.preparation import make_trainer as make_spec_trainer
from tests.trainer.chains import make_trainer
from tests.trainer.conftest import TINY_PPO, frozen

OFF_POLICY: dict[str, Any] = {"buffer_size": 1000, "policy_kwargs": "dict(net_arch=[8])"}
HER: dict[str, Any] = {
    "policy": "MultiInputPolicy",
    "replay_buffer_class": "HerReplayBuffer",
    "n_envs": 2,
}


@pytest.mark.parametrize(
    ("algo", "hyperparameters", "env_kwargs"),
    [
        ("dqn", {"n_envs": 2}, {}),
        ("sac", {}, {"action": "wide"}),
        ("sac", HER, {"observation": "goal", "action": "box"}),
        ("dqn", {"policy": "MultiInputPolicy"}, {"observation": "dict"}),
        ("dqn", {"frame_stack": 2}, {}),
        ("dqn", {"n_steps": 3}, {}),
        ("dqn", {"policy": "CnnPolicy", "frame_stack": 2}, {"observation": "image"}),
    ],
)
def test_the_size_of_a_transition_is_what_sb3s_buffer_takes(
    algo: str, hyperparameters: dict[str, Any], env_kwargs: dict[str, Any]
) -> None:
    """The size is computed from the spaces, because a too large buffer cannot be built."""
    model = make_trainer(algo, OFF_POLICY | hyperparameters, env_kwargs=env_kwargs).prepare(0, None)
    columns = [
        getattr(model.replay_buffer, name) for name in COLUMNS if hasattr(model.replay_buffer, name)
    ]
    taken = sum(
        part.nbytes
        for column in columns
        for part in (column.values() if isinstance(column, dict) else [column])
    )
    her = "replay_buffer_class" in hyperparameters
    assert taken == 1000 * transition_bytes(
        model.env.observation_space, model.env.action_space, her=her
    )


def test_only_what_is_larger_than_the_memory_is_refused_with_what_would_fit() -> None:
    """A million transitions of 52 bytes are 49.6 MiB; without a buffer nothing is checked."""
    trainer = make_trainer("dqn", {}, env_id="CartPole-v1")
    env, settings = trainer.factory.make(1, 0), trainer.builder.settings
    assert buffer_size(settings) == 1_000_000
    long = 10_000_000
    check_replay_fits(settings, long, env, 52_000_000 + REST)
    with pytest.raises(
        BadInputError,
        match=r"of 52 bytes need 0\.0 GiB in 10000000 steps, .* set at most 999999, or",
    ):
        check_replay_fits(settings, long, env, 51_999_999 + REST)
    check_replay_fits(settings, 5_000, env, 52 * 5_000 + REST)  # SB3's empty pages take no memory
    with pytest.raises(
        BadInputError, match=f"set at most {10**12 // 16}, or"
    ):  # its observations alone are more than Linux maps
        check_replay_fits(
            make_trainer("dqn", {"buffer_size": 10**14}, env_id="CartPole-v1").builder.settings,
            5_000,
            env,
            10**12,
        )
    check_replay_fits(make_trainer("ppo", {}, env_id="CartPole-v1").builder.settings, long, env, 1)
    assert (machine_memory() or 0) > 2**28


@pytest.mark.parametrize(
    ("needs", "size", "expected"),
    [
        (ReplayNeeds(10, 0, 9_000), 1_000, 10_000),
        (ReplayNeeds(10, 0, 300), 1_000, 3_000),
        (ReplayNeeds(10, 200, 300), 1_000, 203_000),
    ],
)
def test_memory_counts_if_it_is_allocated_at_once(
    needs: ReplayNeeds, size: int, expected: int
) -> None:
    """HER allocates its dictionaries in advance, and unused rows of a buffer take no memory."""
    assert needs.bytes_of(size) == expected


@given(
    row=st.integers(1, 100),
    fixed=st.integers(0, 300),
    total=st.integers(1, 9_000),
    memory=st.integers(-9, 10**6),
)
def test_the_suggested_size_is_the_largest_that_fits(
    row: int, fixed: int, total: int, memory: int
) -> None:
    """The suggested size is accepted, and the next larger one is refused."""
    needs = ReplayNeeds(row, fixed, total)
    largest = needs.largest(memory)
    assert 0 <= needs.bytes_of(largest) <= max(memory, 0)
    assert largest == sys.maxsize or needs.bytes_of(largest + 1) > memory


def test_hers_dictionaries_take_about_the_computed_memory() -> None:
    """The memory is measured at its peak, which grows with the size."""
    model = make_trainer(
        "sac", OFF_POLICY | HER | {"n_envs": 1}, env_kwargs={"observation": "goal", "action": "box"}
    ).prepare(0, None)
    spaces, rows = (model.env.observation_space, model.env.action_space), 20_000
    tracemalloc.start()
    try:
        HerReplayBuffer(rows, *spaces, env=model.env)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.9 < peak / rows / (transition_bytes(*spaces, her=True) + INFOS) < 1.1


def test_a_trial_from_a_larger_machine_is_not_bad_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the training the spec asks for too much (2); later the machine has too little (71)."""
    document = {
        **TINY_PPO,
        "algo": "dqn",
        "total_timesteps": 2000,
        "checkpoint_every": 1000,
        "hyperparameters": {
            "learning_starts": 100,
            "batch_size": 8,
            "policy_kwargs": "dict(net_arch=[8])",
        },
    }
    monkeypatch.setattr("rl_trainer.settings.replay_sizes.machine_memory", lambda: REST)
    trainer = make_spec_trainer(frozen(document), "seed-0", None)
    with pytest.raises(ReplayTooLargeError, match="or take a larger machine"):
        check_untrained(trainer, begun=False)
    with pytest.raises(OutOfMemoryError, match="continue on a larger machine"):
        check_untrained(trainer, begun=True)
