"""DQN and SAC whose gradient steps are replayed. A saved model is a plain one of SB3's class.

Line by line the steps are `DQN.train` and `SAC.train` of SB3:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/dqn/dqn.py and …/sac/sac.py
"""

import functools
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from rl_trainer.graphs.captures import Capturer
from rl_trainer.graphs.gradient_steps import RecordedStep
from rl_trainer.graphs.losses import forget_gradients


class GraphOffPolicy(OffPolicyAlgorithm):
    """What both have in common. They draw from the same generators as stock SB3; on a GPU noise is drawn within the recording."""

    #: Set by who builds the model, before it trains.
    capturer: Capturer
    _update: RecordedStep | None = None
    #: SB3's names of the numbers that a step logs.
    logged_names: tuple[str, ...] = ()

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take gradient steps on batches from the replay buffer. The numbers to log are read from the device once."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.optimizers())
        update, numbers = self.prepared(), []
        with update.training():
            for gradient_step in range(gradient_steps):
                samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]  # stock has it
                numbers.append(update.step(samples, follow=self.follows(gradient_step)))
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if numbers:
            columns = torch.stack(numbers).cpu().numpy().astype(np.float64).T
            for name, column in zip(self.logged_names, columns, strict=False):
                self.logger.record(f"train/{name}", np.mean(column))

    def prepared(self) -> RecordedStep:
        """Give what takes the steps, made once."""
        if self._update is None:
            self._update = RecordedStep(self, self.capturer)
        return self._update

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers that a step uses."""
        raise NotImplementedError

    def trained(self) -> list[torch.Tensor]:
        """Everything that a step changes, but for the optimizers' state."""
        return [*self.policy.parameters()]

    def take_step(self, samples: Any) -> torch.Tensor:
        """Take a step. :return: the numbers to log, in the order of `logged_names`."""
        raise NotImplementedError

    def follows(self, gradient_step: int) -> bool:
        """Tell whether the target networks follow after a step of a call of `train`."""
        del gradient_step
        return False

    def follow(self) -> None:
        """Let the target networks follow."""

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        """Whoever reads parameters and optimizers asks this first: so that they find plain ones."""
        if self._update is not None:
            self._update.end()
        return super()._get_torch_save_params()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "capturer", "_update"]


class GraphDQN(GraphOffPolicy, DQN):
    """SB3's DQN. Its targets follow between two calls of `train`, by SB3's own code."""

    logged_names = ("loss",)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The policy's."""
        return [self.policy.optimizer]

    def take_step(self, samples: Any) -> torch.Tensor:
        """Huber loss of the chosen actions' values."""
        discounts = samples.discounts if samples.discounts is not None else self.gamma
        with torch.no_grad():
            best, _ = self.q_net_target(samples.next_observations).max(dim=1)
            targets = samples.rewards + (1 - samples.dones) * discounts * best.reshape(-1, 1)
        values = torch.gather(self.q_net(samples.observations), dim=1, index=samples.actions.long())
        loss = functional.smooth_l1_loss(values, targets)
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return loss.detach().reshape(1)


class GraphSAC(GraphOffPolicy, SAC):
    """SB3's SAC, without gSDE."""

    logged_names = ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The actor's, the critic's, and the entropy coefficient's if it is learned."""
        learned = [self.ent_coef_optimizer] if self.ent_coef_optimizer is not None else []
        return [self.actor.optimizer, self.critic.optimizer, *learned]

    def trained(self) -> list[torch.Tensor]:
        """The policy's parameters, and the entropy coefficient if it is learned."""
        return [*super().trained(), *([self.log_ent_coef] if self.log_ent_coef is not None else [])]

    def take_step(self, samples: Any) -> torch.Tensor:
        """Entropy coefficient, critics, actor."""
        actions, log_prob = self.actor.action_log_prob(samples.observations)
        log_prob = log_prob.reshape(-1, 1)
        entropy, entropy_loss = self._entropy_step(log_prob)
        critic_loss = self._critic_step(samples, entropy)
        smallest, _ = torch.min(
            torch.cat(self.critic(samples.observations, actions), dim=1), dim=1, keepdim=True
        )
        actor_loss = (entropy * log_prob - smallest).mean()
        self.actor.optimizer.zero_grad()
        actor_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.actor.optimizer.step()
        forget_gradients(self.actor.action_dist)
        numbers = [
            entropy.reshape(()),
            actor_loss,
            critic_loss,
            *([] if entropy_loss is None else [entropy_loss]),
        ]
        return torch.stack([number.detach() for number in numbers])

    def follows(self, gradient_step: int) -> bool:
        """Every `target_update_interval` steps."""
        return gradient_step % self.target_update_interval == 0

    def follow(self) -> None:
        """Polyak averaging."""
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)

    def _entropy_step(self, log_prob: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give the entropy coefficient as it was, and take a step on it if it is learned."""
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return self.ent_coef_tensor, None
        entropy = torch.exp(self.log_ent_coef.detach())
        target: Any = self.target_entropy
        loss = -(self.log_ent_coef * (log_prob + target).detach()).mean()
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        return entropy, loss

    def _critic_step(self, samples: Any, entropy: torch.Tensor) -> torch.Tensor:
        discounts = samples.discounts if samples.discounts is not None else self.gamma
        with torch.no_grad():
            next_actions, next_log_prob = self.actor.action_log_prob(samples.next_observations)
            next_values, _ = torch.min(
                torch.cat(self.critic_target(samples.next_observations, next_actions), dim=1),
                dim=1,
                keepdim=True,
            )
            next_values = next_values - entropy * next_log_prob.reshape(-1, 1)
            targets = samples.rewards + (1 - samples.dones) * discounts * next_values
        values = self.critic(samples.observations, samples.actions)
        loss = 0.5 * functools.reduce(
            torch.add, (functional.mse_loss(value, targets) for value in values)
        )
        self.critic.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.critic.optimizer.step()
        return loss
