"""Building the model of a segment: SB3's class, the NumPy path where it covers the spec, or recorded updates where they were asked for."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
)
from stable_baselines3.common.vec_env import VecEnv

from rl_lifecycle.seeds import segment_seed
from rl_trainer.algorithms import load_class
from rl_trainer.errors import BadInputError
from rl_trainer.graphs.captures import Capturer
from rl_trainer.graphs.classes import GRAPH_CLASSES
from rl_trainer.graphs.coverage import why_no_graphs
from rl_trainer.graphs.isolation import ask_child
from rl_trainer.graphs.made_up import unplayable
from rl_trainer.graphs.self_check import why_not_equal
from rl_trainer.numpy_path.classes import NUMPY_CLASSES
from rl_trainer.numpy_path.coverage import why_not_covered
from rl_trainer.replay_sizes import buffer_size
from rl_trainer.settings import Settings


class ModelBuilder:
    """Builds the same untrained model every time.

    :param fast: take the NumPy path where it covers the model; off to compare with stock SB3.
    :param check: called once with environments, before any model is built on such.
    :param capturer: records updates, where they can be; None: nobody asked for that.
    """

    def __init__(
        self,
        settings: Settings,
        device: str = "cpu",
        *,
        fast: bool = True,
        check: Callable[[VecEnv], None] | None = None,
        capturer: Capturer | None = None,
    ) -> None:
        torch.set_num_threads(1)  # sums are taken in another order by another number of threads
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.settings, self.device, self.fast = settings, device, fast
        self._class: Any = None
        self._check = check
        self._capturer = capturer
        self.reason = ""

    @property
    def path(self) -> str:
        """`numpy`, `graphs` or `torch`: what trains. Known once it was chosen."""
        if self._class in GRAPH_CLASSES.values():
            return "graphs"
        return "numpy" if self._class in NUMPY_CLASSES.values() else "torch"

    def choose(self, env: VecEnv) -> None:
        """Choose, once, what trains: building a model to look at draws from the global generators.

        :raises BadInputError: what the check raises.
        """
        if self._class is not None:
            return
        if self._check is not None:
            self._check(env)
        stock = load_class(self.settings.algorithm)
        if (
            self._capturer is not None
        ):  # asked for, so nothing but SB3's own update stands in for it
            self.reason = self._why_no_graphs(stock, env)
            self._class = stock if self.reason else GRAPH_CLASSES[stock]
            return
        numpy_class = NUMPY_CLASSES.get(stock)
        if numpy_class is None or not self.fast:
            self.reason = (
                "switched off" if not self.fast else f"the NumPy path has no {stock.__name__}"
            )
        else:
            self.reason = why_not_covered(looked_at := self._construct(stock, env))
            release(looked_at)
        self._class = stock if self.reason else numpy_class

    def build(self, env: VecEnv, *, with_buffer: bool = True) -> Any:
        """Build a model on an environment.

        :param with_buffer: False: it is given another replay buffer, so its own has room for next to nothing; HER's would take
            memory at once. :raises BadInputError: if SB3 refuses the hyper-parameters.
        """
        self.choose(env)
        if with_buffer or not self.settings.algorithm.keeps_transitions:
            return self._construct(self._class, env)
        model = self._construct(self._class, env, buffer_size=env.num_envs)
        model.buffer_size = buffer_size(self.settings)
        return model

    def _why_no_graphs(self, stock: Any, env: VecEnv) -> str:
        """Say why updates are not recorded: the model is not covered, or a recorded step is not equal to a plain one here."""
        reason = why_no_graphs(looked_at := self._construct(stock, env))
        release(looked_at)
        reason = reason or self._why_not_equal(env)
        return f"no CUDA graphs: {reason}" if reason else ""

    def _why_not_equal(self, env: VecEnv) -> str:
        """Try recorded steps, in a process of their own if a failure could harm this one."""
        if self._capturer is not None and self._capturer.may_do_harm:
            spaces_of = env.observation_space, env.action_space, env.num_envs
            return ask_child(
                _try_recordings, self.settings, self.device, type(self._capturer), *spaces_of
            )
        return self._why_not_equal_here(env)

    def _why_not_equal_here(self, env: VecEnv) -> str:
        reason = why_not_equal(
            tried := self._construct(GRAPH_CLASSES[load_class(self.settings.algorithm)], env)
        )
        release(tried)
        return reason

    def _construct(self, kind: Any, env: VecEnv, **changes: Any) -> Any:
        settings = self.settings
        kwargs = copy.deepcopy(settings.model_kwargs) | changes  # SB3 writes into what it is given
        if settings.noise is not None:
            kwargs["action_noise"] = _noise(*settings.noise, env.action_space)
        try:
            model = kind(settings.policy, env, device=self.device, **kwargs)
        except MemoryError:
            raise
        except (
            Exception
        ) as error:  # SB3 and torch raise a dozen types for arguments that do not fit
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadInputError(
                f"hyperparameters: {settings.algorithm.name} refuses them: {reason}"
            ) from error
        if kind in GRAPH_CLASSES.values():
            model.capturer = self._capturer
        return model


def release(model: Any) -> None:
    """Let go of all that a model holds that is not needed any more: it and what it holds point at each other, so that without this its
    buffers would stay until Python looks for such cycles, beside those of the next ones.
    """
    vars(model).clear()


def _try_recordings(
    settings: Settings, device: str, capturer: Callable[[], Capturer], *spaces_of: Any
) -> str:
    """Build the same model in this process and try recorded steps. :param spaces_of: what :func:`unplayable` takes."""
    return ModelBuilder(settings, device, capturer=capturer())._why_not_equal_here(
        unplayable(*spaces_of)
    )


def seed_generators(trial_seed: int, segment: int, purpose: str = "") -> None:
    """Seed every global generator for a segment.

    :param purpose: tells the seeds of building (initial weights) from those of training.
    """
    random.seed(segment_seed(trial_seed, segment, f"python{purpose}"))
    np.random.seed(segment_seed(trial_seed, segment, f"numpy{purpose}"))
    torch.manual_seed(segment_seed(trial_seed, segment, f"torch{purpose}"))


def _noise(kind: str, std: float, space: spaces.Space[Any]) -> ActionNoise:
    if not isinstance(space, spaces.Box):
        raise BadInputError(f"hyperparameters.noise_type: needs continuous actions, not {space}")
    mean, deviation = np.zeros(space.shape[0]), std * np.ones(space.shape[0])
    return (
        NormalActionNoise(mean, deviation)
        if kind == "normal"
        else OrnsteinUhlenbeckActionNoise(mean, deviation)
    )
