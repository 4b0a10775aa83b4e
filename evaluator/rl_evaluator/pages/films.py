"""Play an episode again and film it as an animated WebP, small enough for a page.

Only this module imports Pillow and the environment's renderer, so that no evaluation waits for
them.
"""

import io
import math
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium

from rl_evaluator.errors import FOREIGN_ERRORS, EnvironmentFailedError, first_line
from rl_evaluator.playing.environments import Env, close_environment, make_environment
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.evaluation import Task
from rl_evaluator.playing.policies import Policy

#: A film's greatest number of frames, its width in pixels, and its greatest size in bytes.
MOST_FRAMES, WIDTH, MOST_BYTES = 120, 300, 1_000_000
#: WebP's lossy quality; the second is used when the first gives too many bytes.
QUALITIES = (45, 15)
#: Frames per second of an environment that does not define `render_fps`.
DEFAULT_FPS = 30


class FilmedEpisode(NamedTuple):
    """The film of one episode, and the return that the episode had while it was filmed."""

    seed: int
    webp: bytes
    total: float | None
    complete: bool


class CannotFilmError(Exception):
    """An episode cannot be filmed. The message gives the reason in a few words."""


def film_episode(
    policy: Policy,
    task: Task,
    length: int | None,
    *,
    until: float,
    clock: Callable[[], float] = time.monotonic,
) -> FilmedEpisode:
    """Play the task's first seed once more, and film the episode.

    :param length: number of steps of the judged episode, by which the frames are spread; None if
        unknown.
    :param until: time on `clock` at which filming stops; the frames until then are kept.
    :raises CannotFilmError: if the environment draws no pictures, its renderer fails, or the film
        is too big.
    """
    # pygame must not look for a screen or a loudspeaker.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

    camera = _open(task, max(1, math.ceil((length or 1000) / MOST_FRAMES)))
    try:
        episode = run_episodes(
            policy,
            lambda: camera,
            range(task.first_seed, task.first_seed + 1),
            deterministic=task.deterministic,
            keep_going=lambda: clock() < until,
        ).get(task.first_seed)
        if camera.problem or not camera.frames:
            raise CannotFilmError(camera.problem or "no time was left")
        webp = _encode(camera.frames, camera.milliseconds)
    finally:
        close_environment(camera)
    return FilmedEpisode(
        task.first_seed, webp, episode.total if episode else None, episode is not None
    )


class _Camera(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes a picture at every n-th step. A failing renderer stops the camera, not the episode."""

    def __init__(self, env: Env, every: int) -> None:
        super().__init__(env)
        self.every, self.step_count = every, 0
        self.frames: list[Any] = []
        self.problem = ""
        fps = env.metadata.get("render_fps") or DEFAULT_FPS
        self.milliseconds = max(20, round(1000 * every / fps))

    def reset(self, **arguments: Any) -> Any:
        """Begin an episode, and take the first picture."""
        answer = self.env.reset(**arguments)
        self._shoot()
        return answer

    def step(self, action: Any) -> Any:
        """Step, and take a picture at every n-th step and at the episode's end."""
        answer = self.env.step(action)
        self.step_count += 1
        if self.step_count % self.every == 0 or answer[2] or answer[3]:
            self._shoot()
        return answer

    def _shoot(self) -> None:
        if self.problem or len(self.frames) > 2 * MOST_FRAMES:
            return
        try:
            from PIL import Image

            drawn: Any = self.env.render()
            picture = Image.fromarray(drawn).convert("RGB")
            height = max(1, round(picture.height * WIDTH / picture.width))
            self.frames.append(picture.resize((WIDTH, height)))
        except FOREIGN_ERRORS as error:
            self.problem = f"its renderer failed: {first_line(error)}"


def _open(task: Task, every: int) -> _Camera:
    try:
        env = make_environment(task.env_id, {**task.env_kwargs, "render_mode": "rgb_array"})
    except EnvironmentFailedError as error:
        raise CannotFilmError(f"it cannot be made with a renderer: {error}") from None
    if "rgb_array" not in (env.metadata.get("render_modes") or ()):
        close_environment(env)
        raise CannotFilmError("the environment draws no pictures")
    return _Camera(env, every)


def _encode(frames: list[Any], milliseconds: int) -> bytes:
    for quality in QUALITIES:
        buffer = io.BytesIO()
        frames[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
            quality=quality,
            method=0,
        )
        if buffer.tell() <= MOST_BYTES:
            return buffer.getvalue()
    raise CannotFilmError(
        f"its film has {buffer.tell():,} bytes; a page may hold at most {MOST_BYTES:,}"
    )
