"""The action distributions of PPO and A2C: noise, log-probabilities, entropies and gradients."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_trainer.numpy_path.optimizers import Floats

#: The smallest normal number of float32. It replaces a draw of zero, whose logarithm is infinite.
SMALLEST = np.finfo(np.float32).tiny
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
Array = np.ndarray[Any, Any]


def mean(values: Array) -> float:
    """Return the mean of an array faster than `ndarray.mean`, which spends time on its options.

    Each minibatch calls this several times.
    """
    return float(np.add.reduce(values)) / len(values)


class Evaluated(NamedTuple):
    """The log-probabilities and the mean entropy of a batch, and arrays for the backward pass."""

    log_prob: Floats
    entropy: float
    kept: tuple[Floats, ...]


class ActionDistribution(Protocol):
    """The methods of a distribution that rollouts and updates use.

    Updates use arrays of shape (outputs, rows), because NumPy sums slowly along a short last axis.
    """

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Draw the noise of a whole rollout, of shape (steps, environments, outputs)."""
        ...

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Compute actions from one step's outputs and noise, both of shape (envs, outputs)."""
        ...

    def columns(self, actions: Array) -> Floats:
        """Convert the buffer's actions, of shape (rows, 1 or more), to the form of `evaluate`.

        :return: an array of shape (outputs, rows).
        """
        ...

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Compute log-probabilities and entropy. Both arguments have the shape (outputs, rows)."""
        ...

    def backward(
        self,
        evaluated: Evaluated,
        actions: Floats,
        log_prob_gradient: Floats,
        entropy_gradient: float,
    ) -> Floats:
        """Compute the loss's gradient by the outputs, of shape (outputs, rows).

        :param log_prob_gradient: the loss's gradient by the log-probabilities.
        :param entropy_gradient: the loss's gradient by the mean entropy.
        """
        ...


class Categorical:
    """The distribution of discrete actions. The outputs are logits."""

    def __init__(self, n: int) -> None:
        self.n = n

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Draw Gumbel noise, which is minus the logarithm of exponential noise.

        The index of the largest sum of logit and noise is a draw from the softmax.
        """
        noise = rng.standard_exponential((steps, n_envs, self.n), dtype=np.float32)
        np.maximum(noise, SMALLEST, out=noise)
        np.log(noise, out=noise)
        return np.negative(noise, out=noise)

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Return the index of the largest sum of logit and noise."""
        actions: Array = (outputs + noise).argmax(axis=1)
        return actions

    def columns(self, actions: Array) -> Floats:
        """Return one-hot vectors: 1 for the action that was taken, 0 for the others."""
        one_hot: Floats = (np.arange(self.n)[:, None] == actions[:, 0]).astype(np.float32)
        return one_hot

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Compute log-softmax and entropy."""
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
        self,
        evaluated: Evaluated,
        actions: Floats,
        log_prob_gradient: Floats,
        entropy_gradient: float,
    ) -> Floats:
        """Use the gradients onehot(a) − p of log p(a), and −p (log p + H) of the entropy H."""
        probabilities, logs, entropies = evaluated.kept
        delta: Floats = actions - probabilities
        delta *= log_prob_gradient
        if entropy_gradient:
            logs += entropies
            logs *= probabilities
            logs *= entropy_gradient / len(entropies)
            delta -= logs
        return delta


class DiagonalGaussian:
    """The distribution of continuous actions. The outputs are means.

    The logarithms of the deviations are parameters of the policy, not outputs of the network.
    """

    def __init__(self, log_std: Floats, log_std_gradient: Floats) -> None:
        self.log_std, self.log_std_gradient = log_std, log_std_gradient

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Floats:
        """Draw Gaussian noise times the deviations, which do not change during a rollout."""
        noise = rng.standard_normal((steps, n_envs, len(self.log_std)), dtype=np.float32)
        noise *= np.exp(self.log_std)
        return noise

    def sample(self, outputs: Floats, noise: Floats) -> Array:
        """Return mean plus noise. The environment gets clipped actions, the update does not."""
        actions: Array = outputs + noise
        return actions

    def columns(self, actions: Array) -> Floats:
        """Return the transposed actions."""
        return np.ascontiguousarray(actions.T, np.float32)

    def evaluate(self, outputs: Floats, actions: Floats) -> Evaluated:
        """Compute the Gaussian log-density, summed over the action's dimensions."""
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
        self,
        evaluated: Evaluated,
        _actions: Floats,
        log_prob_gradient: Floats,
        entropy_gradient: float,
    ) -> Floats:
        """Compute the gradient, and write the gradient of the logarithms of the deviations.

        The latter is z² − 1 for the log-probability, and 1 for the entropy.
        """
        scaled, inverse, squares = evaluated.kept
        squares -= 1
        np.dot(squares, log_prob_gradient, out=self.log_std_gradient)
        self.log_std_gradient += entropy_gradient
        scaled *= log_prob_gradient
        scaled *= inverse
        return scaled
