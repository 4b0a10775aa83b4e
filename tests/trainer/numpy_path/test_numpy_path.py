"""NumPy PPO has SB3's rollout buffer, gradients, steps and schedules."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

from rl_trainer.numpy_path.layers import FixedMlp
from rl_trainer.numpy_path.on_policy import NumpyA2C, NumpyPPO
from rl_trainer.numpy_path.on_policy_update import Coefficients, Rows, StepsTaken, costs
from rl_trainer.numpy_path.optimizers import flat_optimizer_for
from rl_trainer.numpy_path.rollout import estimate_advantages
from rl_trainer.shards.generators import seed_generators
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.watch import TrainingWatch
from tests.trainer.chains import make_trainer, train_chain

HYPERPARAMETERS: dict[str, Any] = {
    "n_envs": 3,
    "n_steps": 40,
    "batch_size": 32,
    "n_epochs": 3,
    "gae_lambda": 0.9,
    "learning_rate": "lin_0.003",
    "clip_range": "lin_0.2",
    "ent_coef": 0.01,
}


def models(
    hyperparameters: dict[str, Any], env_kwargs: dict[str, Any], algo: str = "ppo"
) -> tuple[Any, Any]:
    """The NumPy model and SB3's, with equal weights and equally seeded environments."""
    made = []
    for fast in (True, False):
        model = make_trainer(algo, hyperparameters, env_kwargs=env_kwargs, fast=fast).prepare(
            0, None
        )
        model.set_logger(Logger(None, []))
        model._setup_learn(1000, None, reset_num_timesteps=False)
        made.append(model)
    fast_model, stock = made
    assert isinstance(fast_model, NumpyPPO | NumpyA2C)
    assert type(stock) in (PPO, A2C)
    return fast_model, stock


def collect(model: PPO) -> None:
    """Fill a model's rollout buffer."""
    callback = TrainingWatch(Interruption())
    callback.init_callback(model)
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def force_actions(model: PPO, actions: np.ndarray[Any, Any]) -> None:
    """Make an SB3 model take recorded actions and evaluate them as its own."""
    steps = iter(actions)

    def forward(
        obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = torch.as_tensor(next(steps))
        if isinstance(model.action_space, spaces.Discrete):
            chosen = chosen.flatten()
        values, log_prob, _ = model.policy.evaluate_actions(obs, chosen)
        return chosen, values, log_prob

    model.policy.forward = forward


@pytest.mark.parametrize(
    "env_kwargs", [{}, {"action": "wide"}, {"observation": "matrix", "action": "box"}]
)
@pytest.mark.parametrize("normalize", [False, True])
def test_one_rollout_gives_the_same_buffer(env_kwargs: dict[str, Any], normalize: bool) -> None:
    """Every array agrees, also the bootstrapped rewards of truncated episodes."""
    fast, stock = models(HYPERPARAMETERS | {"normalize": normalize}, env_kwargs)
    collect(fast)
    force_actions(stock, fast.rollout_buffer.actions)
    collect(stock)
    for name in (
        "observations",
        "actions",
        "rewards",
        "episode_starts",
        "values",
        "log_probs",
        "advantages",
        "returns",
    ):
        ours, theirs = getattr(fast.rollout_buffer, name), getattr(stock.rollout_buffer, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6, err_msg=name)
    assert fast.rollout_buffer.episode_starts[1:].any(), (
        "no episode ended, so nothing was shown about ends"
    )
    np.testing.assert_array_equal(fast._last_obs, stock._last_obs)


CONFIGURATIONS = list(
    itertools.product(
        ("discrete", "wide"), ("nn.Tanh", "nn.ReLU"), (0.0, 0.02), (None, 0.1), (True, False)
    )
)


@pytest.mark.parametrize("layers", ["dict(pi=[7, 5], vf=[9])", "dict(pi=[7, 5], vf=[7, 5])", "[]"])
@pytest.mark.parametrize(
    ("action", "activation", "entropy", "clip_vf", "normalize"), CONFIGURATIONS
)
def test_gradients_equal_autograd(
    action: str,
    activation: str,
    entropy: float,
    clip_vf: float | None,
    normalize: bool,
    layers: str,
) -> None:
    """Each covered configuration agrees on data where clipping matters."""
    chosen = HYPERPARAMETERS | {
        "policy_kwargs": f"dict(activation_fn={activation}, net_arch={layers})"
    }
    fast, stock = models(chosen, {"action": action})
    rows = random_rows(fast, 50)
    by = Coefficients(
        learning_rate=0.001,
        clip_range=0.2,
        clip_range_vf=clip_vf,
        entropy=entropy,
        value=0.5,
        max_grad_norm=0.5,
        normalize_advantage=normalize,
        target_kl=None,
    )
    engine = fast.prepared()
    batch = rows._replace(
        actions=engine.distribution.columns(rows.actions), costs=costs(rows.costs, 50, by)
    )
    losses = engine.losses(StepsTaken([engine.gradients(batch, by)], epochs=[0]), by)
    expected = sb3_loss(stock, rows, by)
    expected.backward()
    total = float(losses.policy[0] + by.entropy * losses.entropy[0] + by.value * losses.value[0])
    assert total == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-5)
    for (name, ours), theirs in zip(
        fast.policy.named_parameters(), stock.policy.parameters(), strict=True
    ):
        gradient = np.zeros(theirs.shape) if theirs.grad is None else theirs.grad.numpy()
        np.testing.assert_allclose(
            engine.optimizer.views(ours)[1], gradient, rtol=2e-4, atol=2e-6, err_msg=name
        )


def random_rows(model: PPO, rows: int) -> Rows:
    """Build invented rows of a rollout with actions of the buffer's form."""
    rng = np.random.default_rng(3)
    discrete = isinstance(model.action_space, spaces.Discrete)
    actions = (
        rng.integers(0, 3, (rows, 1)) if discrete else rng.normal(size=(rows, 2)).astype(np.float32)
    )
    columns = [rng.normal(size=rows).astype(np.float32) for _ in range(3)]
    old = -1.1 + 0.4 * rng.normal(size=rows) - (0 if discrete else 2)
    return Rows(
        rng.normal(size=(rows, 3)).astype(np.float32),
        actions,
        0.1 * columns[0],
        old.astype(np.float32),
        columns[1],
        columns[2],
    )


def sb3_loss(model: PPO, rows: Rows, by: Coefficients) -> torch.Tensor:
    """The loss of `PPO.train` as SB3 writes it."""
    observations, actions, old_values, old_log_prob, advantages, returns = (
        torch.as_tensor(column) for column in rows
    )
    actions = actions.flatten() if isinstance(model.action_space, spaces.Discrete) else actions
    values, log_prob, entropy = model.policy.evaluate_actions(observations, actions)
    values = values.flatten()
    if by.normalize_advantage:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = advantages * torch.clamp(ratio, 1 - by.clip_range, 1 + by.clip_range)
    if by.clip_range_vf is not None:
        values = old_values + torch.clamp(values - old_values, -by.clip_range_vf, by.clip_range_vf)
    assert entropy is not None
    loss: torch.Tensor = (
        -torch.min(advantages * ratio, clipped).mean()
        - by.entropy * entropy.mean()
        + by.value * torch.nn.functional.mse_loss(returns, values)
    )
    return loss


@pytest.mark.parametrize("activation", ["nn.Tanh", "nn.ReLU"])
def test_the_forms_of_a_network_agree(activation: str) -> None:
    """The three forms of the network give the same outputs and gradients up to rounding."""
    fast, _ = models(
        HYPERPARAMETERS | {"policy_kwargs": f"dict(activation_fn={activation}, net_arch=[16, 8])"},
        {"action": "wide"},
    )
    engine, rng = fast.prepared(), np.random.default_rng(0)
    assert engine.paired is not None
    observations, by_outputs, by_values = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((6, 3), (2, 6), 6)
    )
    fixed = FixedMlp(engine.two.policy, 6).forward(observations)
    found = []
    for networks in (engine.two, engine.paired):
        outputs, values = (one.copy() for one in networks.forward(observations))
        np.testing.assert_allclose(fixed.T, outputs, rtol=1e-5, atol=1e-6)
        engine.optimizer.gradient[...] = np.nan
        networks.backward(observations, by_outputs, by_values)
        found.append(
            (outputs, values, engine.optimizer.gradient[:-2].copy())
        )  # without the deviations'
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length", [1e-3, 10.0, 1e18, 1e25, np.nan])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_clipping_is_torchs(length: float, kind: Any) -> None:
    """Clipping equals torch's, also for overflowing squares and NaN."""
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    flat_class = flat_optimizer_for(optimizer := kind([ours], lr=0.1))
    assert flat_class is not None
    flat, stock = flat_class([ours], optimizer), kind([theirs], lr=0.1)
    for _ in range(3):
        gradient = np.float32(length) * np.array([1, -1, 0.5, 0, 2], np.float32)
        flat.gradient[...] = gradient
        theirs.grad = torch.from_numpy(gradient.copy())
        with np.errstate(over="ignore", invalid="ignore"):
            norm = flat.step(0.1, 0.5)
        assert norm == pytest.approx(
            float(torch.nn.utils.clip_grad_norm_([theirs], 0.5)), rel=1e-5, nan_ok=True
        )
        stock.step()
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_kl": 0.0005},
        {"clip_range_vf": 0.1},
        {"batch_size": 50, "normalize_advantage": False},
    ],
)
@pytest.mark.parametrize("action", ["discrete", "wide"])
def test_train_takes_the_same_steps(changes: dict[str, Any], action: str) -> None:
    """Parameters, Adam's state, logged values and the stop by `target_kl` agree over all epochs."""
    fast, stock = models(HYPERPARAMETERS | changes, {"action": action})
    collect(fast)
    for name in (
        "observations",
        "actions",
        "rewards",
        "episode_starts",
        "values",
        "log_probs",
        "advantages",
        "returns",
    ):
        setattr(stock.rollout_buffer, name, getattr(fast.rollout_buffer, name).copy())
    stock.rollout_buffer.full = True
    for model in (fast, stock):
        seed_generators(5, 0)
        model.train()
    assert fast._n_updates == stock._n_updates
    logged, expected = fast.logger.name_to_value, stock.logger.name_to_value
    for name in expected:
        assert logged[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name
    for ours, theirs in zip(fast.policy.parameters(), stock.policy.parameters(), strict=True):
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-4, atol=2e-6
        )
        mine, other = fast.policy.optimizer.state[ours], stock.policy.optimizer.state[theirs]
        assert float(mine["step"]) == float(other["step"])
        np.testing.assert_allclose(
            mine["exp_avg"].numpy(), other["exp_avg"].numpy(), rtol=1e-3, atol=1e-6
        )
        np.testing.assert_allclose(
            mine["exp_avg_sq"].numpy(), other["exp_avg_sq"].numpy(), rtol=1e-3, atol=1e-9
        )


@pytest.mark.parametrize("changes", [{}, {"normalize_advantage": True}, {"use_rms_prop": False}])
@pytest.mark.parametrize("action", ["discrete", "wide"])
def test_a2c_takes_the_same_steps(changes: dict[str, Any], action: str) -> None:
    """Parameters, RMSprop's state and logged values agree over twenty rollouts."""
    # A larger epsilon than A2C's, because with 1e-5 RMSprop's first steps are the gradient's sign,
    # rounding included.
    chosen = {
        "n_envs": 3,
        "n_steps": 5,
        "ent_coef": 0.01,
        "learning_rate": "lin_0.01",
        "rms_prop_eps": 0.1,
    } | changes
    fast, stock = models(chosen, {"action": action}, algo="a2c")
    assert isinstance(fast, NumpyA2C)
    for turn in range(20):
        collect(fast)
        for name in (
            "observations",
            "actions",
            "rewards",
            "episode_starts",
            "values",
            "log_probs",
            "advantages",
            "returns",
        ):
            setattr(stock.rollout_buffer, name, getattr(fast.rollout_buffer, name).copy())
        stock.rollout_buffer.full, stock.rollout_buffer.generator_ready = True, False
        for model in (fast, stock):
            seed_generators(turn, 0)
            model.train()
        for name, value in stock.logger.name_to_value.items():
            assert fast.logger.name_to_value[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for ours, theirs in zip(fast.policy.parameters(), stock.policy.parameters(), strict=True):
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-3, atol=2e-5
        )
        mine, other = fast.policy.optimizer.state[ours], stock.policy.optimizer.state[theirs]
        assert float(mine["step"]) == float(other["step"]) == 20


@pytest.mark.parametrize(
    ("algo", "stock", "changes"),
    [
        ("ppo", PPO, {"n_envs": 2, "n_steps": 20, "batch_size": 20, "n_epochs": 2}),
        ("a2c", A2C, {"n_envs": 2, "n_steps": 20, "use_rms_prop": False}),
        ("dqn", DQN, {"learning_starts": 50, "batch_size": 8, "train_freq": 40}),
    ],
)
def test_sb3_continues_training_a_saved_model(
    algo: str, stock: Any, changes: dict[str, Any]
) -> None:
    """Each parameter's step counter continues as in a model that SB3 trained."""
    trained = train_chain(make_trainer(algo, changes, segment=400, total=400), through_files=False)
    trained.model.save(saved := io.BytesIO())
    saved.seek(0)
    model = stock.load(saved, env=trained.model.env)
    before = [float(state["step"]) for state in model.policy.optimizer.state.values()]
    counted = model._n_updates
    model.learn(40, reset_num_timesteps=False)
    steps_each = 2 if algo == "ppo" else 1  # minibatches of an update that `_n_updates` counts
    after = [float(state["step"]) for state in model.policy.optimizer.state.values()]
    assert len(set(before)) == 1
    assert after == [before[0] + steps_each * (model._n_updates - counted)] * len(before)
    assert after[0] > before[0]


def test_actions_follow_the_policy() -> None:
    """Gumbel noise samples the softmax, and Gaussian noise the policy's normal distribution."""
    for action in ("discrete", "wide"):
        fast, _ = models(HYPERPARAMETERS | {"n_steps": 4000}, {"action": action})
        engine, rng = fast.prepared(), np.random.default_rng(0)
        outputs = np.tile(
            np.array([[0.5, -0.2, 0.1] if action == "discrete" else [0.5, -0.2]], np.float32),
            (3, 1),
        )
        noise = engine.distribution.noise(rng, 4000, 3)
        drawn = np.concatenate([engine.distribution.sample(outputs.copy(), step) for step in noise])
        if action == "discrete":
            expected = np.exp(outputs[0]) / np.exp(outputs[0]).sum()
            np.testing.assert_allclose(
                np.bincount(drawn, minlength=3) / len(drawn), expected, atol=0.015
            )
        else:
            np.testing.assert_allclose(drawn.mean(axis=0), outputs[0], atol=0.03)
            np.testing.assert_allclose(drawn.std(axis=0), 1.0, atol=0.03)


@pytest.mark.parametrize("fast", [True, False])
def test_schedules_equal_one_stock_learn(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Learning rate and clip range of three segments are those of one `learn`."""
    seen: list[tuple[int, float, float]] = []
    original = BaseAlgorithm._update_learning_rate

    def spy(self: Any, optimizers: Any) -> None:
        progress = self._current_progress_remaining
        seen.append((self.num_timesteps, self.lr_schedule(progress), self.clip_range(progress)))
        original(self, optimizers)

    monkeypatch.setattr(BaseAlgorithm, "_update_learning_rate", spy)
    train_chain(
        make_trainer("ppo", HYPERPARAMETERS, segment=240, total=700, fast=fast), through_files=True
    )
    chain, seen = seen.copy(), seen
    seen.clear()
    stock = make_trainer("ppo", HYPERPARAMETERS, fast=False).prepare(0, None)
    stock.learn(700)
    assert chain == seen
    assert len(chain) == 6


def test_exploration_equals_one_stock_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """DQN's epsilon, warm-up and target updates cover the whole training, not each segment."""
    seen: list[tuple[int, float, int]] = []
    original = DQN._on_step

    def spy(self: Any) -> None:
        original(self)
        seen.append((self.num_timesteps, self.exploration_rate, self._n_calls))

    monkeypatch.setattr(DQN, "_on_step", spy)
    chosen = {
        "learning_starts": 150,
        "buffer_size": 300,
        "exploration_fraction": 0.7,
        "batch_size": 8,
        "policy_kwargs": "dict(net_arch=[4])",
    }
    train_chain(make_trainer("dqn", chosen, segment=100, total=300), through_files=True)
    chain = seen.copy()
    seen.clear()
    make_trainer("dqn", chosen).prepare(0, None).learn(300)
    assert chain == seen
    assert len(chain) == 300


@pytest.mark.parametrize("n_envs", [1, 3])
def test_advantages_are_sb3s_to_the_bit(n_envs: int) -> None:
    """Advantages agree exactly, wherever episodes end."""
    space, rng = spaces.Box(-1, 1, (2,)), np.random.default_rng(0)
    ours, theirs = (
        RolloutBuffer(50, space, space, n_envs=n_envs, gamma=0.97, gae_lambda=0.9) for _ in range(2)
    )
    for name in ("rewards", "values"):
        values = rng.standard_normal((50, n_envs)).astype(np.float32)
        setattr(ours, name, values.copy())
        setattr(theirs, name, values.copy())
    ours.episode_starts = theirs.episode_starts = (rng.random((50, n_envs)) < 0.2).astype(
        np.float32
    )
    last, dones = rng.standard_normal(n_envs).astype(np.float32), np.arange(n_envs) % 2 == 0
    estimate_advantages(ours, last, dones)
    theirs.compute_returns_and_advantage(torch.from_numpy(last), dones)
    assert np.array_equal(ours.advantages, theirs.advantages)
    assert np.array_equal(ours.returns, theirs.returns)
    assert ours.returns.dtype == theirs.returns.dtype
