"""A short video of a trial's last policy: one episode as a person would see it, an animated WebP of at most a megabyte.

It is made in a process of its own, from the exported policy: a renderer that hangs or dies must not cost a training. Whatever
goes wrong there is a line in the log and no more.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rl_lifecycle.policies import ACTION, OBSERVATION, STATE_IN, STATE_OUT
from rl_lifecycle.wrappers import WrapperForm
from rl_trainer.wrappers import wrap_all

#: How long a video may take, start of the process included.
LIMIT_S = 30.0
#: How long drawing may take, of that.
DRAWING_S = 8.0
#: Frames at most, their width in pixels, and how many steps an episode is filmed.
MOST_FRAMES, WIDTH, MOST_STEPS = 120, 300, 1_000
QUALITIES, MOST_BYTES = (45, 15), 1_000_000
DEFAULT_FPS = 30


class CannotFilmError(Exception):
    """There will be no video; the message says why."""


def film(
    onnx_policy: bytes,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    wrappers: Sequence[WrapperForm],
    seed: int,
) -> bytes:
    """Let another process play one episode and film it.

    :return: the WebP. :raises CannotFilmError: if the environment draws nothing, or its renderer fails or is too slow.
    """
    with tempfile.TemporaryDirectory(prefix="rl-trainer-video-") as folder:
        policy, out = Path(folder, "policy.onnx"), Path(folder, "video.webp")
        policy.write_bytes(onnx_policy)
        request = {
            "policy": str(policy),
            "out": str(out),
            "env_id": env_id,
            "env_kwargs": dict(env_kwargs),
            "seed": seed,
            "wrappers": [[wrapper.name, wrapper.kwargs] for wrapper in wrappers],
        }
        silent = {
            "SDL_VIDEODRIVER": "dummy",
            "SDL_AUDIODRIVER": "dummy",
            "MUJOCO_GL": "egl",
        }  # no screen is looked for
        environment = (
            silent | dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        )
        try:
            done = subprocess.run(
                [sys.executable, "-m", "rl_trainer.videos"],
                input=json.dumps(request, default=float),
                text=True,
                capture_output=True,
                timeout=LIMIT_S,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CannotFilmError(f"filming took longer than {LIMIT_S:.0f} s") from None
        except (OSError, TypeError) as error:
            raise CannotFilmError(str(error)) from error
        if done.returncode or not out.is_file():
            raise CannotFilmError(
                (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[
                    -1
                ][:200]
            )
        return out.read_bytes()


def main() -> int:
    """Film what stdin asks for. :return: 0, or 1 after a line on stderr."""
    request = json.load(sys.stdin)
    wrappers = [WrapperForm(name=name, kwargs=kwargs) for name, kwargs in request["wrappers"]]
    try:
        frames, fps = _film(
            Path(request["policy"]).read_bytes(), _make(request, wrappers), request["seed"]
        )
        Path(request["out"]).write_bytes(_encode(frames, fps))
    except Exception as error:  # an environment, or a renderer, may raise anything
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)  # noqa: T201  read by the parent
        return 1
    return 0


def _make(request: Mapping[str, Any], wrappers: Sequence[WrapperForm]) -> Any:
    import gymnasium as gym

    env_id, kwargs = request["env_id"], dict(request["env_kwargs"])
    blind = gym.make(
        env_id, disable_env_checker=True, **kwargs
    )  # one that draws nothing may not know the argument
    blind.close()
    if "rgb_array" not in (blind.metadata.get("render_modes") or ()):
        raise CannotFilmError("the environment draws no pictures")
    return wrap_all(
        gym.make(env_id, disable_env_checker=True, **{**kwargs, "render_mode": "rgb_array"}),
        wrappers,
        env_id,
    )


def _film(onnx_policy: bytes, env: Any, seed: int) -> tuple[list[Any], float]:
    """Play an episode to see how long it is, then once more with a camera. :return: pictures, and how many a second they are."""
    length = sum(1 for _ in _play(onnx_policy, env, seed))
    every = max(1, -(-length // _affordable_frames(env)))
    pictures = [
        env.render()
        for step in _play(onnx_policy, env, seed)
        if step % every == 0 or step == length - 1
    ]
    return pictures, (env.metadata.get("render_fps") or DEFAULT_FPS) / every


def _affordable_frames(env: Any) -> int:
    """How many pictures there is time for: without a graphics card, MuJoCo's take long."""
    env.render()  # opens what it draws on
    started = time.perf_counter()
    env.render()
    return max(2, min(MOST_FRAMES, int(DRAWING_S / max(time.perf_counter() - started, 1e-6))))


def _play(onnx_policy: bytes, env: Any, seed: int) -> Iterator[int]:
    """One episode with the deterministic actions; yields before each step, and after the last one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_policy, providers=["CPUExecutionProvider"])
    state = {
        node.name: np.zeros((1, *node.shape[1:]), np.float32)
        for node in session.get_inputs()
        if node.name == STATE_IN
    }
    types = {node.name: _TYPES[node.type] for node in session.get_inputs()}
    observation, _ = env.reset(seed=seed)
    for step in range(MOST_STEPS):
        yield step
        named = observation if isinstance(observation, Mapping) else {OBSERVATION: observation}
        feeds = {name: np.asarray(value, types[name])[None] for name, value in named.items()}
        action, *states = session.run([ACTION, *([STATE_OUT] if state else [])], feeds | state)
        state = dict.fromkeys(state, states[0]) if states else {}
        observation, _, terminated, truncated, _ = env.step(action[0])
        if terminated or truncated:
            yield step + 1
            return


_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    **{
        f"tensor({name})": np.dtype(name).type
        for name in ("uint8", "int8", "uint16", "int16", "int32", "int64")
    },
    "tensor(bool)": np.bool_,
}


def _encode(frames: Sequence[Any], fps: float) -> bytes:
    from PIL import Image

    pictures = [Image.fromarray(np.asarray(frame)).convert("RGB") for frame in frames]
    height = max(1, round(pictures[0].height * WIDTH / pictures[0].width))
    first, *others = [picture.resize((WIDTH, height)) for picture in pictures]
    for quality in QUALITIES:
        buffer = io.BytesIO()
        first.save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=max(20, round(1000 / fps)),
            loop=0,
            quality=quality,
            method=0,
        )
        if buffer.tell() <= MOST_BYTES:
            return buffer.getvalue()
    raise CannotFilmError(f"the video has {buffer.tell()} bytes, more than {MOST_BYTES}")


if __name__ == "__main__":
    sys.exit(main())
