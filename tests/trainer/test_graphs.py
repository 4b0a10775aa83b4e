"""Recorded updates are SB3's PPO to the bit, as far as a CPU can show it: everything but the recording itself runs here."""

import copy
import inspect
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from torch._subclasses.fake_tensor import FakeTensorMode

from rl_trainer.digests import digest_arrays
from rl_trainer.graphs.adam import StaticAdam
from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.captures import CudaGraphs, PlainCalls
from rl_trainer.graphs.losses import ClipBounds, Weights, evaluate, forget_gradients, unchecked_distributions
from rl_trainer.graphs.rows import Rows
from rl_trainer.graphs.self_check import why_not_equal
from rl_trainer.interruptions import Interruption
from rl_trainer.model_state import capture
from rl_trainer.models import seed_generators
from rl_trainer.watch import Watch
from tests.trainer.chains import make_trainer, train_chain, whole_digest

#: The last minibatch of 120 rows is shorter, and is not replayed.
HYPERPARAMETERS: dict[str, Any] = {"n_envs": 3, "n_steps": 40, "batch_size": 32, "n_epochs": 2, "learning_rate": "lin_0.003",
                                   "clip_range": "lin_0.2", "ent_coef": 0.01}
PICTURES = {"policy": "CnnPolicy", "n_steps": 8, "batch_size": 8}
COLUMNS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def models(hyperparameters: dict[str, Any], env_kwargs: dict[str, Any]) -> tuple[GraphPPO, PPO]:
    """The model whose updates are recorded and the stock one, with equal weights and equally seeded environments."""
    made = []
    for capturer in (PlainCalls(), None):
        trainer = make_trainer("ppo", HYPERPARAMETERS | hyperparameters, env_kwargs=env_kwargs, fast=False, capturer=capturer)
        model = trainer.prepare(0, None)
        model.set_logger(Logger(None, []))
        model._setup_learn(1000, None, reset_num_timesteps=False)
        made.append(model)
    ours, stock = made
    assert type(ours) is GraphPPO
    assert type(stock) is PPO
    return ours, stock


def collect(model: PPO) -> None:
    """Fill a model's rollout buffer."""
    callback = Watch(Interruption())
    callback.init_callback(model)
    model.rollout_buffer.reset()
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def train(model: PPO, turn: int) -> dict[str, Any]:
    """Collect and train from a seed, the third of three. :return: what was logged."""
    seed_generators(turn, 0)
    collect(model)
    model._current_progress_remaining = 1 - turn / 4
    model.train()
    return dict(model.logger.name_to_value) | {"drawn after": np.random.random()}


@pytest.mark.parametrize(("changes", "env_kwargs"), [
    ({}, {}),
    ({}, {"action": "wide"}),
    ({"target_kl": 0.0002}, {}),
    ({"clip_range_vf": 0.1, "normalize_advantage": False}, {"action": "wide"}),
    ({"batch_size": 120, "policy_kwargs": "dict(optimizer_class=optim.AdamW, optimizer_kwargs=dict(amsgrad=True))"}, {}),
    ({"use_sde": True}, {"action": "box"}),
    ({}, {"observation": "discrete", "action": "multi_discrete"}),
    ({}, {"observation": "double", "action": "multi_binary"}),
    (PICTURES, {"observation": "image"}),
    ({"policy": "MultiInputPolicy", "policy_kwargs": "dict(share_features_extractor=False)"}, {"observation": "dict", "action": "box"}),
])
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
        assert ours.policy.optimizer.state_dict()["param_groups"] == stock.policy.optimizer.state_dict()["param_groups"]
        stopped |= ours._n_updates < (turn + 1) * ours.n_epochs or len(ours.prepared().logged()) % 4 != 0
    assert stopped == ("target_kl" in changes) or "policy" in changes or "batch_size" in changes


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
    ends = [train_chain(make_trainer("ppo", HYPERPARAMETERS | changes, capturer=capturer, **chosen), through_files=killed)
            for capturer, killed in ((PlainCalls(), False), (PlainCalls(), True), (None, False))]
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
    assert loaded.policy.optimizer.param_groups[0]["lr"] == ours.policy.optimizer.param_groups[0]["lr"]
    loaded.learn(120)


def test_the_path_is_part_of_the_numeric_class_and_says_why_not() -> None:
    """What cannot be recorded is left to SB3's own updates, not to the NumPy path, and the log names the reason."""
    found = {}
    for name, algo, changes in (
            ("ppo", "ppo", {}), ("optimizer", "ppo", {"policy_kwargs": "dict(optimizer_class=optim.SGD)"}), ("a2c", "a2c", {})):
        chosen = {key: HYPERPARAMETERS[key] for key in ("n_envs", "n_steps")} | changes
        trainer = make_trainer(algo, chosen, capturer=PlainCalls())
        trainer.prepare(0, None)
        found[name] = trainer.builder.path, trainer.builder.reason
    assert found == {"ppo": ("graphs", ""), "optimizer": ("torch", "no CUDA graphs: another optimizer than plain Adam or AdamW"),
                     "a2c": ("torch", "no CUDA graphs: not PPO with MlpPolicy, CnnPolicy or MultiInputPolicy")}


class ForgetsTheOptimizer(PlainCalls):
    """Records gradients, and nothing else."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Give a call that does nothing in the place of the second."""
        return (lambda: None) if call.__name__ == "_apply" else call


class RefusesToRecord(PlainCalls):
    """Cannot record."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Raise what torch raises."""
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nSearch for it")


class RepeatsTheNumbers(PlainCalls):
    """Replays into other memory than is read."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Give a call that finds gradients and leaves last time's numbers."""
        update = inspect.getclosurevars(call).nonlocals.get("self")
        if update is None:
            return call

        def replay() -> None:
            before = update._numbers.clone()
            call()
            update._numbers.copy_(before)
        return replay


@pytest.mark.parametrize(("capturer", "reason"), [
    (ForgetsTheOptimizer(), "learning rates from where it belongs"), (RepeatsTheNumbers(), "of recorded step 1 is"),
    (RefusesToRecord(), "they cannot be recorded: CUDA error: operation not permitted when stream is capturing Search for it")])
def test_a_recording_that_does_something_else_is_not_relied_on(capturer: PlainCalls, reason: str) -> None:
    """Before a training begins: SB3 trains, the numeric class says `torch`, and the log says what went wrong."""
    trainer = make_trainer("ppo", HYPERPARAMETERS, capturer=capturer)
    model = trainer.prepare(0, None)
    assert (type(model), trainer.builder.path) == (PPO, "torch")
    assert trainer.builder.reason.startswith("no CUDA graphs: ")
    assert reason in trainer.builder.reason


@pytest.mark.parametrize(("changes", "env_kwargs"), [
    ({"target_kl": 1e-9}, {}), ({}, {"observation": "multi_discrete", "action": "multi_discrete"}), (PICTURES, {"observation": "image"}),
    ({"policy": "MultiInputPolicy"}, {"observation": "dict", "action": "box"})])
def test_the_check_draws_from_no_generator_of_the_training(changes: dict[str, Any], env_kwargs: dict[str, Any]) -> None:
    """Neither the global ones nor those of the environments' spaces; and it passes, whatever the spaces."""
    ours, _ = models(changes, env_kwargs)
    seed_generators(3, 0)
    for space in (ours.env.observation_space, ours.env.action_space):
        space.seed(7)
    twin = copy.deepcopy(ours.env.observation_space), copy.deepcopy(ours.env.action_space)
    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()
    assert why_not_equal(ours) == ""
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.random.get_rng_state(), before[1])
    for space, other in zip((ours.env.observation_space, ours.env.action_space), twin, strict=True):
        assert str(space.sample()) == str(other.sample())


def made_up_rows(model: PPO, device: str) -> Rows:
    """Eight rows of zeros of a model's rollout."""
    def column(array: np.ndarray[Any, Any], kind: torch.dtype | None = None) -> torch.Tensor:
        return torch.zeros((8, *array.shape[2:]), dtype=kind or torch.from_numpy(array[:1]).dtype, device=device)

    buffer = model.rollout_buffer
    seen: Any = buffer.observations
    observations = {key: column(part) for key, part in seen.items()} if isinstance(seen, dict) else column(seen)
    discrete = isinstance(model.action_space, spaces.Discrete)
    actions = torch.zeros(8, dtype=torch.int64, device=device) if discrete else column(buffer.actions, torch.float32)
    return Rows(observations, actions, *(torch.zeros(8, device=device) for _ in range(4)))


SPACES = [({}, {"action": action}) for action in ("discrete", "box", "multi_discrete", "multi_binary")] + [
    (PICTURES, {"observation": "image"}), ({"policy": "MultiInputPolicy"}, {"observation": "dict"}), ({"use_sde": True}, {"action": "box"})]


@pytest.mark.parametrize(("changes", "env_kwargs"), SPACES)
def test_a_step_reads_nothing_back_and_mixes_no_devices(changes: dict[str, Any], env_kwargs: dict[str, Any]) -> None:
    """On torch's device without values: reading one, or a tensor made on the CPU on the way, would raise, as no recording survives them."""
    _, stock = models(changes, env_kwargs)
    meta = torch.device("meta")
    policy = stock.policy.to(meta)
    with unchecked_distributions():
        loss, numbers = evaluate(policy, made_up_rows(stock, "meta"), ClipBounds(meta), Weights(0.01, 0.5, True, True))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
    assert {parameter.grad.device for parameter in policy.parameters() if parameter.grad is not None} == {numbers.device} == {meta}
    with pytest.raises(RuntimeError, match="meta"):
        numbers[0].item()


def test_adam_takes_the_form_that_can_be_recorded_and_leaves_it() -> None:
    """On fake tensors of a GPU: between two updates its counter is on the CPU and its learning rate a number, as stock SB3 has them."""
    with FakeTensorMode(), torch.no_grad():
        parameters = [torch.nn.Parameter(torch.zeros(2, 3, device="cuda")) for _ in range(2)]
        parameters[0].grad = torch.zeros(2, 3, device="cuda")
        adam = torch.optim.Adam(parameters, lr=1e-3)
        static = StaticAdam(adam, torch.device("cuda"))
        with static.training():
            changed = static.adopt()
            adam.step()
            assert adam.param_groups[0]["lr"].device.type == "cuda"
            assert [tensor.device.type for tensor in changed] == ["cuda"] * 4
        assert len(adam.state) == 1, "Adam leaves alone what has no gradient"
        assert {name: slot.device.type for name, slot in adam.state[parameters[0]].items()} == {
            "step": "cpu", "exp_avg": "cuda", "exp_avg_sq": "cuda"}
        assert (adam.param_groups[0]["lr"], adam.param_groups[0]["capturable"]) == (1e-3, False)


def test_no_gradient_of_an_earlier_pass_is_kept() -> None:
    """With gSDE noise is drawn with a gradient, on another stream than the recording's; the noise itself stays what it was."""
    _, stock = models({"use_sde": True}, {"action": "box"})
    stock.policy.reset_noise(3)
    distribution: Any = stock.policy.action_dist
    assert distribution.exploration_mat.requires_grad
    before = distribution.exploration_matrices.detach().clone()
    forget_gradients(stock.policy)
    held = [value for value in vars(distribution).values() if isinstance(value, torch.Tensor)]
    assert held
    assert not any(value.requires_grad for value in held)
    assert torch.equal(distribution.exploration_matrices, before)
    assert distribution.weights_dist is None


def test_torch_has_what_the_recording_uses() -> None:
    """The lines that no CPU runs name arguments that the pinned torch has."""
    assert {"stream", "capture_error_mode"} <= inspect.signature(torch.cuda.graph.__init__).parameters.keys()
    assert all(hasattr(torch.cuda.CUDAGraph, name) for name in ("replay",))
    assert inspect.signature(torch.cuda.Stream.__new__).parameters.keys() >= {"device"}
    assert issubclass(CudaGraphs, object)
