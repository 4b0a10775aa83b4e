"""Whatever an environment raises is the environment's error: one line, and exit status 72."""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_trainer.environments.factory import check_environment
from rl_trainer.errors import BadInputError, EnvironmentFailedError
from rl_trainer.training.preparation import check_untrained
from tests.trainer.chains import make_trainer, train_chain

SMALL: dict[str, Any] = {
    "n_envs": 2,
    "n_steps": 25,
    "batch_size": 25,
    "n_epochs": 1,
    "policy_kwargs": "dict(net_arch=[8])",
}


class FailingEnv(gym.Env[Any, Any]):
    """Fails in a method, after a number of good calls."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    reward: Any = 1.0

    def __init__(self, where: str, good: int = 0, leaves: bool = False) -> None:
        self.where, self.good, self.leaves, self.calls = where, good, leaves, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode, or fail."""
        self._fail("reset")
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        """Step, or fail."""
        self._fail("step")
        return np.zeros(2, np.float32), self.reward, False, False, {}

    def close(self) -> None:
        """Fail, if this is the method."""
        self._fail("close")

    def _fail(self, where: str) -> None:
        if where != self.where:
            return
        self.calls += 1
        if self.calls <= self.good:
            return
        if self.leaves:
            sys.exit(3)
        raise RuntimeError("the simulator has gone")


gym.register("Failing-v0", f"{__name__}:FailingEnv", max_episode_steps=20)


def failing(where: str, good: int = 0, *, leaves: bool = False) -> Any:
    """Make the trainer of an environment that fails."""
    kwargs = {"where": where, "good": good, "leaves": leaves}
    return make_trainer(
        "ppo", SMALL, env_id="Failing-v0", env_kwargs=kwargs, segment=200, total=200
    )


@pytest.mark.parametrize(("where", "good"), [("reset", 0), ("reset", 2), ("step", 30)])
@pytest.mark.parametrize(
    ("leaves", "words"), [(False, "RuntimeError: the simulator has gone"), (True, "SystemExit: 3")]
)
def test_an_error_in_training_names_the_method(
    where: str, good: int, leaves: bool, words: str
) -> None:
    """The first reset, the reset after an episode and a step; `sys.exit()` is an error, too."""
    with pytest.raises(EnvironmentFailedError) as raised:
        train_chain(failing(where, good, leaves=leaves), through_files=False)
    assert str(raised.value) == f"the environment raised an error in {where}(): {words}"
    assert raised.value.exit_code == 72


def test_an_exit_in_the_check_is_bad_input() -> None:
    """The checker's sentence names the environment."""
    with pytest.raises(BadInputError, match="Failing-v0 does not pass SB3's checker: 3"):
        check_environment(failing("reset", leaves=True).factory)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (np.ones(1), "an array of shape (1,)"),
        (np.ones(2), "an array of shape (2,)"),
        (np.array(1.0), "an array of shape ()"),
        (None, "None"),
        ("1.0", "'1.0'"),
    ],
)
@pytest.mark.parametrize("wrapper", [None, "gymnasium.wrappers.FlattenObservation"])
def test_a_reward_that_is_not_a_number_is_named(
    reward: object, words: str, wrapper: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence is ours, and not NumPy's, which SB3's Monitor would give."""
    monkeypatch.setattr(FailingEnv, "reward", reward)
    hyperparameters = {**SMALL, "env_wrapper": wrapper}
    trainer = make_trainer(
        "ppo", hyperparameters, env_id="Failing-v0", env_kwargs={"where": "nowhere"}
    )
    with pytest.raises(BadInputError) as raised:
        check_environment(trainer.factory)
    assert str(raised.value) == (
        f"env_id: a reward of Failing-v0 is {words}, not a number; return a number, such as "
        "float(reward)"
    )


@pytest.mark.parametrize("leaves", [False, True])
def test_an_error_in_close_is_logged(leaves: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The episodes have ended, so the training goes on."""
    check_untrained(failing("close", leaves=leaves), begun=False)
    words = "SystemExit: 3" if leaves else "RuntimeError: the simulator has gone"
    line = f"the environment raised an error in close(): {words}"
    assert [record.getMessage() for record in caplog.records] == [line, line]
