"""Build the model of a segment: SB3's class, or the NumPy path if it covers the spec."""

import copy
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

from rl_trainer.errors import BadInputError
from rl_trainer.numpy_path.classes import NUMPY_CLASSES
from rl_trainer.numpy_path.coverage import why_not_covered
from rl_trainer.settings.algorithm_classes import load_class
from rl_trainer.settings.model_settings import ModelSettings
from rl_trainer.settings.replay_sizes import buffer_size


class ModelBuilder:
    """Builds the same untrained model every time.

    :param fast: True uses the NumPy path if it covers the model. False means stock SB3.
    :param why_not_fast: the reason in the log if `fast` is False.
    :param check: called once with environments, before the first model is built.
    """

    def __init__(
        self,
        settings: ModelSettings,
        device: str = "cpu",
        *,
        fast: bool = True,
        why_not_fast: str = "switched off",
        check: Callable[[VecEnv], None] | None = None,
    ) -> None:
        torch.set_num_threads(1)  # the number of threads changes the order of sums
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.settings, self.device, self.fast = settings, device, fast
        self._class: Any = None
        self._check, self._why_not_fast = check, why_not_fast
        self.reason = ""

    @property
    def path(self) -> str:
        """The implementation that trains: `numpy` or `torch`. Valid after :meth:`choose`."""
        return "numpy" if self._class in NUMPY_CLASSES.values() else "torch"

    def choose(self, env: VecEnv) -> None:
        """Choose once which implementation trains.

        The choice may build a model for inspection, which draws from the global generators.

        :raises BadInputError: if the check raises it.
        """
        if self._class is not None:
            return
        if self._check is not None:
            self._check(env)
        stock = load_class(self.settings.algorithm)
        numpy_class = NUMPY_CLASSES.get(stock)
        if numpy_class is None or not self.fast:
            self.reason = (
                self._why_not_fast if not self.fast else f"the NumPy path has no {stock.__name__}"
            )
        else:
            self.reason = why_not_covered(looked_at := self._construct(stock, env))
            release(looked_at)
        self._class = stock if self.reason else numpy_class

    def build(self, env: VecEnv, *, with_buffer: bool = True) -> Any:
        """Build a model on an environment.

        :param with_buffer: False if the model gets another replay buffer afterwards. Its own buffer
            is then very small, because a large HER buffer would take memory at once.
        :raises BadInputError: if SB3 refuses the hyper-parameters.
        """
        self.choose(env)
        if with_buffer or not self.settings.algorithm.keeps_transitions:
            return self._construct(self._class, env)
        model = self._construct(self._class, env, buffer_size=env.num_envs)
        model.buffer_size = buffer_size(self.settings)
        return model

    def build_collector(self, env: VecEnv) -> Any:
        """Build a model on the environments of a shard. It collects on the CPU and never trains.

        Its minibatch is its whole rollout, which is smaller than the learner's.
        """
        self.choose(env)
        known = self.settings.algorithm.settings
        n_steps = self.settings.model_kwargs.get("n_steps", known["n_steps"])
        changes = {"batch_size": n_steps * env.num_envs, "normalize_advantage": False}
        changes = {key: value for key, value in changes.items() if key in known}
        return self._construct(self._class, env, device="cpu", **changes)

    def _construct(self, kind: Any, env: VecEnv, **changes: Any) -> Any:
        settings = self.settings
        # SB3 changes its arguments.
        kwargs = {"device": self.device, **copy.deepcopy(settings.model_kwargs), **changes}
        if settings.noise is not None:
            kwargs["action_noise"] = _noise(*settings.noise, env.action_space)
        try:
            return kind(settings.policy, env, **kwargs)
        except MemoryError:
            raise
        except Exception as error:  # SB3 and torch raise many types for arguments they refuse
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadInputError(
                f"hyperparameters: {settings.algorithm.name} refuses them: {reason}"
            ) from error


def release(model: Any) -> None:
    """Free everything that a model holds.

    A model and its parts refer to each other. Without this function, its buffers would stay in
    memory beside those of the next models until Python's garbage collector finds the cycle.
    """
    vars(model).clear()


def _noise(kind: str, std: float, space: spaces.Space[Any]) -> ActionNoise:
    if not isinstance(space, spaces.Box):
        raise BadInputError(f"hyperparameters.noise_type: needs continuous actions, not {space}")
    mean, deviation = np.zeros(space.shape), std * np.ones(space.shape)
    return (
        NormalActionNoise(mean, deviation)
        if kind == "normal"
        else OrnsteinUhlenbeckActionNoise(mean, deviation)
    )
