"""A video of the candidate where the environment renders; where it does not, a line in the log and no failure."""

import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from rl_lifecycle.evidence import Patience
from rl_lifecycle.wrappers import WrapperForm
from rl_trainer import videos
from rl_trainer.model_state import final_parameters
from rl_trainer.onnx_export.export import export_policy, raw_space
from rl_trainer.videos import CannotFilmError, film
from tests.trainer.chains import TOY, make_trainer, train_chain
from tests.trainer.conftest import TINY_PPO, Trainer, json_of
from tests.trainer.test_algorithms import CASES
from tests.trainer.toy_envs import LENGTH, ToyEnv


class DrawnEnv(ToyEnv):
    """Draws its signal as a grey picture."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.render_mode = render_mode

    def render(self) -> Any:
        """One colour."""
        return np.full((20, 30, 3), int(127 + 100 * self._signal), np.uint8)


gym.register("Drawn-v0", f"{__name__}:DrawnEnv", max_episode_steps=LENGTH)
DRAWN = f"{__name__}:Drawn-v0"


def test_an_episode_is_filmed_by_another_process(
    tmp_path: Path, trainer: Trainer, write_spec: Any
) -> None:
    """`--video` leaves an animated WebP of at most 300 pixels beside the curves, and the log names it."""
    store = tmp_path / "store"
    json_of(
        trainer(
            "train",
            "--spec",
            str(write_spec(TINY_PPO)),
            "--store",
            str(store),
            "--json",
            "--quiet",
            "--video",
        )
    )
    picture = Image.open(store / "metrics/tiny/test/seed-0/000000006144.webp")
    assert (picture.format, picture.width, getattr(picture, "n_frames", 1) > 5) == (
        "WEBP",
        300,
        True,
    )
    log = [
        json.loads(line)
        for line in (store / "logs/tiny/test/seed-0/0001/trainer.jsonl").read_text().splitlines()
    ]
    assert log[-1]["event"] == "video"


@pytest.mark.parametrize("name", ["ppo_lstm", "ppo-frames", "ppo-dict"])
def test_policies_that_remember_and_dictionaries_are_filmed(name: str) -> None:
    """The film is of the whole episode that the policy plays, wrappers included."""
    algo, hyperparameters, env_kwargs = CASES[name]
    trained = train_chain(
        make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, total=200), through_files=False
    )
    space, stack = raw_space(trained.model.env)
    policy = export_policy(
        trained.model,
        final_parameters(trained.state),
        algo=algo,
        env_id=TOY,
        env_kwargs={},
        observation_space=space,
        stack=stack,
        statistics=trained.model.get_vec_normalize_env(),
    ).onnx
    wrapper = WrapperForm(name="gymnasium.wrappers.TimeLimit", kwargs={"max_episode_steps": 7})
    env = videos._make({"env_id": DRAWN, "env_kwargs": env_kwargs}, [wrapper])
    pictures, fps = videos._film(policy, env, seed=3)
    assert (2 <= len(pictures) <= 8, fps) == (True, 10)
    Image.open(io.BytesIO(videos._encode(pictures, fps))).verify()


def test_what_cannot_be_filmed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that draws nothing, one that is not there, and a renderer that takes too long."""
    with pytest.raises(CannotFilmError, match="draws no pictures"):
        film(b"", TOY, {}, [], seed=1)
    with pytest.raises(CannotFilmError, match="NoSuchEnv"):
        film(b"", "NoSuchEnv-v0", {}, [], seed=1)
    monkeypatch.setattr(videos, "LIMIT_S", 0.01)
    with pytest.raises(CannotFilmError, match="longer than"):
        film(b"", TOY, {}, [], seed=1)


def test_a_film_has_the_time_that_a_finished_machine_is_given() -> None:
    """Otherwise whoever waits for the trial would end the machine while it draws."""
    assert Patience().farewell_s > videos.LIMIT_S
