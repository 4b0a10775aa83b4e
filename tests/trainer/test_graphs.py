"""Recorded updates are SB3's PPO to the bit, as far as a CPU can show it: everything but the recording itself runs here."""

import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from rl_trainer import trials
from rl_trainer.attempts import TrainRequest, run_attempt
from rl_trainer.digests import digest_arrays
from rl_trainer.errors import DivergedError, OtherHardwareError
from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.captures import PlainCalls
from rl_trainer.graphs.requests import find_capturer
from rl_trainer.graphs.self_check import why_not_equal
from rl_trainer.interruptions import Interruption
from rl_trainer.model_state import capture
from tests.trainer.chains import make_trainer, train_chain, whole_digest
from tests.trainer.conftest import TINY_PPO, merged
from tests.trainer.graph_models import HYPERPARAMETERS, PICTURES, RefusesToRecord, models, train
from tests.trainer.tapes import TapedCalls

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


@pytest.mark.parametrize(
    ("changes", "env_kwargs"),
    [
        ({}, {}),
        ({}, {"action": "wide"}),
        ({"target_kl": 0.0002}, {}),
        ({"clip_range_vf": 0.1, "normalize_advantage": False}, {"action": "wide"}),
        (
            {
                "batch_size": 120,
                "policy_kwargs": "dict(optimizer_class=optim.AdamW, optimizer_kwargs=dict(amsgrad=True))",
            },
            {},
        ),
        ({"use_sde": True}, {"action": "box"}),
        ({}, {"observation": "discrete", "action": "multi_discrete"}),
        ({}, {"observation": "double", "action": "multi_binary"}),
        (PICTURES, {"observation": "image"}),
        (
            {"policy": "MultiInputPolicy", "policy_kwargs": "dict(share_features_extractor=False)"},
            {"observation": "dict", "action": "box"},
        ),
    ],
)
def test_train_takes_the_same_steps(changes: dict[str, Any], env_kwargs: dict[str, Any]) -> None:
    """Three rollouts with schedules on the way: parameters, moments, counters, options, log and draws are stock SB3's, to the bit."""
    ours, stock = models(changes, env_kwargs)
    stopped = False
    for turn in range(3):
        logged, expected = train(ours, turn), train(stock, turn)
        assert logged == expected
        mine, theirs = capture(ours), capture(stock)
        assert mine.values == theirs.values
        assert digest_arrays(mine.arrays) == digest_arrays(theirs.arrays)
        assert (
            ours.policy.optimizer.state_dict()["param_groups"]
            == stock.policy.optimizer.state_dict()["param_groups"]
        )
        stopped |= (
            ours._n_updates < (turn + 1) * ours.n_epochs or len(ours.prepared().logged()) % 4 != 0
        )
    assert stopped == ("target_kl" in changes) or "policy" in changes or "batch_size" in changes


@pytest.mark.parametrize(
    ("changes", "env_kwargs"),
    [
        ({}, {}),
        ({"clip_range_vf": "lin_0.1"}, {"action": "wide"}),
        ({"target_kl": 0.0002}, {}),
        ({"use_sde": True}, {"action": "box"}),
        (
            {
                "policy_kwargs": "dict(optimizer_class=optim.AdamW, optimizer_kwargs=dict(amsgrad=True))"
            },
            {"action": "multi_discrete"},
        ),
        (PICTURES, {"observation": "image"}),
        ({"policy": "MultiInputPolicy"}, {"observation": "dict", "action": "box"}),
    ],
)
def test_kernels_replayed_without_python_take_the_same_steps(
    changes: dict[str, Any], env_kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is baked in that changes: rows, minibatch, learning rate, clip ranges and Adam's counter are read where they are kept."""
    monkeypatch.setattr(
        sys.modules["torch.optim.adam"], "_get_capturable_supported_devices", lambda **_: ["cpu"]
    )
    monkeypatch.setattr(
        torch.optim.Optimizer, "_warned_capturable_if_run_uncaptured", True, raising=False
    )
    ours, _ = models(changes, env_kwargs)
    ours.capturer = TapedCalls()
    assert why_not_equal(ours) == ""
    ours, stock = models(changes, env_kwargs)
    ours.capturer = tapes = TapedCalls()
    for turn in range(3):
        logged, expected = train(ours, turn), train(stock, turn)
        assert logged.keys() == expected.keys()
        for name, value in expected.items():
            assert logged[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
        mine, theirs = capture(ours), capture(stock)
        assert mine.values == theirs.values
        for name, array in theirs.arrays.items():
            np.testing.assert_allclose(mine.arrays[name], array, rtol=1e-3, atol=2e-6, err_msg=name)
        stock.set_parameters(
            copy.deepcopy(ours.get_parameters())
        )  # so that rounding does not grow over the rollouts
    assert tapes.recorded == 2
    assert tapes.replayed >= 3 * 2


def test_a_trial_is_committed_exported_and_resumed_on_its_path_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_spec: Any
) -> None:
    """Checkpoints, policies and model.zip of recorded updates; a machine that cannot record, or has no GPU, does not go on with them."""
    monkeypatch.setattr(trials, "find_capturer", lambda compute, **_: PlainCalls())
    asked = merged(
        TINY_PPO, compute={"gpu_updates": "cuda_graphs", "instance_types": ["g5.xlarge"]}
    )
    request = TrainRequest(str(write_spec(asked)), str(tmp_path / "store"), quiet=True)
    done = run_attempt(request, Interruption())
    assert (done["path"], done["step"]) == ("graphs", 6144)
    manifests = (tmp_path / "store" / "checkpoints").rglob("manifest.json")
    assert {
        json.loads(manifest.read_bytes())["numeric_class"]["path"] for manifest in manifests
    } == {"graphs"}
    assert (
        type(PPO.load(io.BytesIO(next((tmp_path / "store").rglob("model.zip")).read_bytes())))
        is PPO
    )
    assert len(list((tmp_path / "store" / "policies").rglob("*.onnx"))) == 3
    monkeypatch.setattr(trials, "find_capturer", lambda compute, **_: RefusesToRecord())
    with pytest.raises(OtherHardwareError, match="path: graphs → torch"):
        run_attempt(request, Interruption())
    monkeypatch.setattr(trials, "find_capturer", find_capturer)
    with pytest.raises(
        OtherHardwareError,
        match="torch finds none on this machine, though the training has begun with one",
    ):
        run_attempt(request, Interruption())
    monkeypatch.setattr(trials, "find_capturer", lambda compute, **_: RefusesToRecord())
    short = TrainRequest(
        str(write_spec(merged(asked, total_timesteps=2048))), str(tmp_path / "other"), quiet=True
    )
    assert run_attempt(short, Interruption())["path"] == "torch"
    logs = "".join(
        path.read_text() for path in (tmp_path / "other" / "logs").rglob("*") if path.is_file()
    )
    assert "on torch (no CUDA graphs: they cannot be recorded: CUDA error" in logs


def test_a_deviation_that_has_gone_to_nothing_is_called_diverged() -> None:
    """Recorded updates do not look at their distributions; the next rollout does."""
    changes = HYPERPARAMETERS | {
        "batch_size": 120,
        "n_epochs": 1,
        "learning_rate": 1e4,
        "max_grad_norm": 1e9,
    }
    with pytest.raises(DivergedError, match="a deviation of the policy is 0"):
        train_chain(
            make_trainer(
                "ppo", changes, env_kwargs={"action": "box"}, fast=False, capturer=PlainCalls()
            ),
            through_files=False,
        )


def test_an_optimizer_that_was_loaded_in_between_is_taken_up() -> None:
    """What a warm start or a checkpoint puts there is trained on, though the recording knows other tensors."""
    ours, stock = models({}, {})
    train(ours, 0), train(stock, 0)
    for model in (ours, stock):
        state = copy.deepcopy(model.policy.optimizer.state_dict())
        for slots in state["state"].values():
            slots["exp_avg"] *= 2
            slots["step"] += 5
        model.policy.optimizer.load_state_dict(state)
    train(ours, 1), train(stock, 1)
    assert digest_arrays(capture(ours).arrays) == digest_arrays(capture(stock).arrays)


@pytest.mark.parametrize("changes", [{"normalize": True}, {"use_sde": True, "sde_sample_freq": 4}])
def test_a_chain_ends_where_stock_sb3_ends(changes: dict[str, Any]) -> None:
    """Recorded anew in each segment, killed between them or not, it leaves the same bytes as SB3's own updates."""
    chosen: dict[str, Any] = {"env_kwargs": {"action": "box"}, "fast": False}
    ends = [
        train_chain(
            make_trainer("ppo", HYPERPARAMETERS | changes, capturer=capturer, **chosen),
            through_files=killed,
        )
        for capturer, killed in ((PlainCalls(), False), (PlainCalls(), True), (None, False))
    ]
    assert len({whole_digest(end) for end in ends}) == 1
    assert [type(end.model) for end in ends] == [GraphPPO, GraphPPO, PPO]


def test_a_saved_model_is_plain() -> None:
    """Stock `PPO.load` reads it, trains it on, and finds an optimizer that is not bound to a GPU."""
    ours, _ = models({}, {})
    train(ours, 0)
    file = io.BytesIO()
    ours.save(file)
    file.seek(0)
    loaded = PPO.load(file, env=ours.env)
    assert not loaded.policy.optimizer.param_groups[0]["capturable"]
    assert (
        loaded.policy.optimizer.param_groups[0]["lr"] == ours.policy.optimizer.param_groups[0]["lr"]
    )
    loaded.learn(120)


def test_the_path_is_part_of_the_numeric_class_and_says_why_not() -> None:
    """What cannot be recorded is left to SB3's own updates, not to the NumPy path, and the log names the reason."""
    found = {}
    for name, algo, changes in (
        ("ppo", "ppo", {}),
        ("optimizer", "ppo", {"policy_kwargs": "dict(optimizer_class=optim.SGD)"}),
        ("a2c", "a2c", {}),
    ):
        chosen = {key: HYPERPARAMETERS[key] for key in ("n_envs", "n_steps")} | changes
        trainer = make_trainer(algo, chosen, capturer=PlainCalls())
        trainer.prepare(0, None)
        found[name] = trainer.builder.path, trainer.builder.reason
    assert found == {
        "ppo": ("graphs", ""),
        "optimizer": ("torch", "no CUDA graphs: another optimizer than plain Adam or AdamW"),
        "a2c": (
            "torch",
            "no CUDA graphs: not PPO, DQN or SAC with MlpPolicy, CnnPolicy or MultiInputPolicy",
        ),
    }
