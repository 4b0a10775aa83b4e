"""The table of algorithms agrees with SB3 and sb3-contrib, and a new algorithm needs one row."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_airflow.dag_builders.params import retraining_params
from rl_airflow.infrastructure.form_values import read_overrides
from rl_airflow.run.experiment_files import read_experiment_file
from rl_evaluator.playing.environments import environment_maker
from rl_evaluator.playing.episodes import run_episodes
from rl_evaluator.playing.policies import load_policy
from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm, Exporter, Family
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, policy_key
from rl_lifecycle.storage.object_store import get
from rl_trainer.attempts.attempts import TrainRequest, run_attempt
from rl_trainer.errors import InterruptedTrainingError
from rl_trainer.onnx_export.families import WRITERS, exporter_of
from rl_trainer.onnx_export.foreign import ExportRequest, detect_algorithm, export_file
from rl_trainer.settings.algorithm_classes import load_class
from rl_trainer.training.interruptions import Interruption
from tests.trainer.toy_envs import ToyEnv

#: Constructor arguments that the trainer sets itself, or that a user may not set.
OURS = {
    "self",
    "policy",
    "env",
    "seed",
    "device",
    "verbose",
    "tensorboard_log",
    "_init_setup_model",
    "monitor_wrapper",
    "stats_window_size",
    "action_noise",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
}
#: A space of the toy environment for each kind that Gymnasium has.
KINDS = {
    "Box": "box",
    "Discrete": "discrete",
    "MultiDiscrete": "multi_discrete",
    "MultiBinary": "multi_binary",
}
EVERY_ROW = pytest.mark.parametrize("row", ALGORITHMS.values(), ids=ALGORITHMS)


def build(row: Algorithm, action: str | None = None, **changes: Any) -> Any:
    """Build an untrained model on a toy environment."""
    env = ToyEnv("box", KINDS[action or row.actions[0]])
    small = {"buffer_size": 10} if row.keeps_transitions else {}
    return load_class(row)(row.default_policy, env, **small, **changes)


@EVERY_ROW
def test_the_settings_are_the_constructors_with_its_defaults(row: Algorithm) -> None:
    """The table has every hyper-parameter of the constructor with SB3's default, and no other."""
    parameters = inspect.signature(load_class(row).__init__).parameters
    expected = {name: found.default for name, found in parameters.items() if name not in OURS}
    assert dict(row.settings) == expected


@EVERY_ROW
def test_the_action_spaces_are_those_that_sb3_accepts(row: Algorithm) -> None:
    """SB3's constructor accepts the listed kinds and refuses the others."""
    for kind in KINDS:
        if kind in row.actions:
            build(row, kind)
        else:
            with pytest.raises(AssertionError, match="only supports"):
                build(row, kind)


@EVERY_ROW
def test_the_family_is_that_of_its_class(row: Algorithm) -> None:
    """An on-policy class has rollouts, an off-policy class a replay buffer, and others neither."""
    kind = load_class(row)
    families = {
        Family.ON_POLICY: issubclass(kind, OnPolicyAlgorithm),
        Family.OFF_POLICY: issubclass(kind, OffPolicyAlgorithm),
    }
    assert families.get(row.family, not any(families.values()))
    assert row.keeps_transitions == (row.family is Family.OFF_POLICY)
    in_minibatches = row.family is Family.ON_POLICY and "batch_size" in row.settings
    assert (row.minibatches is not None) == in_minibatches


@EVERY_ROW
def test_its_policy_is_exported_and_recognised_as_the_table_says(
    row: Algorithm, tmp_path: Path
) -> None:
    """Exporter, policy state and the recognition of saved models follow the table."""
    model = build(row)
    assert exporter_of(model.policy) is row.exporter
    assert hasattr(model.policy, "lstm_actor") == row.remembers
    model.save(tmp_path / "model.zip")
    found = detect_algorithm(str(tmp_path / "model.zip"))
    # DDPG has TD3's policies, and its class saves nothing that TD3's does not.
    assert found == ("td3" if row.name == "ddpg" else row.name)


def test_every_exporter_has_a_writer() -> None:
    """The export has a function for each exporter of the table."""
    assert WRITERS.keys() == set(Exporter)


class CautiousPPO(PPO):
    """A PPO variant with a narrower clip range, which the table does not have."""

    def __init__(self, policy: Any, env: Any, caution: float = 0.5, **more: Any) -> None:
        super().__init__(policy, env, clip_range=0.2 * (1 - caution), **more)
        self.caution = caution


CAUTIOUS_PPO = Algorithm(
    "cautious_ppo",
    f"{__name__}:CautiousPPO",
    Family.ON_POLICY,
    {"n_steps": 2048, "batch_size": 64, "n_epochs": 10, "caution": 0.5, "policy_kwargs": None},
    ("Discrete",),
    Exporter.ACTOR_CRITIC,
    minibatches="all",
    saved_attributes=("n_epochs", "caution"),
)
FILE = """
env_id: CartPole-v1
env_kwargs: {max_episode_steps: 50}
algo: cautious_ppo
total_timesteps: 3072
checkpoint_every: 1000
trials: 1
hyperparameters: {n_envs: 2, n_steps: 64, batch_size: 32, n_epochs: 1, caution: 0.25}
evaluation: {return_range: [0, 500], crash_below: 100}
"""


def test_one_row_more_is_all_that_an_algorithm_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one row the experiment is read, shown, trained, resumed, exported and played."""
    path = tmp_path / "cautious.yaml"
    path.write_text(FILE)
    assert "unknown algorithm 'cautious_ppo'" in read_experiment_file(path).problem

    monkeypatch.setitem(ALGORITHMS, CAUTIOUS_PPO.name, CAUTIOUS_PPO)
    read = read_experiment_file(path)
    assert read.experiment is not None, read.problem
    filled = {name: param.value for name, param in retraining_params(read.experiment).items()}
    assert read_overrides(filled, {}, "form")["trials"] == 1

    digest = train(path, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        train(path, tmp_path / "cut", interrupted_at=12)
    assert train(path, tmp_path / "cut") == digest

    store = DirectoryStore(tmp_path / "cut")
    trial = TrialId("cautious", "local", "seed-0")
    policy = load_policy(get(store, policy_key(trial, 3072, "onnx")).data)
    assert policy.metadata.algo == "cautious_ppo"
    assert run_episodes(policy, environment_maker("CartPole-v1", {}), range(2))[0].total

    (saved,) = (tmp_path / "cut").rglob("model.zip")
    assert detect_algorithm(str(saved)) == "cautious_ppo"
    out = str(tmp_path / "again.onnx")
    exported = export_file(ExportRequest(str(saved), out, trust=True, env_id="CartPole-v1"))
    assert (exported["algo"], exported["digest"]) == ("cautious_ppo", digest)


def train(path: Path, store: Path, interrupted_at: int | None = None) -> str:
    """Train the experiment in this process.

    :param interrupted_at: the update with an interruption notice; None: no interruption

    :return: the digest of its parameters
    """
    interruption, updates = Interruption(), 0
    original = PPO.train

    def counted(model: Any) -> None:
        nonlocal updates
        updates += 1
        if updates == interrupted_at:
            interruption.give_notice("a test")
        original(model)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CautiousPPO, "train", counted)
        try:
            result = run_attempt(TrainRequest(str(path), str(store), quiet=True), interruption)
        finally:
            interruption.close()
    return str(result["digest"])
