"""Errors and notices that end a segment early, and a segment's environments."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.box2d import BipedalWalker

from rl_trainer.environments.action_masks import choices_of
from rl_trainer.environments.factory import check_environment
from rl_trainer.errors import DivergedError, EnvironmentFailedError
from rl_trainer.training.divergence import largest_reward
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.watch import TrainingWatch
from tests.trainer.chains import make_trainer, train_chain
from tests.trainer.toy_envs import ACTIONS, OBSERVATIONS, ToyEnv

SMALL: dict[str, Any] = {
    "n_envs": 2,
    "n_steps": 25,
    "batch_size": 25,
    "n_epochs": 2,
    "policy_kwargs": "dict(net_arch=[8])",
}


class PoisonedEnv(ToyEnv):
    """Raises after 150 steps, or gives NaN in the 11th step of a later episode."""

    def __init__(self, poison: str) -> None:
        super().__init__(action="box")
        self.poison, self.steps, self.of_episode = poison, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        self.of_episode = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Step, and fail at the given step."""
        self.steps += 1
        if self.steps > 150 and self.poison == "raise":
            raise RuntimeError("the simulator has exploded")
        if not np.isfinite(action).all():
            raise ValueError("actions must be finite")
        observation, reward, terminated, truncated, info = super().step(action)
        self.of_episode += 1
        if self.steps > 150 and self.of_episode == 11:
            if self.poison == "reward":
                reward = float("nan")
            elif self.poison in ("observation", "end"):
                observation[1], terminated = np.nan, self.poison == "end"
        return observation, reward, terminated, truncated, info


gym.register("Poisoned-v0", f"{__name__}:PoisonedEnv", max_episode_steps=20)


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        ("reward", "the reward was nan, at step 11 of an episode of Poisoned-v0"),
        ("observation", "the observation was not finite, at step 11 of an episode of Poisoned-v0"),
        ("end", "the last observation was not finite, at step 11 of an episode of Poisoned-v0"),
    ],
)
@pytest.mark.parametrize("algo", ["ppo", "td3"])
def test_a_number_that_is_not_finite_is_called_the_environments(
    algo: str, poison: str, message: str
) -> None:
    """The environment and the step are named, and the learning rate is not blamed."""
    changes = SMALL if algo == "ppo" else {"learning_starts": 50}
    trainer = make_trainer(
        algo,
        changes,
        env_id="Poisoned-v0",
        env_kwargs={"poison": poison},
        segment=1000,
        total=1000,
    )
    with pytest.raises(EnvironmentFailedError, match=message):
        train_chain(trainer, through_files=False)


@pytest.mark.parametrize(
    ("algo", "changes", "message"),
    [
        (
            "ppo",
            {**SMALL, "learning_rate": 1e6, "max_grad_norm": 1e9},
            "a parameter has grown to .* lower the learning rate",
        ),
        (
            "dqn",
            {
                "learning_starts": 50,
                "batch_size": 16,
                "learning_rate": 3.0,
                "target_update_interval": 10,
            },
            "values are wrong by",
        ),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_what_has_left_all_bounds_is_called_diverged_before_it_is_nan(
    algo: str, changes: dict[str, Any], message: str, fast: bool
) -> None:
    """A training with absurd but finite numbers stops at the segment's end with the reason."""
    trainer = make_trainer(algo, changes, env_id="CartPole-v1", segment=1000, total=2000, fast=fast)
    with pytest.raises(DivergedError, match=message):
        train_chain(trainer, through_files=False)


@pytest.mark.parametrize("fast", [True, False])
def test_a_deviation_of_zero_is_called_diverged(fast: bool) -> None:
    """A deviation of zero, which torch's distribution refuses, is DIVERGED."""
    changes = {"n_envs": 2, "n_steps": 32, "learning_rate": 100.0}
    trainer = make_trainer(
        "a2c", changes, env_kwargs={"action": "box"}, segment=1280, total=1280, fast=fast
    )
    with pytest.raises(DivergedError, match="lower the learning rate"):
        train_chain(trainer, through_files=False)


def test_rewards_that_are_numpys_numbers_pass_the_checker() -> None:
    """SB3 trains on BipedalWalker's `float32` rewards, and only its checker refuses them."""
    factory = make_trainer("ppo", SMALL, env_id="BipedalWalker-v3").factory
    assert isinstance(check_environment(factory).unwrapped, BipedalWalker)


def test_an_environment_with_goals_passes_the_checker() -> None:
    """The checker calls `compute_reward` within the wrappers."""
    factory = make_trainer(
        "sac",
        {"policy": "MultiInputPolicy", "replay_buffer_class": "HerReplayBuffer"},
        env_kwargs={"observation": "goal", "action": "box"},
    ).factory
    assert isinstance(check_environment(factory).unwrapped, ToyEnv)


class StrictEnv(gym.Env[Any, Any]):
    """Raises an error for a forbidden action, and forbids all of them in one step of an episode."""

    observation_space = OBSERVATIONS["box"]

    def __init__(self, action: str = "discrete", closed_at: int = -1) -> None:
        self.action_space = ACTIONS[action]
        self.closed_at, self.steps = closed_at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def _observe(self) -> Any:
        self._signal = self.np_random.uniform(-1, 1)
        return np.full(3, self._signal, np.float32)

    def action_masks(self) -> np.ndarray[Any, Any]:
        """Forbid every other option, choice after choice."""
        sizes = choices_of(self.action_space)
        shift = int(self._signal > 0)
        mask = np.concatenate([(np.arange(size) + shift) % 2 == 0 for size in sizes])
        return mask & (self.steps != self.closed_at)

    def step(self, action: Any) -> Any:
        """Step, or refuse an impossible action."""
        offset, mask = 0, self.action_masks()
        for option, size in zip(np.ravel(action), choices_of(self.action_space), strict=True):
            if not mask[offset + int(option)]:
                raise ValueError(f"the action {action} is impossible")
            offset += size
        self.steps += 1
        return self._observe(), float(np.sum(action)), False, False, {}


gym.register("Strict-v0", f"{__name__}:StrictEnv", max_episode_steps=20)


@pytest.mark.parametrize("action", ["discrete", "multi_discrete", "multi_binary"])
def test_an_environment_is_checked_and_trained_under_its_masks(action: str) -> None:
    """No impossible action is taken, in the checker or in training."""
    trainer = make_trainer(
        "maskable_ppo",
        {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
        env_id="Strict-v0",
        env_kwargs={"action": action},
        segment=256,
        total=256,
    )
    check_environment(trainer.factory).close()
    train_chain(trainer, through_files=False)


def test_a_mask_that_allows_nothing_is_called_the_environments() -> None:
    """sb3-contrib would draw any action; the trainer names the environment and the step."""
    trainer = make_trainer(
        "maskable_ppo",
        {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
        env_id="Strict-v0",
        env_kwargs={"closed_at": 12},
        segment=256,
        total=256,
    )
    message = r"action_masks\(\) of step 12 of an episode of Strict-v0 allows no action"
    with pytest.raises(EnvironmentFailedError, match=message):
        train_chain(trainer, through_files=False)


def test_the_largest_reward_is_seen_by_its_size() -> None:
    """The largest reward covers every environment and step, also of earlier segments."""
    small = {"learning_starts": 100, "policy_kwargs": "dict(net_arch=[8])"}
    trainer = make_trainer("sac", small, env_id="Pendulum-v1", segment=400, total=400)
    model = train_chain(trainer, through_files=False).model
    assert largest_reward(model) == pytest.approx(
        float(np.abs(model.replay_buffer.rewards).max()), rel=1e-6
    )
    model.env.largest_reward = 0.0
    assert 1 < largest_reward(model) < 17


def test_an_error_of_the_environment_is_called_so() -> None:
    """The environment's own message is kept."""
    trainer = make_trainer(
        "ppo", SMALL, env_id="Poisoned-v0", env_kwargs={"poison": "raise"}, segment=1000, total=1000
    )
    with pytest.raises(EnvironmentFailedError, match="the simulator has exploded"):
        train_chain(trainer, through_files=False)


def test_the_lean_vec_env_gives_the_same_as_sb3s() -> None:
    """Observations, rewards, ends and episode statistics agree in each step."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    trainer = make_trainer("ppo", SMALL)
    lean = trainer.factory.make(1, 0)
    stock = DummyVecEnv([trainer.factory.make_one] * 2)
    stock._seeds = list(lean._seeds)
    np.testing.assert_array_equal(lean.reset(), stock.reset())
    for step in range(60):
        actions = np.array([step % 3, (step + 1) % 3])
        ours, theirs = lean.step(actions), stock.step(actions)
        for one, other in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        for one, other in zip(ours[3], theirs[3], strict=True):
            assert one.keys() == other.keys()
            assert one.get("TimeLimit.truncated") == other.get("TimeLimit.truncated")
            np.testing.assert_array_equal(
                one.get("terminal_observation", 0), other.get("terminal_observation", 0)
            )


def test_two_trials_and_two_segments_share_no_environment_seed() -> None:
    """Each environment of each segment of each trial has its own seed."""
    seeds = [
        tuple(make_trainer("ppo", SMALL, seed=trial).factory.make(trial, segment)._seeds)
        for trial in (1, 2)
        for segment in (0, 1)
    ]
    flat = [seed for pair in seeds for seed in pair]
    assert len(set(flat)) == len(flat) == 8


def test_a_notice_ends_the_training_at_the_next_step() -> None:
    """The running segment is not committed."""
    from rl_trainer.errors import InterruptedTrainingError

    interruption = Interruption()
    interruption.give_notice("SIGTERM")
    with pytest.raises(InterruptedTrainingError, match="SIGTERM at step 2"):
        make_trainer("ppo", SMALL).train(0, None, TrainingWatch(interruption))
