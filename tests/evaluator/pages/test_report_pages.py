"""The report page shows plots and films; a failing film never loses the verdict."""

import base64
import io
import math
import re
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image

from rl_evaluator.errors import InvalidRequestError
from rl_evaluator.pages import film_requests, films
from rl_lifecycle.errors import MissingObjectError
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import report_page_key
from rl_lifecycle.storage.object_store import get
from tests.evaluator.one_process import answer
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact, store_spec

PLACE = ("cartpole", "night-1", "gate-candidate")


class Decided:
    """A first champion of an environment, with real evaluations and a real verdict."""

    def __init__(self, store: DirectoryStore, env_id: str = "CartPole-v1", **changes: Any) -> None:
        self.store = store
        spec, self.artifact = store_spec(
            store,
            env_id=env_id,
            evaluation={"first_champion_above": 1},
            hyperparameters={"n_steps": 32, "batch_size": 32},
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
        """Request the page."""
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
        """Read the page."""
        return get(self.store, report_page_key(*PLACE)).data.decode()


def pictures(page: str) -> list[Image.Image]:
    """List the films that a page embeds."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    ]


def test_the_worst_episodes_are_filmed_and_embedded(store: DirectoryStore) -> None:
    """The page embeds films of the three worst episodes, loads nothing, and is repeatable."""
    decided = Decided(store)
    result = decided.draw()
    assert (result["films"], result["page"], result["n_bytes"]) == (
        3,
        report_page_key(*PLACE),
        len(decided.page.encode()),
    )
    shown = pictures(decided.page)
    assert len(shown) == 3
    assert all(picture.n_frames > 3 and picture.width == films.WIDTH for picture in shown)  # type: ignore[attr-defined]
    assert "filmed, the episode had" not in decided.page
    assert decided.page.count("<details") == 3
    assert "a policy that was imported" in decided.page
    assert "<td>none yet</td>" in decided.page
    assert "<h1>PROMOTE: the candidate goes into service</h1>" in decided.page
    before = decided.page
    assert decided.draw(films=0)["films"] is None
    assert decided.page == before


class Blind(CartPoleEnv):
    """An environment that renders no frame."""

    metadata = {"render_modes": []}


class Jammed(CartPoleEnv):
    """An environment whose renderer raises."""

    def render(self) -> Any:
        """Fail."""
        raise RuntimeError("no display")


class Deaf(CartPoleEnv):
    """An environment without a render mode."""

    def __init__(self) -> None:
        super().__init__()


class Shaky(CartPoleEnv):
    """An environment that behaves differently while it is rendered."""

    def step(self, action: Any) -> Any:
        """Give a larger reward while rendering."""
        observation, reward, *rest = super().step(action)
        return observation, reward + (self.render_mode is not None), *rest


# Gymnasium warns about the render modes of the environments below.
@pytest.mark.filterwarnings("ignore:.*render_mode")
@pytest.mark.parametrize(
    ("environment", "n_films", "message"),
    [
        (Blind, 0, "the environment draws no pictures"),
        (Jammed, 0, "its renderer failed: RuntimeError: no display"),
        (Deaf, 0, "it cannot be made with a renderer"),
        (Shaky, 3, "drawing changes what this environment does"),
    ],
)
def test_an_environment_that_cannot_be_shown_has_a_page_that_says_so(
    store: DirectoryStore, environment: Any, n_films: int, message: str
) -> None:
    """Without films, the page still has the verdict, the plots and the reason."""
    gymnasium.register("Filmed-v0", entry_point=environment, max_episode_steps=50)
    try:
        decided = Decided(store, "Filmed-v0")
        assert decided.draw()["films"] == n_films
    finally:
        del gymnasium.registry["Filmed-v0"]
    assert message in decided.page
    assert "<svg" in decided.page


@pytest.mark.parametrize(
    ("remaining_s", "message"),
    [(1.0, "no time was left"), (film_requests.RESERVE_S - 1, "no time was left")],
)
def test_films_stay_within_the_invocation(
    store: DirectoryStore, remaining_s: float, message: str
) -> None:
    """A Lambda with little time left writes the page without films."""
    decided = Decided(store)
    assert decided.draw(remaining_s)["films"] <= 3
    assert message in decided.page or "the film ends before the episode does" in decided.page


def test_a_film_that_is_too_big_is_left_out(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film above the size limit is left out, so that the page opens on a phone."""
    monkeypatch.setattr(films, "MOST_BYTES", 500)
    decided = Decided(store)
    assert decided.draw()["films"] == 0
    assert "bytes; a page may hold at most 500" in decided.page


def test_a_missing_policy_leaves_out_the_films_only(store: DirectoryStore) -> None:
    """Without the policy, the page has no films and says so."""
    decided = Decided(store)
    store.delete(decided.policy.key)
    assert decided.draw()["films"] == 0
    assert "no films: MissingObjectError" in decided.page


def test_another_policy_is_not_filmed_in_its_place(store: DirectoryStore) -> None:
    """A policy with another digest is not filmed."""
    decided = Decided(store)
    decided.policy = Artifact(key=decided.policy.key, sha256="0" * 64)
    with pytest.raises(InvalidRequestError, match="is not the policy that was judged"):
        decided.draw()


def test_without_a_decision_there_is_no_page(store: DirectoryStore) -> None:
    """A page is written only after its report."""
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
    with pytest.raises(MissingObjectError, match=r"gate-candidate\.json does not exist"):
        answer(event, store, lambda: math.inf)
