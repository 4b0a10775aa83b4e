"""A scenario's disturbance depends on the seed alone, not on the policy or the shards."""

import math
from typing import Any

import gymnasium
import numpy as np
import pytest

from rl_evaluator.errors import EnvironmentFailedError, InvalidRequestError
from rl_evaluator.playing.environments import environment_maker, make_environment
from rl_evaluator.playing.evaluation import Task, evaluate
from rl_evaluator.playing.perturbations import PerturbedEnv, perturb
from rl_evaluator.playing.policies import load_policy
from rl_lifecycle.experiment.evaluation_settings import Perturbation
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.one_process import answer
from tests.evaluator.policy_files import policy_for_id

NOISY = Perturbation(observation_noise=0.05, sticky_actions=0.2)


@pytest.mark.parametrize(
    ("env_id", "perturbation"),
    [
        ("CartPole-v1", NOISY),
        ("Pendulum-v1", Perturbation(observation_noise=0.1, action_noise=0.5, sticky_actions=0.1)),
    ],
)
def test_a_perturbed_episode_is_a_function_of_its_seed(
    env_id: str, perturbation: Perturbation
) -> None:
    """A disturbed return depends on the seed alone and differs from the undisturbed one."""
    policy = load_policy(policy_for_id(env_id, seed=3))
    whole = evaluate(policy, Task(env_id, {}, 100, 40, perturbation=perturbation))
    parts = [
        evaluate(policy, Task(env_id, {}, 100 + start, 20, perturbation=perturbation))
        for start in (0, 20)
    ]
    assert whole.returns == parts[0].returns + parts[1].returns
    assert whole.returns != evaluate(policy, Task(env_id, {}, 100, 40)).returns
    assert whole.perturbation == perturbation


def test_without_a_perturbation_the_environment_is_not_wrapped() -> None:
    """Without a perturbation the environment gets no wrapper, so it loses no speed."""
    assert not isinstance(environment_maker("CartPole-v1", {}, Perturbation())(), PerturbedEnv)


def test_actions_stick_with_the_given_probability() -> None:
    """Actions stick with the given probability, and a repeated action may stick again."""
    done: list[Any] = []

    class Recorder(gymnasium.Wrapper[Any, Any, Any, Any]):
        """Records the actions that arrive."""

        def step(self, action: Any) -> Any:
            """Record the action."""
            done.append(action)
            return np.zeros(4, np.float32), 0.0, False, False, {}

    env = perturb(Recorder(make_environment("CartPole-v1", {})), Perturbation(sticky_actions=0.3))
    env.reset(seed=1)
    for number in range(2000):
        env.step(number)
    assert sum(number != action for number, action in enumerate(done)) / 2000 == pytest.approx(
        0.3, abs=0.03
    )


def test_noise_keeps_forms_and_bounds() -> None:
    """Noisy observations keep their dtype, and noisy actions stay in their space."""
    env = perturb(
        make_environment("Pendulum-v1", {}), Perturbation(observation_noise=1.0, action_noise=50.0)
    )
    observation, _ = env.reset(seed=0)
    assert observation.dtype == np.float32
    for _ in range(20):
        observation, _, _, _, _ = env.step(np.zeros(1, np.float32))
        assert observation.dtype == np.float32
    assert abs(env.unwrapped.last_u) <= 2  # type: ignore[attr-defined]


def test_noise_on_actions_that_are_no_numbers_is_refused() -> None:
    """Noise on discrete actions is refused, and the message names the alternative."""
    with pytest.raises(EnvironmentFailedError, match="use sticky_actions"):
        environment_maker("CartPole-v1", {}, Perturbation(action_noise=1))()


def test_a_shard_of_another_perturbation_is_not_taken_for_this_one(
    store: DirectoryStore, cartpole: Artifact
) -> None:
    """A key that holds a shard of another perturbation is not reused."""
    event = {
        "action": "evaluate",
        "experiment": "e",
        "run": "r",
        "name": "n",
        "shard": 0,
        "policy": cartpole.model_dump(),
        "env_id": "CartPole-v1",
        "first_seed": 0,
        "n_episodes": 4,
    }
    answer(event, store, lambda: math.inf)
    with pytest.raises(
        InvalidRequestError, match="holds episodes of another policy, environment or seed range"
    ):
        answer({**event, "perturbation": NOISY.model_dump()}, store, lambda: math.inf)
