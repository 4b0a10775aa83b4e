"""An environment that depends on its process is found before it is trained on."""

from typing import Any

import pytest

from rl_trainer.environments.rehearsal import play_together, why_not_apart
from tests.trainer.chains import TOY
from tests.trainer.environments.odd_envs import ODD
from tests.trainer.environments.processes import make_factory


def reason(env_id: str, env_kwargs: dict[str, Any] | None = None, algo: str = "ppo") -> str:
    """Play an environment together and apart, and return the difference in words."""
    factory = make_factory(env_id, env_kwargs, algo=algo)
    return why_not_apart(factory, 1, play_together(factory, 1))


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "algo"),
    [
        ("CartPole-v1", {}, "ppo"),
        (TOY, {"observation": "dict"}, "ppo"),
        (TOY, {"action": "multi_binary"}, "ppo"),
        ("tests.trainer.training.test_segments:Strict-v0", {}, "maskable_ppo"),
        (ODD, {}, "sac"),
    ],
)
def test_an_environment_with_its_own_generators_may_have_workers(
    env_id: str, env_kwargs: dict[str, Any], algo: str
) -> None:
    """It gives the same bytes in a process of its own. Masks are obeyed."""
    assert reason(env_id, env_kwargs, algo) == ""


@pytest.mark.parametrize(
    ("odd", "generator"),
    [("draw_random", "random"), ("draw_numpy", "numpy.random"), ("draw_torch", "torch")],
)
def test_a_global_generator_is_named(odd: str, generator: str) -> None:
    """Its state has changed, whether or not a number of the environment depends on it."""
    words = reason(ODD, {"odd": odd, "after": 20})
    assert words.startswith(f"{ODD} draws from its process's generator {generator};")


def test_state_that_environments_share_is_found() -> None:
    """The first step that differs is named."""
    words = reason(ODD, {"odd": "share", "after": 10})
    assert words.startswith(f"{ODD} gives other numbers in a process of its own, from step 12 on")


def test_a_slow_environment_is_played_for_a_short_time() -> None:
    """The same number of steps is played together and apart."""
    factory = make_factory(ODD, {"step_s": 0.2})
    played = play_together(factory, 1)
    assert 4 <= len(played.digests) <= 8
    assert 0.2 <= played.step_s < 0.4
    assert why_not_apart(factory, 1, played) == ""
