"""A replay buffer that the machine cannot hold is refused before anything is trained, and no other is."""

from typing import Any

import pytest

from rl_trainer.errors import BadInputError
from rl_trainer.replay_memory import COLUMNS
from rl_trainer.replay_sizes import REST, buffer_size, check_replay_fits, machine_memory, transition_bytes
from tests.trainer.chains import make_trainer

OFF_POLICY: dict[str, Any] = {"buffer_size": 1000, "policy_kwargs": "dict(net_arch=[8])"}
HER: dict[str, Any] = {"policy": "MultiInputPolicy", "replay_buffer_class": "HerReplayBuffer", "n_envs": 2}


@pytest.mark.parametrize(("algo", "hyperparameters", "env_kwargs"), [
    ("dqn", {"n_envs": 2}, {}), ("sac", {}, {"action": "wide"}), ("sac", HER, {"observation": "goal", "action": "box"}),
    ("dqn", {"policy": "MultiInputPolicy"}, {"observation": "dict"}), ("dqn", {"frame_stack": 2}, {}), ("dqn", {"n_steps": 3}, {}),
    ("dqn", {"policy": "CnnPolicy", "frame_stack": 2}, {"observation": "image"})])
def test_the_size_of_a_transition_is_what_sb3s_buffer_takes(algo: str, hyperparameters: dict[str, Any], env_kwargs: dict[str, Any]) -> None:
    """Reckoned from the spaces, because a buffer that is too large cannot be built to look at."""
    model = make_trainer(algo, OFF_POLICY | hyperparameters, env_kwargs=env_kwargs).prepare(0, None)
    columns = [getattr(model.replay_buffer, name) for name in COLUMNS if hasattr(model.replay_buffer, name)]
    taken = sum(part.nbytes for column in columns for part in (column.values() if isinstance(column, dict) else [column]))
    her = "replay_buffer_class" in hyperparameters
    assert taken == 1000 * transition_bytes(model.env.observation_space, model.env.action_space, her=her)


def test_only_what_is_larger_than_the_memory_is_refused_with_what_would_fit() -> None:
    """A million transitions of 52 bytes are 49.6 MiB; without a replay buffer there is nothing to check."""
    trainer = make_trainer("dqn", {}, env_id="CartPole-v1")
    env, settings = trainer.factory.make(1, 0), trainer.builder.settings
    assert buffer_size(settings) == 1_000_000
    check_replay_fits(settings, env, 52_000_000 + REST)
    with pytest.raises(BadInputError, match=r"of 52 bytes need 0\.0 GiB, .* set at most 999999, or"):
        check_replay_fits(settings, env, 51_999_999 + REST)
    check_replay_fits(make_trainer("ppo", {}, env_id="CartPole-v1").builder.settings, env, 1)
    assert (machine_memory() or 0) > 2**28
