"""The two action distributions: sampling noise, log-probabilities, entropies, and their gradients
by hand.
"""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_trainer.numpy_path.optimizers import Floats

#: Of float32's normal numbers. An exponential draw may be zero, whose logarithm is infinite.
SMALLEST = np.finfo(np.float32).tiny
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
Array = np.ndarray[Any, Any]


def mean(values: Array) -> float:
    """The mean of a row, without what `ndarray.mean` spends on options: it is called several times
    a minibatch.
    """
    return float(np.add.reduce(values)) / len(values)


class Evaluated(NamedTuple):
    """Log-probabilities and mean entropy of a batch, and what the backward pass needs again."""

    log_prob: Floats
    entropy: float
    kept: tuple[Floats, ...]


class ActionDistribution(Protocol):
    """What rollout and update need of a distribution.

    An update looks at columns: arrays have a row for each of the policy network's outputs, and a
    column for each row of the rollout, because sums over few neighbours are slow.
    """

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Draw the noise of a whole rollout: (steps, environments, outputs)."""
        ...

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Turn one step's outputs and noise, both (environments, outputs), into actions."""
        ...

    def columns(self, actions: Array) -> Floats:
        """Actions as the buffer holds them, (rows, 1 or more), in the form in which
        :meth:`evaluate` takes them: (outputs, rows).
        """
        ...

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Log-probabilities of actions, and the entropy. Both arguments are (outputs, rows)."""
        ...

    def backward(
        self, evaluated: Evaluated, actions: Floats, by_log_prob: Floats, by_entropy: float
    ) -> Floats:
        """Give the loss's gradient with respect to the outputs, from those with respect to
        log-probabilities and entropy.
        """
        ...


class Categorical:
    """Discrete actions: the outputs are logits."""

    def __init__(self, n: int) -> None:
        self.n = n

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Gumbel noise, minus the logarithm of exponential noise: the largest of logits plus noise
        is a draw from the softmax.
        """
        noise = rng.standard_exponential((steps, n_envs, self.n), dtype=np.float32)
        np.maximum(noise, SMALLEST, out=noise)
        np.log(noise, out=noise)
        return np.negative(noise, out=noise)

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Draw actions."""
        actions: Array = (outputs + noise).argmax(axis=1)
        return actions

    def columns(self, actions: Array) -> Floats:
        """A one for the action that was taken, zeros for the others."""
        taken: Floats = (np.arange(self.n)[:, None] == actions[:, 0]).astype(np.float32)
        return taken

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Log-softmax."""
        logs = outputs - np.maximum.reduce(outputs, axis=0)
        probabilities = np.exp(logs)
        sums = np.add.reduce(probabilities, axis=0)
        probabilities /= sums
        logs -= np.log(sums)
        entropies = np.add.reduce(probabilities * logs, axis=0)
        np.negative(entropies, out=entropies)
        log_prob: Floats = np.add.reduce(logs * actions, axis=0)
        return Evaluated(log_prob, mean(entropies), (probabilities, logs, entropies))

    def backward(
        self, evaluated: Evaluated, actions: Floats, by_log_prob: Floats, by_entropy: float
    ) -> Floats:
        """The gradient of log p(a) is onehot(a) − p; that of the entropy is −p (log p + H)."""
        probabilities, logs, entropies = evaluated.kept
        delta: Floats = actions - probabilities
        delta *= by_log_prob
        if by_entropy:
            logs += entropies
            logs *= probabilities
            logs *= by_entropy / len(entropies)
            delta -= logs
        return delta


class DiagonalGaussian:
    """Continuous actions: the outputs are means, the logarithms of the deviations are parameters of
    their own.
    """

    def __init__(self, log_std: Floats, log_std_gradient: Floats) -> None:
        self.log_std, self.log_std_gradient = log_std, log_std_gradient

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Gaussian noise, scaled already: the deviations stay as they are during a rollout."""
        noise = rng.standard_normal((steps, n_envs, len(self.log_std)), dtype=np.float32)
        noise *= np.exp(self.log_std)
        return noise

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Draw actions; the environment gets them clipped, the update does not."""
        actions: Array = outputs + noise
        return actions

    def columns(self, actions: Array) -> Floats:
        """The actions, transposed."""
        return np.ascontiguousarray(actions.T, np.float32)

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Gaussian log-density, summed over the action's dimensions."""
        inverse = np.exp(-self.log_std)[:, None]
        scaled = actions - outputs
        scaled *= inverse
        squares = scaled * scaled
        log_prob: Floats = (
            np.add.reduce(squares, axis=0) if len(self.log_std) > 1 else squares[0].copy()
        )
        constant = float(np.add.reduce(self.log_std)) + HALF_LOG_2_PI * len(self.log_std)
        log_prob *= -0.5
        log_prob -= constant
        return Evaluated(log_prob, constant + 0.5 * len(self.log_std), (scaled, inverse, squares))

    def backward(
        self, evaluated: Evaluated, _actions: Floats, by_log_prob: Floats, by_entropy: float
    ) -> Floats:
        """Also writes the gradient of the deviations: z² − 1 by log-probability, 1 by entropy."""
        scaled, inverse, squares = evaluated.kept
        squares -= 1
        np.dot(squares, by_log_prob, out=self.log_std_gradient)
        self.log_std_gradient += by_entropy
        scaled *= by_log_prob
        scaled *= inverse
        return scaled
