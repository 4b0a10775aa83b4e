"""Models trained elsewhere are exported, and an experiment's wheels are used."""

import base64
import hashlib
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from gymnasium.spaces import Box
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from rl_lifecycle.evaluation.policies import METADATA_KEY, PolicyRecord
from rl_lifecycle.registry.parameter_files import digest_parameters
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.foreign import ExportRequest, detect_algorithm, export_file
from tests.trainer.conftest import TINY_PPO, Trainer, json_of, merged
from tests.trainer.toy_envs import ToyEnv


@pytest.mark.parametrize(
    ("kind", "action", "algo"),
    [
        (PPO, "discrete", "ppo"),
        (A2C, "box", "a2c"),
        (DQN, "discrete", "dqn"),
        (SAC, "wide", "sac"),
        (DDPG, "box", "td3"),
    ],
)
def test_the_algorithm_of_a_file_is_found_without_unpickling(
    tmp_path: Path, kind: Any, action: str, algo: str
) -> None:
    """The JSON in the file names the algorithm; DDPG is recognised as TD3, which acts the same."""
    small = {"buffer_size": 10} if kind in (DQN, SAC, DDPG) else {}
    kind("MlpPolicy", ToyEnv(action=action), **small).save(tmp_path / "model.zip")
    assert detect_algorithm(str(tmp_path / "model.zip")) == algo


def test_a_foreign_model_with_statistics_is_exported(tmp_path: Path, trainer: Trainer) -> None:
    """The ONNX file normalises: raw observations give SB3's actions."""
    env = VecNormalize(DummyVecEnv([lambda: ToyEnv(action="wide")]))
    model = PPO("MlpPolicy", env, n_steps=64).learn(64)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "statistics.pkl"))
    out = tmp_path / "policy.onnx"
    result = json_of(
        trainer(
            "export",
            "--model",
            str(tmp_path / "model.zip"),
            "--vecnormalize",
            str(tmp_path / "statistics.pkl"),
            "--out",
            str(out),
            "--trust",
            "--json",
            "--env-kwargs",
            '{"action": "wide"}',
        )
    )
    assert (result["algo"], result["equality"]["sampled_largest_difference"] < 1e-5) == (
        "ppo",
        True,
    )
    assert (
        digest_parameters(out.with_suffix(".safetensors").read_bytes(), "beside")
        == result["digest"]
    )
    metadata = (
        onnxruntime.InferenceSession(out.read_bytes())
        .get_modelmeta()
        .custom_metadata_map[METADATA_KEY]
    )
    assert json.loads(metadata)["env_kwargs"] == {"action": "wide"}
    raw = np.random.default_rng(0).uniform(-2, 2, (20, 3)).astype(np.float32)
    expected, _ = model.predict(env.normalize_obs(raw), deterministic=True)
    actions = onnxruntime.InferenceSession(out.read_bytes()).run(["action"], {"obs": raw})[0]
    np.testing.assert_allclose(actions, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("observation", "other", "message"),
    [
        ("box", "stacked", "holds statistics of shape [6], but the observations of --model"),
        ("dict", "goal", "holds statistics of 'achieved_goal' of shape [2], but"),
        ("dict", "box", "holds statistics of shape [3], but"),
    ],
)
def test_statistics_of_other_observations_are_refused_with_both_shapes(
    tmp_path: Path, observation: str, other: str, message: str
) -> None:
    """Statistics of another shape are bad input, not an error of ONNX."""
    policy = "MultiInputPolicy" if observation == "dict" else "MlpPolicy"
    PPO(policy, ToyEnv(observation), n_steps=8, batch_size=8).save(tmp_path / "model.zip")
    env: Any = DummyVecEnv([lambda: ToyEnv("box" if other == "stacked" else other)])
    VecNormalize(VecFrameStack(env, 2) if other == "stacked" else env).save(
        str(tmp_path / "other.pkl")
    )
    request = ExportRequest(
        model=str(tmp_path / "model.zip"),
        out=str(tmp_path / "policy.onnx"),
        vecnormalize=str(tmp_path / "other.pkl"),
        trust=True,
    )
    with pytest.raises(BadInputError) as refused:
        export_file(request)
    assert message in str(refused.value)
    assert "use the statistics that were saved with this model" in str(refused.value)
    assert not (tmp_path / "policy.onnx").exists()


def old_class(kind: type, monkeypatch: pytest.MonkeyPatch) -> type:
    """Build a class in a module named gym, as old models contain it."""
    name = kind.__module__.replace("gymnasium", "gym")
    for part in ("gym", "gym.spaces", name):
        if part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
    vars(sys.modules["gym"])["__version__"] = "0.21.0"  # SB3 writes it into the file
    made = type(kind.__name__, (kind,), {"__module__": name})
    setattr(sys.modules[name], kind.__name__, made)
    return made


def test_a_model_of_gyms_time_is_exported_without_gym(tmp_path: Path, trainer: Trainer) -> None:
    """The model's spaces and statistics contain classes of Gym, which is not installed."""
    env = VecNormalize(DummyVecEnv([lambda: ToyEnv(action="wide")]))
    model = PPO("MlpPolicy", env, n_steps=64).learn(64)
    raw = np.random.default_rng(0).uniform(-2, 2, (20, 3)).astype(np.float32)
    expected, _ = model.predict(env.normalize_obs(raw), deterministic=True)
    with pytest.MonkeyPatch.context() as patch:
        old = old_class(Box, patch)
        spaces = [
            old(low=space.low, high=space.high)
            for space in (env.observation_space, env.action_space)
        ]
        model.observation_space, model.action_space = env.observation_space, env.action_space = (
            spaces
        )
        model.save(tmp_path / "model.zip")
        env.save(str(tmp_path / "statistics.pkl"))
    assert b"gym.spaces.box" in (tmp_path / "statistics.pkl").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        space = base64.b64decode(json.loads(archive.read("data"))["action_space"][":serialized:"])
    assert b"gym.spaces.box" in space
    result = json_of(
        trainer(
            "export",
            "--model",
            str(tmp_path / "model.zip"),
            "--vecnormalize",
            str(tmp_path / "statistics.pkl"),
            "--out",
            str(tmp_path / "policy.onnx"),
            "--trust",
            "--json",
        )
    )
    assert result["algo"] == "ppo"
    actions = onnxruntime.InferenceSession((tmp_path / "policy.onnx").read_bytes()).run(
        ["action"], {"obs": raw}
    )[0]
    np.testing.assert_allclose(actions, expected, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_model_is_refused_in_one_line(
    tmp_path: Path, trainer: Trainer, content: bytes
) -> None:
    """Truncated, foreign and empty files are refused in one line."""
    (tmp_path / "model.zip").write_bytes(content)
    done = trainer(
        "export",
        "--model",
        str(tmp_path / "model.zip"),
        "--out",
        str(tmp_path / "p.onnx"),
        "--trust",
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is not a model.zip of SB3" in done.stderr


ENV_MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
class OwnCartPole(CartPoleEnv):
    def __init__(self, length, **kwargs):
        super().__init__(**kwargs)
        self.length = length
class Halved(gym.RewardWrapper):
    def reward(self, reward):
        return reward / 2
gym.register("OwnCartPole-v0", OwnCartPole, max_episode_steps=50)
"""


def test_an_environment_from_a_wheel_is_trained_on(tmp_path: Path, trainer: Trainer) -> None:
    """The wheel beside the experiment file is stored in `artifacts/` under its digest."""
    wheel = tmp_path / "own_envs-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("own_envs/__init__.py", ENV_MODULE)
        archive.writestr(
            "own_envs-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: own-envs\nVersion: 1.0\n",
        )
    file, store = tmp_path / "own.yaml", tmp_path / "store"
    document = merged(
        TINY_PPO,
        env_id="own_envs:OwnCartPole-v0",
        env_kwargs={"length": 0.4},
        requirements=[wheel.name],
        hyperparameters={
            "env_wrapper": [
                "own_envs.Halved",
                {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 40}},
            ]
        },
    )
    file.write_text(yaml.safe_dump(document))
    assert (
        json_of(trainer("train", "--spec", str(file), "--store", str(store), "--json", "--quiet"))[
            "state"
        ]
        == "finished"
    )
    record = PolicyRecord.from_json(
        (store / "policies/own/local/seed-0/000000006144.json").read_bytes()
    )
    assert [wrapper.name for wrapper in record.metadata.wrappers] == [
        "own_envs.Halved",
        "gymnasium.wrappers.TimeLimit",
    ]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    stored = store / "artifacts" / digest / wheel.name
    stored.write_bytes(b"damaged")
    spec = store / "specs/own/local/spec.json"
    done = trainer("train", "--spec", str(spec), "--store", str(store), "--quiet")
    assert done.returncode == 2
    assert "requirements" in done.stderr
    assert len(done.stderr.splitlines()) == 1
