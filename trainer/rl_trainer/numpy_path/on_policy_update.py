"""The gradient steps of PPO and A2C.

Line by line these are `PPO.train` and `A2C.train` of SB3, with the derivative of each line:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/ppo/ppo.py
The losses for the log are computed for all minibatches at once.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rl_trainer.numpy_path.actor_critic import PAIRED_ROWS, PairedMlps, TwoMlps
from rl_trainer.numpy_path.distributions import ActionDistribution, Array, mean
from rl_trainer.numpy_path.layers import FixedMlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, Floats


class Rows(NamedTuple):
    """Rows of a rollout or of a minibatch.

    The last axis of each array counts the rows. Only in `observations` the first axis counts them.
    """

    observations: Floats
    #: In the form of `ActionDistribution.columns`.
    actions: Floats
    old_values: Floats
    old_log_prob: Floats
    #: In a rollout these are the advantages. In a minibatch they are the factors of the loss: the
    #: negative advantages (normalized if the model asks for it), divided by the number of rows.
    costs: Floats
    returns: Floats

    def chosen(self, which: Array | slice) -> "Rows":
        """Return some of the rows, in the given order."""
        return Rows(
            self.observations[which],
            self.actions[:, which],
            self.old_values[which],
            self.old_log_prob[which],
            self.costs[which],
            self.returns[which],
        )


@dataclass(frozen=True)
class Coefficients:
    """The settings that are constant during one call of `train`."""

    learning_rate: float
    clip_range: float
    clip_range_vf: float | None
    entropy: float
    value: float
    max_grad_norm: float
    normalize_advantage: bool
    target_kl: float | None


class Losses(NamedTuple):
    """The numbers that SB3 logs, one per minibatch."""

    policy: Array
    value: Array
    entropy: Array
    gradient_norm: Array

    def last(self, coefficients: Coefficients) -> float:
        """Return the total loss of the last minibatch."""
        return float(
            self.policy[-1]
            + coefficients.entropy * self.entropy[-1]
            + coefficients.value * self.value[-1]
        )


class Step(NamedTuple):
    """The arrays of a minibatch from which the log is computed, and its mean entropy."""

    costs: Floats
    old_log_prob: Floats
    log_prob: Floats
    errors: Floats
    entropy: float


@dataclass(frozen=True)
class StepsTaken:
    """The steps of one call of `train`. `epochs` has the index of each epoch's first step."""

    steps: list[Step] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


class ActorCriticUpdate:
    """Takes steps on a policy whose parameters are views of the optimizer's array.

    :param two: the networks, run one after another.
    :param paired: the same parameters, run together; None if the networks' widths differ.
    """

    def __init__(
        self,
        optimizer: FlatOptimizer,
        two: TwoMlps,
        paired: PairedMlps | None,
        distribution: ActionDistribution,
    ) -> None:
        self.optimizer, self.distribution = optimizer, distribution
        self.two, self.paired = two, paired
        self._fixed: dict[int, FixedMlp] = {}

    def fixed_policy(self, rows: int) -> FixedMlp:
        """Return a copy of the current policy network, for a batch of `rows` rows."""
        if rows in self._fixed:
            self._fixed[rows].renew()
        else:
            self._fixed[rows] = FixedMlp(self.two.policy, rows)
        return self._fixed[rows]

    def epoch(
        self, rollout: Rows, batch_size: int, coefficients: Coefficients, taken: StepsTaken
    ) -> bool:
        """Take a step on each minibatch of a rollout.

        :param taken: the record to which the steps are added.
        :return: False if `target_kl` stopped the epoch; the last step was then not taken.
        """
        rows = rollout._replace(costs=costs(rollout.costs, batch_size, coefficients))
        taken.epochs.append(len(taken.steps))
        for start in range(0, len(rows.costs), batch_size):
            step = self.gradients(rows.chosen(slice(start, start + batch_size)), coefficients)
            taken.steps.append(step)

            if (
                coefficients.target_kl is not None
                and approx_kl(step.log_prob - step.old_log_prob) > 1.5 * coefficients.target_kl
            ):
                return False

            taken.gradient_norms.append(
                self.optimizer.step(coefficients.learning_rate, coefficients.max_grad_norm)
            )
        return True

    def gradients(self, batch: Rows, coefficients: Coefficients) -> Step:
        """Write the gradient of SB3's loss into `optimizer.gradient`."""
        networks = (
            self.paired if self.paired is not None and len(batch.costs) <= PAIRED_ROWS else self.two
        )
        outputs, values = networks.forward(batch.observations)

        evaluated = self.distribution.evaluate(outputs, batch.actions)
        log_prob_gradient = self.log_prob_gradient(evaluated.log_prob, batch, coefficients)
        errors, value_gradient = _value_errors(values, batch, coefficients)
        output_gradient = self.distribution.backward(
            evaluated, batch.actions, log_prob_gradient, -coefficients.entropy
        )
        networks.backward(batch.observations, output_gradient, value_gradient)
        return Step(batch.costs, batch.old_log_prob, evaluated.log_prob, errors, evaluated.entropy)

    def losses(self, taken: StepsTaken, coefficients: Coefficients) -> Losses:
        """Compute the losses of all steps at once.

        Computed step by step, they would take as much time as a layer of the network.
        """
        costs, old_log_prob, log_prob, errors = (
            np.concatenate(column) for column in list(zip(*taken.steps, strict=True))[:4]
        )
        sizes = np.array([len(step.costs) for step in taken.steps])
        starts = np.cumsum(sizes) - sizes
        return Losses(
            policy=np.add.reduceat(
                self.policy_losses(log_prob, old_log_prob, costs, coefficients),
                starts,
                dtype=np.float64,
            ),
            value=np.add.reduceat(errors * errors, starts, dtype=np.float64) / sizes,
            entropy=-np.array([step.entropy for step in taken.steps]),
            gradient_norm=np.array(taken.gradient_norms),
        )

    def log_prob_gradient(
        self, log_prob: Floats, batch: Rows, coefficients: Coefficients
    ) -> Floats:
        """Compute the gradient of the policy loss by the log-probabilities."""
        raise NotImplementedError

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, coefficients: Coefficients
    ) -> Floats:
        """Compute the part of each row in the policy loss of its minibatch."""
        raise NotImplementedError


class PpoUpdate(ActorCriticUpdate):
    """PPO's clipped surrogate."""

    def log_prob_gradient(
        self, log_prob: Floats, batch: Rows, coefficients: Coefficients
    ) -> Floats:
        """Compute the gradient of the clipped surrogate.

        It is zero where the clipped surrogate is the smaller one, because the ratio is then outside
        its range.
        """
        plain, clipped = _surrogates(log_prob - batch.old_log_prob, batch.costs, coefficients)
        plain *= plain >= clipped
        return plain

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, coefficients: Coefficients
    ) -> Floats:
        """Compute the larger of the two costs, which is minus the smaller of the two surrogates."""
        return np.maximum(*_surrogates(log_prob - old_log_prob, costs, coefficients))


class A2cUpdate(ActorCriticUpdate):
    """A2C's policy gradient, with the loss -(advantages * log_prob).mean()."""

    def log_prob_gradient(
        self, log_prob: Floats, batch: Rows, coefficients: Coefficients
    ) -> Floats:
        """Return the factors of the log-probabilities, because the loss is linear in them."""
        del log_prob, coefficients
        return batch.costs

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, coefficients: Coefficients
    ) -> Floats:
        """Compute the part of each row in -(advantages * log_prob).mean()."""
        del old_log_prob, coefficients
        return costs * log_prob


def costs(advantages: Floats, batch_size: int, coefficients: Coefficients) -> Floats:
    """Divide the negative advantages by the number of rows in their minibatch.

    If the model asks for it, the advantages are first normalized to mean 0 and deviation 1, as in
    SB3. This is done in each minibatch of more than one row, with torch's unbiased deviation.
    """
    made = np.empty_like(advantages)
    whole = len(advantages) - len(advantages) % batch_size
    for part, size in ((slice(whole), batch_size), (slice(whole, None), len(advantages) - whole)):
        if size:
            batches: Floats = advantages[part].reshape(-1, size)
            if coefficients.normalize_advantage and size > 1:
                batches = batches - _sums(batches) / np.float32(size)
                batches /= np.sqrt(_sums(batches * batches) / np.float32(size - 1)) + np.float32(
                    1e-8
                )
            made[part] = (batches * np.float32(-1 / size)).reshape(-1)
    return made


def _sums(rows: Floats) -> Floats:
    sums: Floats = np.add.reduce(rows, axis=1, keepdims=True)
    return sums


def policy_change(taken: StepsTaken, coefficients: Coefficients) -> tuple[float, float]:
    """Compute SB3's `approx_kl` and `clip_fraction`, both as means of the minibatches' means.

    SB3 computes `approx_kl` from the last epoch alone.
    """
    log_ratio = np.concatenate([step.log_prob - step.old_log_prob for step in taken.steps])
    moved = np.exp(log_ratio) - 1
    sizes = np.array([len(step.costs) for step in taken.steps])
    starts = np.cumsum(sizes) - sizes
    divergences, outside = (
        np.add.reduceat(values, starts, dtype=np.float64) / sizes
        for values in (moved - log_ratio, np.abs(moved) > coefficients.clip_range)
    )
    return mean(divergences[taken.epochs[-1] :]), mean(outside)


def approx_kl(log_ratio: Floats) -> float:
    """Estimate the divergence of the old policy from the new one, as SB3 does."""
    return mean(np.exp(log_ratio) - 1 - log_ratio)


def _surrogates(
    log_ratio: Floats, cost: Floats, coefficients: Coefficients
) -> tuple[Floats, Floats]:
    """Return the costs of the ratio, and the costs of the clipped ratio."""
    ratio: Floats = np.exp(log_ratio)
    clipped: Floats = np.minimum(
        np.maximum(ratio, 1 - coefficients.clip_range), 1 + coefficients.clip_range
    )
    clipped *= cost
    ratio *= cost
    return ratio, clipped


def _value_errors(values: Floats, batch: Rows, coefficients: Coefficients) -> tuple[Floats, Floats]:
    """Return the errors of the values, and the gradient of the value loss by the values."""
    slope: Array | None = None
    if coefficients.clip_range_vf is not None:
        moved = values - batch.old_values
        slope = np.abs(moved) <= coefficients.clip_range_vf
        values = batch.old_values + np.clip(
            moved, -coefficients.clip_range_vf, coefficients.clip_range_vf
        )

    errors: Floats = values - batch.returns
    delta: Floats = errors * (2 * coefficients.value / len(errors))
    if slope is not None:
        delta *= slope
    return errors, delta
