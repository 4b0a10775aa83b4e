"""Schedules cover the whole training as in one `learn` of SB3, not each segment."""

from typing import Any

import pytest

from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_trainer.settings.algorithm_classes import load_class
from tests.trainer.chains import TOY, make_trainer, train_chain

OFF: dict[str, Any] = {
    "buffer_size": 500,
    "learning_starts": 40,
    "batch_size": 4,
    "learning_rate": "lin_0.01",
    "train_freq": 20,
    "policy_kwargs": "dict(net_arch=[4])",
}
ON: dict[str, Any] = {
    "n_envs": 2,
    "n_steps": 30,
    "learning_rate": "lin_0.01",
    "policy_kwargs": "dict(net_arch=[4])",
}
BATCHES = ON | {"batch_size": 20}
BOX = {"action": "box"}
SEGMENT = 120
#: algorithm → hyper-parameters, arguments of the environment.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppo": (BATCHES | {"clip_range": "lin_0.3", "clip_range_vf": "lin_0.2", "n_epochs": 2}, {}),
    "a2c": (ON | {"n_steps": 10}, {}),
    "trpo": (BATCHES, {}),
    "maskable_ppo": (BATCHES | {"clip_range": "lin_0.3", "n_epochs": 2}, {}),
    "ppo_lstm": (
        BATCHES
        | {
            "clip_range": "lin_0.3",
            "n_epochs": 2,
            "policy_kwargs": "dict(net_arch=[4], lstm_hidden_size=4)",
        },
        {},
    ),
    "dqn": (OFF | {"exploration_fraction": 0.7, "target_update_interval": 50}, {}),
    "qrdqn": (
        OFF | {"exploration_fraction": 0.7, "policy_kwargs": "dict(net_arch=[4], n_quantiles=4)"},
        {},
    ),
    "sac": (OFF, BOX),
    "td3": (OFF | {"policy_delay": 3}, BOX),
    "ddpg": (OFF, BOX),
    "tqc": (OFF | {"policy_kwargs": "dict(net_arch=[4], n_quantiles=4)"}, BOX),
    "crossq": (OFF | {"policy_delay": 3}, BOX),
    "ars": (
        {"n_delta": 1, "learning_rate": "lin_0.02", "delta_std": "lin_0.05"},
        {"max_episode_steps": 20},
    ),
}


def test_every_algorithm_is_in_the_table() -> None:
    """Every algorithm has a case here."""
    assert CASES.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algo", CASES)
def test_schedules_equal_one_stock_learn(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every update of three segments has the learning rate, epsilon and counters of one `learn`."""
    hyperparameters, env_kwargs = CASES[algo]
    seen: list[tuple[Any, ...]] = []
    kind = load_class(ALGORITHMS[algo])
    name = "_do_one_update" if algo == "ars" else "train"
    original = getattr(kind, name)

    def spy(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        seen.append(_scheduled(self))

    monkeypatch.setattr(kind, name, spy)
    env_id = (
        "Pendulum-v1" if algo == "ars" else TOY
    )  # episodes of one length, so that iterations have one length, too
    chosen = {"env_id": env_id, "env_kwargs": env_kwargs, "fast": False}
    train_chain(
        make_trainer(algo, hyperparameters, segment=SEGMENT, total=3 * SEGMENT, **chosen),
        through_files=True,
    )
    chain = seen.copy()
    seen.clear()
    make_trainer(algo, hyperparameters, **chosen).prepare(0, None).learn(3 * SEGMENT)
    assert chain == seen
    assert len({row[1:3] for row in chain}) >= 6  # a value falls in every segment


def _scheduled(model: Any) -> tuple[Any, ...]:
    """Return all scheduled values after an update."""
    progress = model._current_progress_remaining
    schedules = [
        getattr(model, name, None) for name in ("clip_range", "clip_range_vf", "delta_std_schedule")
    ]
    ranges = [schedule(progress) for schedule in schedules if schedule is not None]
    parts = [getattr(model, part, None) for part in ("policy", "actor", "critic")]
    optimizers = [part.optimizer for part in parts if getattr(part, "optimizer", None) is not None]
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    return (
        model.num_timesteps,
        progress,
        model.lr_schedule(progress),
        rates,
        ranges,
        getattr(model, "exploration_rate", None),
        model._n_updates,
        getattr(model, "_n_calls", None),
    )
