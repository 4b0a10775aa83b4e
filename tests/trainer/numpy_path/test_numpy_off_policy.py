"""NumPy SAC, TD3, DDPG and DQN have SB3's gradients and train equally up to rounding."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from rl_trainer.numpy_path.off_policy import NumpyDQN, NumpyOffPolicy, NumpySAC, NumpyTD3
from rl_trainer.numpy_path.replay import Transitions, draw
from rl_trainer.shards.generators import seed_generators
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.watch import TrainingWatch
from tests.trainer.chains import make_trainer

HYPERPARAMETERS: dict[str, Any] = {
    "buffer_size": 400,
    "learning_starts": 40,
    "batch_size": 24,
    "learning_rate": "lin_0.002",
    "policy_kwargs": "dict(net_arch=[12, 9])",
}


def models(algo: str, changes: dict[str, Any], env_kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The NumPy model and SB3's, with equal weights, environments and generators."""
    made = []
    for fast in (True, False):
        model = make_trainer(
            algo, HYPERPARAMETERS | changes, env_kwargs=env_kwargs, fast=fast
        ).prepare(0, None)
        model.set_logger(Logger(None, []))
        made.append(model)
    assert isinstance(made[0], NumpyOffPolicy)
    assert not isinstance(made[1], NumpyOffPolicy)
    return made[0], made[1]


def minibatch(actions: np.ndarray[Any, Any], rows: int = 30) -> Transitions:
    """Build invented transitions."""
    rng = np.random.default_rng(4)
    observations, following = (rng.normal(size=(rows, 3)).astype(np.float32) for _ in range(2))
    return Transitions(
        observations,
        actions,
        following,
        (rng.random(rows) < 0.2).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        0.97,
    )


def assert_gradients(flat: Any, ours: Any, theirs: Any) -> None:
    """Compare the flat gradient with autograd's."""
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(
            flat.views(mine)[1], other.grad.numpy(), rtol=2e-4, atol=2e-6, err_msg=name
        )


CONFIGURATIONS = list(itertools.product(("nn.ReLU", "nn.Tanh"), (1, 2, 3), ("box", "wide")))


@pytest.mark.parametrize(("activation", "n_critics", "action"), CONFIGURATIONS)
def test_sac_gradients_equal_autograd(activation: str, n_critics: int, action: str) -> None:
    """Actor, critics and entropy coefficient agree, also where SB3 clips deviations."""
    kwargs = (
        f"dict(net_arch=dict(pi=[12, 7], qf=[9]), n_critics={n_critics}, "
        f"activation_fn={activation})"
    )
    fast, stock = models("sac", {"policy_kwargs": kwargs}, {"action": action})
    for model in (fast, stock):
        with torch.no_grad():
            model.actor.log_std.bias[0] = 1.9
    engine, width = fast.prepared(), fast.action_space.shape[0]
    actions = np.random.default_rng(1).uniform(-1, 1, (30, width)).astype(np.float32)
    # Little noise, because 1 - a² has few digits where tanh is flat, in torch as in NumPy.
    batch, noise = (
        minibatch(actions),
        np.random.default_rng(2).normal(scale=0.15, size=(30, width)).astype(np.float32),
    )
    observations = torch.as_tensor(batch.observations)
    assert (
        0.1
        < np.mean(
            stock.actor.log_std(stock.actor.latent_pi(observations)).detach().numpy()[:, 0] > 2
        )
        < 0.9
    )

    sampled = engine.actor.sample(batch.observations, noise)
    means, log_std, _ = stock.actor.get_action_dist_params(observations)
    unsquashed = means + log_std.exp() * torch.as_tensor(noise)
    chosen = torch.tanh(unsquashed)
    distribution = stock.actor.action_dist.proba_distribution(means, log_std)
    log_prob = distribution.log_prob(chosen, unsquashed)
    np.testing.assert_allclose(sampled.log_prob, log_prob.detach().numpy(), rtol=2e-4, atol=2e-5)
    values = torch.cat(stock.critic(observations, chosen), dim=1).min(dim=1).values
    loss = (0.2 * log_prob - values).mean()
    loss.backward()
    assert engine.actor_gradients(batch.observations, sampled, 0.2) == pytest.approx(
        float(loss.detach()), rel=1e-4, abs=1e-5
    )
    assert_gradients(engine.optimizer, fast.actor, stock.actor)

    stock.critic.zero_grad()
    wanted = np.random.default_rng(3).normal(size=30).astype(np.float32)
    current = stock.critic(observations, torch.as_tensor(actions))
    loss = 0.5 * sum(
        torch.nn.functional.mse_loss(value, torch.as_tensor(wanted)[:, None]) for value in current
    )
    loss.backward()
    assert engine.critics.gradients(batch.observations, actions, wanted) == pytest.approx(
        float(loss.detach()), rel=1e-4
    )
    assert_gradients(engine.critics.optimizer, fast.critic, stock.critic)

    loss = -(stock.log_ent_coef * (log_prob.detach() + stock.target_entropy)).mean()
    loss.backward()
    assert engine.temperature.learn(sampled.log_prob, 0.0) == pytest.approx(
        float(loss.detach()), rel=1e-4, abs=1e-6
    )
    assert engine.temperature.optimizer.gradient[0] == pytest.approx(
        float(stock.log_ent_coef.grad), rel=1e-4
    )


@pytest.mark.parametrize(
    ("activation", "n_critics"), list(itertools.product(("nn.ReLU", "nn.Tanh"), (1, 2)))
)
def test_td3_gradients_equal_autograd(activation: str, n_critics: int) -> None:
    """The actor's loss uses the first critic only."""
    kwargs = (
        f"dict(net_arch=dict(pi=[12, 7], qf=[9, 8]), n_critics={n_critics}, "
        f"activation_fn={activation})"
    )
    fast, stock = models("td3", {"policy_kwargs": kwargs}, {"action": "wide"})
    engine = fast.prepared()
    actions = np.random.default_rng(1).uniform(-1, 1, (30, 2)).astype(np.float32)
    batch, wanted = minibatch(actions), np.random.default_rng(3).normal(size=30).astype(np.float32)
    observations = torch.as_tensor(batch.observations)
    loss = -stock.critic.q1_forward(observations, stock.actor(observations)).mean()
    loss.backward()
    assert engine.actor_gradients(batch.observations) == pytest.approx(
        float(loss.detach()), rel=1e-4, abs=1e-6
    )
    assert_gradients(engine.actor.optimizer, fast.actor, stock.actor)
    stock.critic.zero_grad()
    loss = sum(
        torch.nn.functional.mse_loss(value, torch.as_tensor(wanted)[:, None])
        for value in stock.critic(observations, torch.as_tensor(actions))
    )
    loss.backward()
    assert engine.critics.gradients(batch.observations, actions, wanted) == pytest.approx(
        float(loss.detach()), rel=1e-4
    )
    assert_gradients(engine.critics.optimizer, fast.critic, stock.critic)


@pytest.mark.parametrize("activation", ["nn.ReLU", "nn.Tanh"])
def test_dqn_gradients_equal_autograd(activation: str) -> None:
    """Both branches of Huber's loss agree."""
    kwargs = f"dict(net_arch=[12, 7], activation_fn={activation})"
    fast, stock = models("dqn", {"policy_kwargs": kwargs}, {})
    engine, batch = fast.prepared(), minibatch(np.random.default_rng(1).integers(0, 3, (30, 1)))
    with torch.no_grad():
        best = stock.q_net_target(torch.as_tensor(batch.next_observations)).max(dim=1).values
        wanted = (
            torch.as_tensor(batch.rewards)
            + (1 - torch.as_tensor(batch.dones)) * batch.discounts * best
        )
    values = stock.q_net(torch.as_tensor(batch.observations)).gather(
        1, torch.as_tensor(batch.actions)
    )[:, 0]
    assert 0.1 < float(((values - wanted).abs() > 1).float().mean()) < 0.9
    loss = torch.nn.functional.smooth_l1_loss(values, wanted)
    loss.backward()
    assert engine.gradients(batch) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert_gradients(engine.optimizer, fast.q_net, stock.q_net)


NOISY = {"noise_type": "normal", "noise_std": 0.1}
#: name → algorithm, changes, environment.
TRAININGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sac": ("sac", {}, {"action": "wide"}),
    "sac-fixed-coefficient": (
        "sac",
        {"ent_coef": 0.05, "n_envs": 3, "gradient_steps": -1},
        {"action": "box"},
    ),
    "sac-normalized": (
        "sac",
        {"normalize": True, "train_freq": 4, "gradient_steps": 4, "target_update_interval": 2},
        {"action": "box", "observation": "matrix"},
    ),
    "sac-n-step": (
        "sac",
        {"n_steps": 3, "policy_kwargs": "dict(net_arch=[8], activation_fn=nn.Tanh)"},
        {"action": "box"},
    ),
    "sac-noisy": (
        "sac",
        NOISY | {"ent_coef": "auto_0.1", "target_entropy": -0.5},
        {"action": "wide"},
    ),
    "td3": ("td3", NOISY | {"policy_delay": 3}, {"action": "wide"}),
    "ddpg": (
        "ddpg",
        {
            "noise_type": "ornstein-uhlenbeck",
            "noise_std": 0.3,
            "train_freq": [1, "episode"],
            "gradient_steps": 10,
        },
        {"action": "box"},
    ),
    "dqn": (
        "dqn",
        {
            "n_envs": 2,
            "target_update_interval": 20,
            "exploration_fraction": 0.6,
            "train_freq": 4,
            "gradient_steps": 3,
            "max_grad_norm": 0.05,
        },
        {},
    ),
    "dqn-n-step": (
        "dqn",
        {"n_steps": 3, "target_update_interval": 30, "tau": 0.5, "normalize": True},
        {},
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_equals_sb3_up_to_rounding(name: str) -> None:
    """Replay buffer, parameters, targets, moments, counters and curves agree from one seed."""
    algo, changes, env_kwargs = TRAININGS[name]
    fast, stock = models(algo, changes, env_kwargs)
    logged: list[dict[str, Any]] = []
    for model in (fast, stock):
        seed_generators(1, 0)
        model.action_space.seed(1)  # the toy environments share their spaces
        model.learn(140, callback=TrainingWatch(Interruption()))
        logged.append(
            {
                key: value
                for key, value in model.logger.name_to_value.items()
                if key.startswith("train/")
            }
        )
    assert fast._n_updates == stock._n_updates > 20
    for column in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_allclose(
            getattr(fast.replay_buffer, column),
            getattr(stock.replay_buffer, column),
            rtol=1e-4,
            atol=1e-4,
            err_msg=column,
        )
    for (key, mine), other in zip(
        fast.policy.state_dict().items(), stock.policy.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-3, atol=1e-4, err_msg=key)
    assert logged[0].keys() == logged[1].keys()
    for key, value in logged[0].items():
        assert value == pytest.approx(logged[1][key], rel=1e-2, abs=1e-4), key
    for part in fast._get_torch_save_params()[0]:
        if part.endswith("optimizer"):
            assert_equal_optimizers(fast, stock, part)
    for part in fast._get_torch_save_params()[1]:
        if getattr(stock, part) is not None:
            np.testing.assert_allclose(
                getattr(fast, part).detach().numpy(),
                getattr(stock, part).detach().numpy(),
                rtol=1e-3,
            )


def assert_equal_optimizers(fast: Any, stock: Any, part: str) -> None:
    """Compare moments and counters of two optimizers."""
    states = []
    for model in (fast, stock):
        found = model
        for name in part.split("."):
            found = getattr(found, name)
        states.append(found.state_dict())
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for index, mine in states[0]["state"].items():
        other = states[1]["state"][index]
        assert float(mine["step"]) == float(other["step"])
        for slot in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_allclose(
                mine[slot].numpy(),
                other[slot].numpy(),
                rtol=1e-2,
                atol=1e-5,
                err_msg=f"{part} {slot}",
            )


def test_minibatches_are_sb3s() -> None:
    """The same generator gives the same rows, for several environments and a full buffer."""
    fast, _ = models(
        "sac", {"n_envs": 3, "buffer_size": 60, "learning_starts": 10_000}, {"action": "wide"}
    )
    fast.learn(90)
    np.random.seed(7)
    ours = draw(fast.replay_buffer, 50, None, 0.9)
    np.random.seed(7)
    theirs = fast.replay_buffer.sample(50)
    for column in ("observations", "actions", "next_observations", "dones", "rewards"):
        np.testing.assert_array_equal(
            getattr(ours, column),
            getattr(theirs, column).numpy().reshape(getattr(ours, column).shape),
        )


def test_sb3_reads_the_saved_sac_model(tmp_path: Any) -> None:
    """`SAC.load` gives a model that acts the same and continues training."""
    fast, _ = models("sac", {}, {"action": "wide"})
    fast.learn(80)
    fast.save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip", env=fast.env)
    assert type(loaded) is SAC
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0],
        fast.predict(observations, deterministic=True)[0],
    )
    loaded.learn(60)


def test_uncovered_settings_are_left_to_sb3() -> None:
    """State-dependent exploration, dictionaries and other algorithms use SB3."""
    reasons = {}
    for algo, changes, env_kwargs in (
        ("sac", {"use_sde": True}, {"action": "box"}),
        ("tqc", {}, {"action": "box"}),
        ("sac", {"policy": "MultiInputPolicy"}, {"action": "box", "observation": "dict"}),
        ("dqn", {"policy_kwargs": "dict(net_arch=[600])"}, {}),
        ("td3", {"policy_kwargs": "dict(activation_fn=nn.ELU)"}, {"action": "box"}),
    ):
        trainer = make_trainer(algo, HYPERPARAMETERS | changes, env_kwargs=env_kwargs)
        assert not isinstance(trainer.prepare(0, None), NumpySAC | NumpyTD3 | NumpyDQN)
        reasons[f"{algo} {' '.join(changes)}"] = trainer.builder.reason
    assert "state-dependent exploration" in reasons["sac use_sde"]
    assert "no TQC" in reasons["tqc "]
    assert "MlpPolicy" in reasons["sac policy"]
    assert "wider" in reasons["dqn policy_kwargs"]
    assert "ELU" in reasons["td3 policy_kwargs"]
