"""The two action distributions: sampling noise, log-probabilities, entropies, and their gradients by hand."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from rl_trainer.numpy_path.optimizers import Floats

HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
Array = np.ndarray[Any, Any]


def mean(values: Array) -> float:
    """The mean of a row, without what `ndarray.mean` spends on options: it is called several times a minibatch."""
    return float(np.add.reduce(values)) / len(values)


class Evaluated(NamedTuple):
    """Log-probabilities and mean entropy of a batch, and what the backward pass needs again."""

    log_prob: Floats
    entropy: float
    kept: tuple[Array, ...]


class ActionDistribution(Protocol):
    """What rollout and update need of a distribution. `outputs` are those of the policy network."""

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Array:
        """Draw the noise of a whole rollout."""
        ...

    def sample(self, outputs: Floats, noise: Array) -> Array:
        """Turn one step's outputs and noise into actions."""
        ...

    def evaluate(self, outputs: Floats, actions: Array) -> Evaluated:
        """Log-probabilities of actions, and the entropy; `outputs` may be overwritten."""
        ...

    def backward(self, evaluated: Evaluated, actions: Array, by_log_prob: Floats, by_entropy: float) -> Floats:
        """Give the loss's gradient with respect to the outputs, from those with respect to log-probabilities and entropy."""
        ...


class Categorical:
    """Discrete actions: the outputs are logits."""

    def __init__(self, n: int) -> None:
        self.n = n

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Array:
        """Gumbel noise: the largest of logits plus noise is a draw from the softmax."""
        return rng.gumbel(size=(steps, n_envs, self.n)).astype(np.float32)

    def sample(self, outputs: Floats, noise: Array) -> Array:
        """Draw actions."""
        actions: Array = (outputs + noise).argmax(axis=1)
        return actions

    def evaluate(self, outputs: Floats, actions: Array) -> Evaluated:
        """Log-softmax, one row an action: sums over a few neighbours are slow."""
        logs = np.ascontiguousarray(outputs.T)
        logs -= np.maximum.reduce(logs, axis=0)
        probabilities = np.exp(logs)
        sums = np.add.reduce(probabilities, axis=0)
        probabilities /= sums
        logs -= np.log(sums)
        rows = np.arange(len(outputs))
        entropies = -np.add.reduce(probabilities * logs, axis=0)
        return Evaluated(logs[actions, rows], mean(entropies), (probabilities, logs, entropies, rows))

    def backward(self, evaluated: Evaluated, actions: Array, by_log_prob: Floats, by_entropy: float) -> Floats:
        """The gradient of log p(a) is onehot(a) − p; that of the entropy is −p (log p + H)."""
        probabilities, logs, entropies, rows = evaluated.kept
        delta: Floats = probabilities * -by_log_prob
        delta[actions, rows] += by_log_prob
        if by_entropy:
            delta -= (by_entropy / len(rows)) * probabilities * (logs + entropies)
        return np.ascontiguousarray(delta.T)


class DiagonalGaussian:
    """Continuous actions: the outputs are means, the logarithms of the deviations are parameters of their own."""

    def __init__(self, log_std: Floats, log_std_gradient: Floats) -> None:
        self.log_std, self.log_std_gradient = log_std, log_std_gradient

    def noise(self, rng: np.random.Generator, steps: int, n_envs: int) -> Array:
        """Gaussian noise, scaled already: the deviations stay as they are during a rollout."""
        noise = rng.standard_normal((steps, n_envs, len(self.log_std)), dtype=np.float32)
        noise *= np.exp(self.log_std)
        return noise

    def sample(self, outputs: Floats, noise: Array) -> Array:
        """Draw actions; the environment gets them clipped, the update does not."""
        actions: Array = outputs + noise
        return actions

    def evaluate(self, outputs: Floats, actions: Array) -> Evaluated:
        """Gaussian log-density, summed over the action's dimensions."""
        inverse = np.exp(-self.log_std)
        scaled = (actions - outputs) * inverse
        squares = scaled * scaled
        summed = np.add.reduce(squares, axis=1) if len(self.log_std) > 1 else squares[:, 0]
        constant = float(np.add.reduce(self.log_std)) + HALF_LOG_2_PI * len(self.log_std)
        return Evaluated(-0.5 * summed - np.float32(constant), constant + 0.5 * len(self.log_std), (scaled, inverse, squares))

    def backward(self, evaluated: Evaluated, _actions: Array, by_log_prob: Floats, by_entropy: float) -> Floats:
        """Also writes the gradient of the deviations: z² − 1 by log-probability, 1 by entropy."""
        scaled, inverse, squares = evaluated.kept
        np.dot(by_log_prob, squares - 1, out=self.log_std_gradient)
        self.log_std_gradient += by_entropy
        delta: Floats = scaled * inverse * by_log_prob[:, None]
        return delta
