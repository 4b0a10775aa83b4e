"""A policy that was trained under action masks is played under the environment's masks."""

import math
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_evaluator.errors import EnvironmentFailedError, InvalidPolicyError
from rl_evaluator.pages.films import film_episode
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.evaluation import Task, check_fits
from rl_evaluator.playing.perturbations import perturb
from rl_evaluator.playing.policies import Policy, load_policy
from rl_lifecycle.evaluation.policies import METADATA_KEY, PolicyMetadata
from rl_lifecycle.evaluation.requests import EpisodeEnd
from rl_lifecycle.experiment.evaluation_settings import Perturbation
from rl_lifecycle.experiment.wrappers import WrapperForm
from rl_trainer.onnx_export.export import export_policy
from tests.evaluator.environments_for_tests import MaskedEnv

ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi-binary": spaces.MultiBinary(3),
}


def exported(space: spaces.Space[Any], **options: Any) -> tuple[Any, bytes]:
    """Return an untrained MaskablePPO model, and its ONNX file."""
    model = MaskablePPO("MlpPolicy", MaskedEnv(space), seed=0, n_steps=8, batch_size=8)
    policy = export_policy(
        model, {}, algo="maskable_ppo", env_id="Masked-v0", env_kwargs={}, **options
    )
    return model, policy.onnx


@pytest.mark.parametrize("kind", ACTIONS)
def test_returns_are_those_of_sb3_contribs_evaluation(kind: str) -> None:
    """Masked episodes have sb3-contrib's returns, and make no forbidden move, which would raise."""
    space = ACTIONS[kind]
    model, onnx_file = exported(space)
    policy = load_policy(onnx_file)
    episodes = run_episodes(policy, lambda: MaskedEnv(space), range(40))
    expected = []
    for seed in range(6):
        env = DummyVecEnv([lambda: Monitor(MaskedEnv(space))])
        env.seed(seed)
        expected.extend(
            evaluate_policy(model, env, n_eval_episodes=1, return_episode_rewards=True)[0]
        )
    assert [episodes[seed].total for seed in range(6)] == pytest.approx(expected, abs=1e-4)
    assert all(episode.total is not None for episode in episodes.values())


@pytest.mark.parametrize("kind", ACTIONS)
def test_sampled_actions_are_allowed_ones(kind: str) -> None:
    """A stochastic policy draws no forbidden option, and the draw depends on the seed alone."""
    space = ACTIONS[kind]
    policy = load_policy(exported(space)[1])
    together = run_episodes(policy, lambda: MaskedEnv(space), range(40), deterministic=False)
    assert all(episode.total is not None for episode in together.values())
    alone = run_episodes(policy, lambda: MaskedEnv(space), range(33, 34), deterministic=False)
    assert alone[33] == together[33]


class Behind(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that says nothing about masks."""


def test_masks_are_found_through_wrappers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy's wrappers, and those that Gymnasium adds, do not hide the masks."""
    monkeypatch.setattr(gymnasium.wrappers, "Behind", Behind, raising=False)
    space = ACTIONS["discrete"]
    wrappers = (WrapperForm(name="gymnasium.wrappers.Behind"),)
    plain, wrapped = (load_policy(exported(space, wrappers=forms)[1]) for forms in ((), wrappers))
    assert run_episodes(wrapped, lambda: MaskedEnv(space), range(5)) == run_episodes(
        plain, lambda: MaskedEnv(space), range(5)
    )


def test_a_mask_that_allows_nothing_loses_the_episode_and_says_where() -> None:
    """The environment and the step are named; at the end of an episode the mask is not asked."""
    policy = load_policy(exported(spaces.MultiDiscrete([2, 2]))[1])
    episodes = run_episodes(
        policy, lambda: MaskedEnv(spaces.MultiDiscrete([2, 2]), closed_at=3), range(40)
    )
    lost = [episode for episode in episodes.values() if episode.end is EpisodeEnd.LOST]
    assert {episode.problem for episode in lost} == {
        "action_masks() of MaskedEnv allows no option of choice 0 at step 3"
    }
    assert {episode.length for episode in episodes.values()} == {None, 1, 2, 3}
    wrong = run_episodes(policy, lambda: MaskedEnv(spaces.MultiDiscrete([2, 3])), range(1))
    assert wrong[0].problem == (
        "action_masks() of MaskedEnv has 5 values, but the action space needs 4 at step 0"
    )


@pytest.mark.parametrize("kind", ACTIONS)
def test_a_forbidden_action_does_not_stick(kind: str) -> None:
    """A repeated action that is forbidden now is not repeated; the policy's own is taken."""
    policy = load_policy(exported(ACTIONS[kind])[1])
    sticky = Perturbation(sticky_actions=0.7)
    episodes = run_episodes(policy, lambda: perturb(MaskedEnv(ACTIONS[kind]), sticky), range(20))
    assert all(episode.total is not None for episode in episodes.values())


def test_an_allowed_action_sticks() -> None:
    """Under masks that allow everything, as many actions are repeated as without masks."""
    env = perturb(MaskedEnv(spaces.Discrete(1000)), Perturbation(sticky_actions=0.5))
    masked: Any = env.unwrapped
    taken = []
    env.reset(seed=1)
    for number in range(400):
        masked.mask[:] = True
        env.step(np.int64(number))
        taken.append(env.get_wrapper_attr("last_action"))
    assert 120 < len(set(map(int, taken))) < 280


def test_an_environment_without_masks_is_refused(registered: str) -> None:
    """A masked policy is not played where there are no masks."""
    policy = load_policy(exported(spaces.Discrete(2))[1])
    assert policy.metadata.action_masks
    with pytest.raises(EnvironmentFailedError, match=r"has no method action_masks\(\)"):
        check_fits(policy, registered, {})


@pytest.fixture
def registered() -> Any:
    """An environment with the spaces of the masked one, but without its masks."""
    gymnasium.register(
        "Unmasked-v0",
        "tests.evaluator.environments_for_tests:SpacesEnv",
        kwargs={"observation_space": spaces.Box(-1, 1, (3,)), "action_space": spaces.Discrete(2)},
    )
    yield "Unmasked-v0"
    del gymnasium.registry["Unmasked-v0"]


def test_an_old_file_of_a_masked_algorithm_is_refused() -> None:
    """A file without the input for masks would play forbidden moves, so it is refused by name."""
    model = onnx.load_from_string(exported(spaces.Discrete(3))[1])
    (entry,) = [one for one in model.metadata_props if one.key == METADATA_KEY]
    metadata = PolicyMetadata.from_json(entry.value.encode())
    old = metadata.model_copy(update={"action_masks": False})
    entry.value = old.to_json().decode()
    with pytest.raises(InvalidPolicyError, match="maskable_ppo under action masks, but its file"):
        load_policy(model.SerializeToString())


def test_other_policies_ask_for_no_masks() -> None:
    """The masks of an environment do not concern a policy that was trained without them."""
    from tests.evaluator.policy_files import policy_for

    space = spaces.Discrete(2)
    policy: Policy = load_policy(policy_for(MaskedEnv(space)))
    assert "action_masks" not in policy.inputs
    assert not policy.metadata.action_masks


class DrawnEnv(MaskedEnv):
    """Has a renderer."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(ACTIONS["discrete"])
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((8, 8, 3), self.steps, np.uint8)


def test_a_filmed_episode_is_the_judged_one() -> None:
    """The film's episode obeys the masks; a forbidden action would raise an error."""
    if "Drawn-v0" not in gymnasium.registry:
        gymnasium.register("Drawn-v0", DrawnEnv)
    policy = load_policy(exported(ACTIONS["discrete"])[1])
    judged = run_episodes(policy, DrawnEnv, range(3, 4))[3]
    filmed = film_episode(policy, Task("Drawn-v0", {}, 3, 1), judged.length, until=math.inf)
    assert filmed.complete
    assert filmed.webp
    assert filmed.total == judged.total
