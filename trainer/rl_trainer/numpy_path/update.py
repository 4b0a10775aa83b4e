"""One minibatch: the loss's gradient by hand, one step of the optimizer; and the losses, for the
log, of all minibatches at once.

Line by line these are `PPO.train` and `A2C.train` of SB3, with the derivative of each line beside
it: https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/ppo/ppo.py
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rl_trainer.numpy_path.actor_critic import PAIRED_ROWS, PairedMlps, TwoMlps
from rl_trainer.numpy_path.distributions import ActionDistribution, Array, mean
from rl_trainer.numpy_path.layers import FixedMlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, Floats


class Rows(NamedTuple):
    """Rows of a rollout, and what they cost. Of each field the last axis but of the observations
    the first counts the rows.
    """

    observations: Floats
    #: In the distribution's form.
    actions: Floats
    old_values: Floats
    old_log_prob: Floats
    #: Of a rollout the advantages; of a minibatch minus them, normalized if asked for, over its
    #: rows: what the loss multiplies by.
    costs: Floats
    returns: Floats

    def chosen(self, which: Array | slice) -> "Rows":
        """Some of the rows, in a given order."""
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
    """What stays the same during one call of `train`."""

    learning_rate: float
    clip_range: float
    clip_range_vf: float | None
    entropy: float
    value: float
    max_grad_norm: float
    normalize_advantage: bool
    target_kl: float | None


class Losses(NamedTuple):
    """What SB3 logs, one number a minibatch."""

    policy: Array
    value: Array
    entropy: Array
    gradient_norm: Array

    def last(self, by: Coefficients) -> float:
        """The whole loss of the last minibatch."""
        return float(self.policy[-1] + by.entropy * self.entropy[-1] + by.value * self.value[-1])


class Step(NamedTuple):
    """What a minibatch leaves behind for the log: a row each, but for its mean entropy."""

    costs: Floats
    old_log_prob: Floats
    log_prob: Floats
    errors: Floats
    entropy: float


@dataclass(frozen=True)
class Taken:
    """The steps of one call of `train`, and with how many of them each epoch began."""

    steps: list[Step] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


class ActorCriticUpdate:
    """Takes steps on a policy whose parameters are views of the optimizer's array.

    :param two: the networks one after another.
    :param paired: the same parameters side by side, if the networks pair.
    """

    def __init__(
        self,
        optimizer: FlatOptimizer,
        two: TwoMlps,
        paired: PairedMlps | None,
        distribution: ActionDistribution,
    ) -> None:
        self.optimizer, self.two, self.paired, self.distribution = (
            optimizer,
            two,
            paired,
            distribution,
        )
        self._fixed: dict[int, FixedMlp] = {}

    def fixed_policy(self, rows: int) -> FixedMlp:
        """The policy's network as it is now, to act with on so many rows."""
        if rows in self._fixed:
            self._fixed[rows].renew()
        else:
            self._fixed[rows] = FixedMlp(self.two.policy, rows)
        return self._fixed[rows]

    def epoch(self, rollout: Rows, batch_size: int, by: Coefficients, taken: Taken) -> bool:
        """Take a step on each minibatch of some rows.

        :param taken: the steps are added to it.
        :return: whether to go on: where `target_kl` says no, the step that it was asked about is
            not taken.
        """
        rows = rollout._replace(costs=costs(rollout.costs, batch_size, by))
        taken.epochs.append(len(taken.steps))
        for start in range(0, len(rows.costs), batch_size):
            step = self.gradients(rows.chosen(slice(start, start + batch_size)), by)
            taken.steps.append(step)
            if (
                by.target_kl is not None
                and approx_kl(step.log_prob - step.old_log_prob) > 1.5 * by.target_kl
            ):
                return False
            taken.gradient_norms.append(self.optimizer.step(by.learning_rate, by.max_grad_norm))
        return True

    def gradients(self, batch: Rows, by: Coefficients) -> Step:
        """Write the gradient of SB3's loss into `optimizer.gradient`."""
        networks = (
            self.paired if self.paired is not None and len(batch.costs) <= PAIRED_ROWS else self.two
        )
        outputs, values = networks.forward(batch.observations)
        evaluated = self.distribution.evaluate(outputs, batch.actions)
        by_log_prob = self.by_log_prob(evaluated.log_prob, batch, by)
        errors, by_values = _by_values(values, batch, by)
        by_outputs = self.distribution.backward(evaluated, batch.actions, by_log_prob, -by.entropy)
        networks.backward(batch.observations, by_outputs, by_values)
        return Step(batch.costs, batch.old_log_prob, evaluated.log_prob, errors, evaluated.entropy)

    def losses(self, taken: Taken, by: Coefficients) -> Losses:
        """The losses of all steps, at once: one after another they would cost as much as a
        layer.
        """
        costs, old_log_prob, log_prob, errors = (
            np.concatenate(column) for column in list(zip(*taken.steps, strict=True))[:4]
        )
        sizes = np.array([len(step.costs) for step in taken.steps])
        starts = np.cumsum(sizes) - sizes
        return Losses(
            policy=np.add.reduceat(
                self.policy_losses(log_prob, old_log_prob, costs, by), starts, dtype=np.float64
            ),
            value=np.add.reduceat(errors * errors, starts, dtype=np.float64) / sizes,
            entropy=-np.array([step.entropy for step in taken.steps]),
            gradient_norm=np.array(taken.gradient_norms),
        )

    def by_log_prob(self, log_prob: Floats, batch: Rows, by: Coefficients) -> Floats:
        """The gradient of the policy's part of the loss with respect to the log-probabilities."""
        raise NotImplementedError

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, by: Coefficients
    ) -> Floats:
        """Each row's share in its minibatch's loss."""
        raise NotImplementedError


class PpoUpdate(ActorCriticUpdate):
    """PPO's clipped surrogate."""

    def by_log_prob(self, log_prob: Floats, batch: Rows, by: Coefficients) -> Floats:
        """Where the clipped surrogate is the smaller one, the ratio is outside its range and the
        slope is zero.
        """
        plain, clipped = _surrogates(log_prob - batch.old_log_prob, batch.costs, by)
        plain *= plain >= clipped
        return plain

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, by: Coefficients
    ) -> Floats:
        """The larger of two costs, which is the smaller of two surrogates."""
        return np.maximum(*_surrogates(log_prob - old_log_prob, costs, by))


class A2cUpdate(ActorCriticUpdate):
    """A2C's policy gradient."""

    def by_log_prob(self, log_prob: Floats, batch: Rows, by: Coefficients) -> Floats:
        """-(advantages * log_prob).mean()."""
        del log_prob, by
        return batch.costs

    def policy_losses(
        self, log_prob: Floats, old_log_prob: Floats, costs: Floats, by: Coefficients
    ) -> Floats:
        """-(advantages * log_prob).mean()."""
        del old_log_prob, by
        return costs * log_prob


def costs(advantages: Floats, batch_size: int, by: Coefficients) -> Floats:
    """Minus the advantages over the rows of their minibatch; normalized before, as SB3 does, to
    mean 0 and deviation 1 in each minibatch of more than one row, with torch's unbiased deviation.
    """
    made = np.empty_like(advantages)
    whole = len(advantages) - len(advantages) % batch_size
    for part, size in ((slice(whole), batch_size), (slice(whole, None), len(advantages) - whole)):
        if size:
            batches: Floats = advantages[part].reshape(-1, size)
            if by.normalize_advantage and size > 1:
                batches = batches - _sums(batches) / np.float32(size)
                batches /= np.sqrt(_sums(batches * batches) / np.float32(size - 1)) + np.float32(
                    1e-8
                )
            made[part] = (batches * np.float32(-1 / size)).reshape(-1)
    return made


def _sums(rows: Floats) -> Floats:
    sums: Floats = np.add.reduce(rows, axis=1, keepdims=True)
    return sums


def moves(taken: Taken, by: Coefficients) -> tuple[float, float]:
    """SB3's `approx_kl`, which it takes of the last epoch alone, and its `clip_fraction`; means of
    the minibatches' means.
    """
    log_ratio = np.concatenate([step.log_prob - step.old_log_prob for step in taken.steps])
    moved = np.exp(log_ratio) - 1
    sizes = np.array([len(step.costs) for step in taken.steps])
    starts = np.cumsum(sizes) - sizes
    divergences, outside = (
        np.add.reduceat(values, starts, dtype=np.float64) / sizes
        for values in (moved - log_ratio, np.abs(moved) > by.clip_range)
    )
    return mean(divergences[taken.epochs[-1] :]), mean(outside)


def approx_kl(log_ratio: Floats) -> float:
    """SB3's estimate of the divergence of the old policy from the new one."""
    return mean(np.exp(log_ratio) - 1 - log_ratio)


def _surrogates(log_ratio: Floats, cost: Floats, by: Coefficients) -> tuple[Floats, Floats]:
    """The costs of the ratio, and of the clipped ratio."""
    ratio: Floats = np.exp(log_ratio)
    clipped: Floats = np.minimum(np.maximum(ratio, 1 - by.clip_range), 1 + by.clip_range)
    clipped *= cost
    ratio *= cost
    return ratio, clipped


def _by_values(values: Floats, batch: Rows, by: Coefficients) -> tuple[Floats, Floats]:
    """What the values are wrong by, and the gradient of their part of the loss."""
    slope: Array | None = None
    if by.clip_range_vf is not None:
        moved = values - batch.old_values
        slope = np.abs(moved) <= by.clip_range_vf
        values = batch.old_values + np.clip(moved, -by.clip_range_vf, by.clip_range_vf)
    errors: Floats = values - batch.returns
    delta: Floats = errors * (2 * by.value / len(errors))
    if slope is not None:
        delta *= slope
    return errors, delta
