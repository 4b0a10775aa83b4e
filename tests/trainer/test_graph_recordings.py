"""What can be recorded on a GPU, shown without one; and what is not relied on, because a recording does something else."""

import copy
import inspect
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from torch._subclasses.fake_tensor import FakeTensorMode

from rl_trainer.graphs.adam import StaticAdam
from rl_trainer.graphs.captures import CudaGraphs, PlainCalls
from rl_trainer.graphs.isolation import ask_child
from rl_trainer.graphs.losses import (
    ClipBounds,
    Weights,
    evaluate,
    forget_gradients,
    unchecked_distributions,
)
from rl_trainer.graphs.rows import Rows
from rl_trainer.graphs.self_check import why_not_equal
from rl_trainer.models import seed_generators
from tests.trainer.chains import make_trainer
from tests.trainer.graph_models import (
    HYPERPARAMETERS,
    PICTURES,
    DiesRecording,
    PlainInAnotherProcess,
    RecordsNothing,
    RefusesToRecord,
    models,
)
from tests.trainer.test_attempts import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


class ForgetsTheOptimizer(PlainCalls):
    """Records gradients, and nothing else."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Give a call that does nothing in the place of the second."""
        return (lambda: None) if call.__name__ == "_apply" else call


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


class StopsWhenOthersStep(PlainCalls):
    """Takes no step any more once a minibatch was taken unrecorded."""

    def capture(self, call: Callable[[], None]) -> Callable[[], None]:
        """Give a call that counts the optimizer's steps."""
        if call.__name__ != "_apply":
            return call
        update: Any = cast("Any", call).__self__
        counts: list[float] = []

        def replay() -> None:
            slots = next(iter(update._adam._slots.values()))
            if not counts or float(slots["step"]) == counts[-1]:
                call()
                counts.append(float(slots["step"]))

        return replay


@pytest.mark.parametrize(
    ("capturer", "reason"),
    [
        (StopsWhenOthersStep(), "learning rates from where it belongs"),
        (ForgetsTheOptimizer(), "learning rates from where it belongs"),
        (RepeatsTheNumbers(), "of recorded step 1 is"),
        (
            RefusesToRecord(),
            "they cannot be recorded: CUDA error: operation not permitted when stream is capturing Search for it",
        ),
    ],
)
def test_a_recording_that_does_something_else_is_not_relied_on(
    capturer: PlainCalls, reason: str
) -> None:
    """Before a training begins: SB3 trains, the numeric class says `torch`, and the log says what went wrong."""
    trainer = make_trainer("ppo", HYPERPARAMETERS, capturer=capturer)
    model = trainer.prepare(0, None)
    assert (type(model), trainer.builder.path) == (PPO, "torch")
    assert trainer.builder.reason.startswith("no CUDA graphs: ")
    assert reason in trainer.builder.reason


@pytest.mark.parametrize(
    ("capturer", "path", "reason"),
    [
        (PlainInAnotherProcess(), "graphs", ""),
        (
            DiesRecording(),
            "torch",
            "no CUDA graphs: the process that tried it was ended by SIGABRT",
        ),
        (RecordsNothing(), "torch", "no CUDA graphs: after 6 recorded steps a parameter lies "),
    ],
)
def test_what_may_do_harm_is_tried_in_another_process(
    capturer: PlainCalls, path: str, reason: str
) -> None:
    """Whatever happens there, this one trains: recorded if it answered that it may, and with SB3's own update if not."""
    chosen = {
        "buffer_size": 100,
        "batch_size": 8,
        "learning_starts": 10,
        "policy_kwargs": "dict(net_arch=[8])",
        "learning_rate": "lin_0.1",
    }
    trainer = make_trainer("dqn", chosen, capturer=capturer)
    model = trainer.prepare(0, None)
    assert (trainer.builder.path, bool(trainer.builder.reason)) == (path, bool(reason))
    assert trainer.builder.reason.startswith(reason)
    assert len(trainer.builder.reason.splitlines()) <= 1
    model.learn(20)


@pytest.mark.parametrize(
    ("question", "arguments", "limit_s", "answer"),
    [
        (str.upper, ("yes",), 60, "YES"),
        (signal.raise_signal, (9,), 60, "the process that tried it was ended by SIGKILL"),
        (os._exit, (3,), 60, "the process that tried it ended with code 3"),
        (
            json.loads,
            ("{",),
            60,
            "the process that tried it raised JSONDecodeError: Expecting property name",
        ),
        (time.sleep, (60,), 0.1, "the process that tried it gave no answer within 0 s"),
        (str.upper, (lambda: None,), 60, "no process could be started to try it: "),
    ],
)
def test_a_child_that_gives_no_answer_says_why(
    question: Callable[..., str], arguments: tuple[Any, ...], limit_s: float, answer: str
) -> None:
    """In one line, whether it was killed, ended, raised, hung or could not be made; and no process is left."""
    said = ask_child(question, *arguments, limit_s=limit_s)
    assert said.startswith(answer)
    assert len(said.splitlines()) == 1
    assert multiprocessing.active_children() == []


def test_a_child_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    """Also when that one was killed, and the child hangs."""
    begun = tmp_path / "begun"
    hangs = f"import os, time; os.symlink(str(os.getpid()), {str(begun)!r}); time.sleep(600)"
    asks = f"from rl_trainer.graphs.isolation import ask_child; ask_child(exec, {hangs!r})"
    with subprocess.Popen([sys.executable, "-c", asks]) as process:
        wait_until(begun.is_symlink)
        command = Path("/proc", begun.readlink(), "cmdline")
        assert command.read_bytes()
        process.kill()
    wait_until(lambda: not (command.exists() and command.read_bytes()))


def test_multi_discrete_actions_that_start_elsewhere_are_left_to_sb3() -> None:
    """SB3 trains on them; what the check makes up of their space would be out of its policy's range."""
    trainer = make_trainer(
        "ppo",
        HYPERPARAMETERS,
        env_kwargs={"action": "multi_discrete_from_1"},
        capturer=PlainCalls(),
    )
    assert type(trainer.prepare(0, None)) is PPO
    assert trainer.builder.reason == "no CUDA graphs: MultiDiscrete actions that do not start at 0"


@pytest.mark.parametrize(
    ("changes", "env_kwargs"),
    [
        ({"target_kl": 1e-9}, {}),
        ({}, {"observation": "multi_discrete", "action": "multi_discrete"}),
        (PICTURES, {"observation": "image"}),
        ({"policy": "MultiInputPolicy"}, {"observation": "dict", "action": "box"}),
    ],
)
def test_the_check_draws_from_no_generator_of_the_training(
    changes: dict[str, Any], env_kwargs: dict[str, Any]
) -> None:
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
        return torch.zeros(
            (8, *array.shape[2:]), dtype=kind or torch.from_numpy(array[:1]).dtype, device=device
        )

    buffer = model.rollout_buffer
    seen: Any = buffer.observations
    observations = (
        {key: column(part) for key, part in seen.items()}
        if isinstance(seen, dict)
        else column(seen)
    )
    discrete = isinstance(model.action_space, spaces.Discrete)
    actions = (
        torch.zeros(8, dtype=torch.int64, device=device)
        if discrete
        else column(buffer.actions, torch.float32)
    )
    return Rows(observations, actions, *(torch.zeros(8, device=device) for _ in range(4)))


SPACES = [
    ({}, {"action": action}) for action in ("discrete", "box", "multi_discrete", "multi_binary")
] + [
    (PICTURES, {"observation": "image"}),
    ({"policy": "MultiInputPolicy"}, {"observation": "dict"}),
    ({"use_sde": True}, {"action": "box"}),
]


@pytest.mark.parametrize(("changes", "env_kwargs"), SPACES)
def test_a_step_reads_nothing_back_and_mixes_no_devices(
    changes: dict[str, Any], env_kwargs: dict[str, Any]
) -> None:
    """On torch's device without values: reading one, or a tensor made on the CPU on the way, would raise, as no recording survives them."""
    _, stock = models(changes, env_kwargs)
    meta = torch.device("meta")
    policy = stock.policy.to(meta)
    with unchecked_distributions():
        loss, numbers = evaluate(
            policy, made_up_rows(stock, "meta"), ClipBounds(meta), Weights(0.01, 0.5, True, True)
        )
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
    assert (
        {parameter.grad.device for parameter in policy.parameters() if parameter.grad is not None}
        == {numbers.device}
        == {meta}
    )
    with pytest.raises(RuntimeError, match="meta"):
        numbers[0].item()


def test_adam_takes_the_form_that_can_be_recorded_and_leaves_it() -> None:
    """On fake tensors of a GPU: between two updates its counter is on the CPU and its learning rate a number, as stock SB3 has them."""
    with FakeTensorMode(), torch.no_grad():
        parameters = [torch.nn.Parameter(torch.zeros(2, 3, device="cuda")) for _ in range(2)]
        parameters[0].grad = torch.zeros(2, 3, device="cuda")
        adam = torch.optim.Adam(parameters, lr=1e-3)
        static = StaticAdam(adam, torch.device("cuda"), capturable=True)
        static.begin()
        changed = static.adopt()
        adam.step()
        assert adam.param_groups[0]["lr"].device.type == "cuda"
        assert [tensor.device.type for tensor in changed] == ["cuda"] * 4
        static.end()
        assert len(adam.state) == 1, "Adam leaves alone what has no gradient"
        assert {name: slot.device.type for name, slot in adam.state[parameters[0]].items()} == {
            "step": "cpu",
            "exp_avg": "cuda",
            "exp_avg_sq": "cuda",
        }
        assert (adam.param_groups[0]["lr"], adam.param_groups[0]["capturable"]) == (1e-3, False)


def test_no_gradient_of_an_earlier_pass_is_kept() -> None:
    """With gSDE noise is drawn with a gradient, on another stream than the recording's; the noise itself stays what it was."""
    _, stock = models({"use_sde": True}, {"action": "box"})
    stock.policy.reset_noise(3)
    distribution: Any = stock.policy.action_dist
    assert distribution.exploration_mat.requires_grad
    before = distribution.exploration_matrices.detach().clone()
    forget_gradients(distribution)
    held = [value for value in vars(distribution).values() if isinstance(value, torch.Tensor)]
    assert held
    assert not any(value.requires_grad for value in held)
    assert torch.equal(distribution.exploration_matrices, before)
    assert distribution.weights_dist is None


class FakeCuda:
    """Notes in what order streams wait for one another and what runs on which; takes only arguments that torch's own functions take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.current = self.default = self._stream("default")
        graph_arguments = inspect.signature(torch.cuda.graph.__init__)

        @contextmanager
        def graph(*arguments: Any, **options: Any) -> Iterator[None]:
            bound = graph_arguments.bind(None, *arguments, **options).arguments
            assert isinstance(bound["cuda_graph"], SimpleNamespace)
            with self._on(bound["stream"], f"record, {bound['capture_error_mode']}"):
                yield

        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self._stream("own"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        monkeypatch.setattr(torch.cuda, "stream", self._stream_context)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(
            torch.cuda,
            "CUDAGraph",
            lambda: SimpleNamespace(replay=lambda: self.events.append("replay")),
        )

    def _stream(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=name,
            device="cuda",
            wait_stream=lambda other: self.events.append(f"{name} waits for {other.name}"),
        )

    @contextmanager
    def _stream_context(self, stream: Any) -> Iterator[None]:
        before = self.current
        try:
            with self._on(stream, "run"):
                yield
        finally:
            self.current = before

    @contextmanager
    def _on(self, stream: Any, what: str) -> Iterator[None]:
        before, self.current = (
            self.current,
            stream,
        )  # after an error torch's `graph` leaves it so, other than its `stream`
        self.events.append(f"{what} on {stream.name}")
        yield
        self.current = before


def test_cuda_graphs_are_recorded_as_torch_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warmed up three times on the stream that records, with both streams waiting for one another; only a replay runs again."""
    assert callable(torch.cuda.CUDAGraph.replay)
    cuda = FakeCuda(monkeypatch)
    graphs = CudaGraphs()

    def call() -> None:
        cuda.events.append(f"call on {cuda.current.name}")

    graphs.warm_up(call)
    assert cuda.events == [
        "own waits for default",
        "run on own",
        *["call on own"] * 3,
        "default waits for own",
    ]
    cuda.events.clear()
    replay = graphs.capture(call)
    assert cuda.events == ["run on default", "record, thread_local on own", "call on own"]
    replay()
    assert cuda.events[3:] == ["replay"]


def test_a_recording_that_fails_leaves_the_stream_that_was_current(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch's own `graph` leaves the recording's when its end raises."""
    cuda = FakeCuda(monkeypatch)

    def call() -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraphs().capture(call)
    assert cuda.events[-1] == "record, thread_local on own"
    assert cuda.current is cuda.default
