"""Action masks of Gymnasium environments: check them, and step only with allowed actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_lifecycle.evaluation.action_masks import METHOD, allowed_options, find_mask_problem


def choices_of(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Return the number of options of each choice of an action space; empty if it has none."""
    match space:
        case spaces.Discrete():
            return (int(space.n),)
        case spaces.MultiDiscrete():
            return tuple(int(n) for n in space.nvec.flat)
        case spaces.MultiBinary():
            return (2,) * int(np.prod(space.shape))
    return ()


def mask_problem(mask: Any, space: spaces.Space[Any]) -> str:
    """Say what is wrong with a mask. The answer is empty if nothing is."""
    return find_mask_problem(np.asarray(mask, bool).reshape(-1).tolist(), choices_of(space))


class AllowedActions(gym.Wrapper[Any, Any, Any, Any]):
    """Replaces each forbidden action by an allowed one.

    SB3's checker steps with random actions, and an environment may raise an error for a move that
    is impossible. In training no such move is made.
    """

    def step(self, action: Any) -> Any:
        """Step with the action, or with an allowed one in its place.

        :raises ValueError: if the environment's mask allows nothing.
        """
        mask, space = self.env.get_wrapper_attr(METHOD)(), self.env.action_space
        if problem := mask_problem(mask, space):
            raise ValueError(f"{METHOD}() {problem}")
        options = allowed_options(
            np.asarray(action, np.int64).reshape(-1).tolist(),
            np.asarray(mask, bool).reshape(-1).tolist(),
            choices_of(space),
        )
        if isinstance(space, spaces.Discrete):
            return self.env.step(np.int64(options[0]))
        return self.env.step(np.array(options, space.dtype).reshape(space.shape or ()))
