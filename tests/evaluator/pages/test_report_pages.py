"""The page of a decision: plots, films of the worst episodes, and never a lost verdict because of a
picture.
"""

import base64
import io
import math
import re
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image

from rl_evaluator.dispatch import answer
from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.pages import films, report_pages
from rl_lifecycle.errors import MissingObjectError
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import report_page_key
from rl_lifecycle.storage.object_store import get
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact, store_spec

PLACE = ("cartpole", "night-1", "gate-candidate")


class Decided:
    """A first champion of an environment, evaluated and judged for real."""

    def __init__(self, store: DirectoryStore, env_id: str = "CartPole-v1", **changes: Any) -> None:
        self.store = store
        spec, self.artifact = store_spec(
            store,
            env_id=env_id,
            evaluation={"first_champion_above": 1},
            hyperparameters={"n_steps": 32},
            **changes,
        )
        self.policy = store_artifact(store, "policy.onnx", policy_for_id(env_id))
        self.place = {"experiment": "cartpole", "run": "night-1"}
        answer(
            {
                "action": "evaluate",
                **self.place,
                "name": PLACE[2],
                "shard": 0,
                "policy": self.policy.model_dump(),
                "env_id": env_id,
                "first_seed": spec.gate_first_seed,
                "n_episodes": 80,
            },
            store,
            lambda: math.inf,
        )
        self.decision = answer(
            {
                "action": "decide",
                **self.place,
                "candidate": PLACE[2],
                "champion": None,
                "spec": self.artifact.model_dump(),
            },
            store,
            lambda: math.inf,
        )

    def draw(self, remaining_s: float = math.inf, **changes: Any) -> dict[str, Any]:
        """Ask for the page."""
        return answer(
            {
                "action": "render_report",
                **self.place,
                "candidate": PLACE[2],
                "champion": None,
                "spec": self.artifact.model_dump(),
                "policy": self.policy.model_dump(),
                **changes,
            },
            self.store,
            lambda: remaining_s,
        )

    @property
    def page(self) -> str:
        """The page."""
        return get(self.store, report_page_key(*PLACE)).data.decode()


def pictures(page: str) -> list[Image.Image]:
    """The films that a page embeds."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    ]


def test_the_worst_episodes_are_filmed_and_embedded(store: DirectoryStore) -> None:
    """Three moving pictures of the very episodes, in one file that fetches nothing; asked again, it
    is the same.
    """
    decided = Decided(store)
    said = decided.draw()
    assert (said["films"], said["page"], said["n_bytes"]) == (
        3,
        report_page_key(*PLACE),
        len(decided.page.encode()),
    )
    shown = pictures(decided.page)
    assert len(shown) == 3
    assert all(picture.n_frames > 3 and picture.width == films.WIDTH for picture in shown)  # type: ignore[attr-defined]
    assert "filmed, the episode had" not in decided.page
    assert decided.page.count("<details") == 3
    assert "<h1>PROMOTE: the candidate goes into service</h1>" in decided.page
    before = decided.page
    assert decided.draw(films=0)["films"] is None
    assert decided.page == before


class Blind(CartPoleEnv):
    """Draws nothing."""

    metadata = {"render_modes": []}


class Jammed(CartPoleEnv):
    """Its renderer fails."""

    def render(self) -> Any:
        """Fail."""
        raise RuntimeError("no display")


class Deaf(CartPoleEnv):
    """Knows no render mode."""

    def __init__(self) -> None:
        super().__init__()


class Shaky(CartPoleEnv):
    """Plays otherwise when it is drawn."""

    def step(self, action: Any) -> Any:
        """Give more while somebody looks."""
        observation, reward, *rest = super().step(action)
        return observation, reward + (self.render_mode is not None), *rest


@pytest.mark.filterwarnings(
    "ignore:.*render_mode"
)  # Gymnasium's own words for the environments below
@pytest.mark.parametrize(
    ("environment", "n_films", "said"),
    [
        (Blind, 0, "the environment draws no pictures"),
        (Jammed, 0, "its renderer failed: RuntimeError: no display"),
        (Deaf, 0, "it cannot be made with a renderer"),
        (Shaky, 3, "drawing changes what this environment does"),
    ],
)
def test_an_environment_that_cannot_be_shown_has_a_page_that_says_so(
    store: DirectoryStore, environment: Any, n_films: int, said: str
) -> None:
    """The verdict and the plots are there all the same."""
    gymnasium.register("Filmed-v0", entry_point=environment, max_episode_steps=50)
    try:
        decided = Decided(store, "Filmed-v0")
        assert decided.draw()["films"] == n_films
    finally:
        del gymnasium.registry["Filmed-v0"]
    assert said in decided.page
    assert "<svg" in decided.page


@pytest.mark.parametrize(
    ("remaining_s", "said"),
    [(1.0, "no time was left"), (report_pages.RESERVE_S - 1, "no time was left")],
)
def test_films_stay_within_the_invocation(
    store: DirectoryStore, remaining_s: float, said: str
) -> None:
    """A Lambda that is nearly over writes the page without them."""
    decided = Decided(store)
    assert decided.draw(remaining_s)["films"] <= 3
    assert said in decided.page or "the film ends before the episode does" in decided.page


def test_a_film_that_is_too_big_is_left_out(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page must open on a phone."""
    monkeypatch.setattr(films, "MOST_BYTES", 500)
    decided = Decided(store)
    assert decided.draw()["films"] == 0
    assert "bytes; a page may hold at most 500" in decided.page


def test_a_policy_that_is_gone_costs_the_films_alone(store: DirectoryStore) -> None:
    """The page tells that there are none."""
    decided = Decided(store)
    store.delete(decided.policy.key)
    assert decided.draw()["films"] == 0
    assert "no films: MissingObjectError" in decided.page


def test_another_policy_is_not_filmed_in_its_place(store: DirectoryStore) -> None:
    """What is shown is what was judged."""
    decided = Decided(store)
    decided.policy = Artifact(key=decided.policy.key, sha256="0" * 64)
    with pytest.raises(InvalidRequestError, match="is not the policy that was judged"):
        decided.draw()


def test_without_a_decision_there_is_no_page(store: DirectoryStore) -> None:
    """The report comes first, then its page."""
    spec, artifact = store_spec(store)
    event = {
        "action": "render_report",
        "experiment": "cartpole",
        "run": spec.run,
        "candidate": "gate-candidate",
        "champion": None,
        "spec": artifact.model_dump(),
        "policy": artifact.model_dump(),
    }
    with pytest.raises(MissingObjectError, match=r"report\.json does not exist"):
        answer(event, store, lambda: math.inf)
