"""A bad spec is refused before training, in one line with the key and the allowed values."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.experiment.tuned import TUNED
from rl_trainer.errors import BadInputError
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.models import ModelBuilder
from rl_trainer.training.preparation import make_trainer
from tests.trainer.conftest import TINY_PPO, Trainer, frozen, json_of, merged
from tests.trainer.toy_envs import ToyEnv


class BrokenEnv(gym.Env[Any, Any]):
    """An environment with spaces that cannot be trained on, or one that raises."""

    action_space = spaces.Discrete(2)

    def __init__(self, how: str = "") -> None:
        if how == "init":
            raise RuntimeError("no licence for the simulator")
        self.how = how
        self.observation_space = (
            spaces.Tuple((spaces.Discrete(2),)) if how == "tuple" else spaces.Box(-1, 1, (2,))
        )
        if how == "start":
            self.action_space = spaces.Discrete(3, start=-1)
        if how == "unbounded":
            self.action_space = spaces.Box(-float("inf"), float("inf"), (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Raise, if the environment is broken in this way."""
        raise RuntimeError("no level of that name")


gym.register("Broken-v0", f"{__name__}:BrokenEnv", max_episode_steps=20)
gym.register(
    "Goal-v0", ToyEnv, max_episode_steps=20, kwargs={"observation": "dict", "action": "box"}
)
PENDULUM = {"env_id": "Pendulum-v1"}


def hyper(**values: Any) -> dict[str, Any]:
    """Return TINY_PPO with other hyper-parameters."""
    return {"hyperparameters": values}


def other(algo: str, **values: Any) -> dict[str, Any]:
    """Return another algorithm with its hyper-parameters."""
    return {"algo": algo, "hyperparameters": values}


def frozen_unchecked(document: dict[str, Any]) -> Spec:
    """Freeze an experiment as an earlier release did, without a check of its hyper-parameters."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "rl_lifecycle.experiment.spec.freeze_hyperparameters",
            lambda algo, values, source: values,
        )
        return frozen(document)


def broken(how: str) -> dict[str, Any]:
    """Return an experiment with a broken environment."""
    return {"env_id": "Broken-v0", "env_kwargs": {"how": how}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # unknown keys and wrong types
        (
            hyper(lerning_rate=1),
            r"hyperparameters.lerning_rate: unknown for ppo \(did you mean learning_rate\?\); "
            r"allowed: batch_size, ",
        ),
        (hyper(seed=1), "hyperparameters.seed: unknown for ppo"),
        (hyper(normalize={"foo": 1}), "hyperparameters.normalize.foo: unknown"),
        (hyper(n_epochs="many"), "hyperparameters.n_epochs: must be a whole number, not 'many'"),
        (hyper(gamma="x"), "hyperparameters.gamma: must be a number"),
        (hyper(gamma=2), "hyperparameters.gamma: must be from 0 to 1, not 2"),
        (hyper(use_sde="maybe"), "hyperparameters.use_sde: must be true or false"),
        (hyper(ent_coef="auto"), "ent_coef: must be a number, not"),
        (hyper(learning_rate="lin_x"), "learning_rate: must be a number or lin_<number>"),
        (hyper(learning_rate=-1), "learning_rate: must be at"),
        (hyper(clip_range="lin_-1"), "hyperparameters.clip_range: must be at least 0"),
        (hyper(frame_stack=0), "frame_stack: must be from 1 to 1000, not 0"),
        (
            hyper(policy_kwargs="foo("),
            "hyperparameters.policy_kwargs: 'foo\\(' is not an expression",
        ),
        (hyper(policy_kwargs=3), "policy_kwargs: must"),
        (
            hyper(policy_kwargs="dict(foo=1)"),
            "hyperparameters.policy_kwargs.foo: unknown for ppo's MlpPolicy; allowed: act",
        ),
        (
            hyper(policy_kwargs="dict(net_arch=[-5])"),
            "policy_kwargs.net_arch: must be from 1 to",
        ),
        (
            hyper(normalize="dict(norm_obs='x')"),
            "hyperparameters.normalize.norm_obs: must be true or false",
        ),
        (
            hyper(normalize="dict(norm_obs_keys=['x'])"),
            "hyperparameters.normalize.norm_obs_keys: needs observations that are a Dict",
        ),
        (hyper(normalize=3), "normalize: must be true"),
        (
            hyper(monitor_kwargs="dict(foo=1)"),
            "hyperparameters.monitor_kwargs.foo: unknown; allowed: allow_early_resets",
        ),
        (other("dqn", learning_starts=-5), "learning_starts: must be at least 0"),
        (other("dqn", buffer_size=0), "buffer_size: must be at least 1"),
        (other("dqn", gradient_steps=-5), "gradient_steps: must be at least -1"),
        (other("dqn", tau=5), "hyperparameters.tau: must be from 0 to 1"),
        (
            other("dqn", replay_buffer_class="os.system"),
            "hyperparameters.replay_buffer_class: the name 'os.system' is not allowed",
        ),
        (
            PENDULUM | other("sac", ent_coef="foo"),
            "hyperparameters.ent_coef: must be a number or auto",
        ),
        (
            PENDULUM | other("tqc", top_quantiles_to_drop_per_net=25),
            "top_quantiles_to_drop_per_net: must be less than n_quantiles = 25",
        ),
        (
            PENDULUM | other("td3", noise_type="foo", noise_std=0.1),
            "hyperparameters.noise_type: 'foo' is unknown; allowed: normal",
        ),
        (PENDULUM | other("td3", noise_type="normal"), "hyperparameters.noise_std: is missing"),
        # actions and observations
        (
            PENDULUM | other("dqn"),
            r"algo: dqn cannot handle the actions of Pendulum-v1, Box.*needs Discrete; .* for "
            r"Box: a2c, ars, crossq",
        ),
        *[
            (
                other(algo),
                f"algo: {algo} cannot handle the actions of CartPole-v1, Discrete.*needs Box",
            )
            for algo in ("sac", "td3", "crossq")
        ],
        (PENDULUM | other("maskable_ppo"), "algo: maskable_ppo cannot handle"),
        (other("maskable_ppo"), "needs an environment with action_masks"),
        (
            other("dqn", noise_type="normal", noise_std=0.1),
            "hyperparameters.noise_type: unknown for dqn",
        ),
        (hyper(use_sde=True), "only be used with continuous actions"),
        (hyper(policy="CnnPolicy"), "hyperparameters.policy: CnnPolicy needs images"),
        (
            hyper(policy="MultiInputPolicy"),
            "policy: MultiInputPolicy does not take .*allowed: CnnPolicy, MlpPolicy",
        ),
        (
            {"env_id": "Goal-v0"} | other("sac"),
            "policy: MlpPolicy does not take .*allowed: MultiInputPolicy",
        ),
        (
            {"env_id": "Goal-v0"}
            | other("sac", policy="MultiInputPolicy", replay_buffer_class="HerReplayBuffer"),
            "needs .*achieved",
        ),
        (
            other("ppo_lstm", policy="MlpPolicy", batch_size=64),
            "hyperparameters.policy: 'MlpPolicy' is unknown; allowed: MlpLstmPolicy",
        ),
        # environments
        (broken("init"), "env_id: Broken-v0 cannot be made: no licence"),
        (broken(""), "does not pass SB3's checker: no level of that name"),
        (
            broken("tuple"),
            r"env_id: no policy takes the spaces of Broken-v0, Tuple.*so that they are Box, "
            r"Discrete",
        ),
        (
            broken("start"),
            "start=-1.*, do not start at 0; wrap the environment",
        ),
        (broken("unbounded"), "are unbounded; wrap the environment, so that they have bounds"),
        ({"env_kwargs": {"foo": 1}}, "env_id: CartPole-v1 cannot be made: .*foo"),
        # wrappers
        (
            hyper(env_wrapper="os.path.join"),
            "env_wrapper: 'os.path.join' is not allowed; it must come from gymnasium.wrappers, ",
        ),
        (
            hyper(env_wrapper="gymnasium.wrappers.NoSuch"),
            "env_wrapper: 'gymnasium.wrappers.NoSuch' cannot be imported",
        ),
        (
            hyper(env_wrapper=[{"gymnasium.wrappers.TimeLimit": {"foo": 1}}]),
            "env_wrapper: gymnasium.wrappers.TimeLimit refuses .*foo",
        ),
        (hyper(env_wrapper=[1]), "env_wrapper: must be a dotted name"),
        # rollouts and segments
        (
            hyper(batch_size=4096),
            "hyperparameters.batch_size: 4096 does not fit a rollout of n_steps × n_envs = 128 "
            "steps; allowed: 2 to 128",
        ),
        (hyper(batch_size=1), "batch_size: 1 does not fit a rollout .*allowed: 2 to 128"),
        (hyper(batch_size=127), "batch_size: 127 leaves a last minibatch of one step"),
        (hyper(n_steps=1, n_envs=1, batch_size=1), "batch_size"),
        (other("trpo", n_steps=64, batch_size=99), "99 does not fit a rollout"),
        ({"checkpoint_every": 500}, "set checkpoint_every to at least 1024"),
        (other("ars", n_delta=64), "checkpoint_every to at least 6400"),
        (other("dqn", train_freq=[1, "episode"], n_envs=2), "a number of episodes needs n_envs: 1"),
        (
            other("dqn", buffer_size=10**12),
            "buffer_size: 1000000000000 transitions of 52 bytes need 48428.8 GiB.*; set at most ",
        ),
        # settings that could not be resumed exactly
        (
            other("dqn", optimize_memory_usage=True),
            "optimize_memory_usage: true cannot be resumed exactly",
        ),
        (
            PENDULUM
            | other(
                "sac",
                policy="MultiInputPolicy",
                replay_buffer_class="HerReplayBuffer",
                replay_buffer_kwargs="dict(copy_info_dict=True)",
            ),
            "copy_info_dict=True cannot be resumed exactly",
        ),
    ],
)
def test_a_mistake_is_named_before_training(changes: dict[str, Any], message: str) -> None:
    """Most mistakes are named by key; SB3's and the environment's errors are quoted."""
    document = {**TINY_PPO, **changes} if "algo" in changes else merged(TINY_PPO, **changes)
    with pytest.raises(BadInputError, match=message) as raised:
        make_trainer(frozen_unchecked(document), "seed-0", None).prepare(0, None)
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) == 1


def test_every_tuned_entry_is_accepted() -> None:
    """The values of rl_zoo3 (`hyperparameters: zoo`) pass every check of keys, types and ranges."""
    from rl_lifecycle.experiment.hyperparameters import resolve_hyperparameters

    for algo, environments in TUNED.items():
        for env_id in environments:
            experiment = frozen(
                {**TINY_PPO, "algo": algo, "env_id": env_id, "hyperparameters": "zoo"}
            ).experiment
            settings = read_settings(algo, resolve_hyperparameters(experiment))
            assert ModelBuilder(settings).settings.algorithm.name == algo


def test_a_checkpoint_of_another_spec_is_refused(
    tmp_path: Path, trainer: Trainer, write_spec: Any
) -> None:
    """Two specs of one run may not continue each other, and a missing wheel is named."""
    store = str(tmp_path / "store")
    json_of(
        trainer("train", "--spec", str(write_spec(TINY_PPO)), "--store", store, "--json", "--quiet")
    )
    for document, part in (
        (merged(TINY_PPO, hyperparameters={"gamma": 0.9}), "is a checkpoint of another spec"),
    ):
        done = trainer("train", "--spec", str(write_spec(document)), "--store", store, "--quiet")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert part in done.stderr
    file = tmp_path / "own.yaml"
    file.write_text(
        "{env_id: CartPole-v1, algo: ppo, total_timesteps: 1000, requirements: [nowhere.whl], "
        "evaluation: {return_range: [0, 500], crash_below: 100}}"
    )
    done = trainer("train", "--spec", str(file), "--store", str(tmp_path / "other"), "--quiet")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "requirements: nowhere.whl cannot be read" in done.stderr
