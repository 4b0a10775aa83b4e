"""Tiny experiments, stores, and the trainer as a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec

#: PPO on CartPole, small enough that a segment takes a tenth of a second.
TINY_PPO: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "env_kwargs": {"max_episode_steps": 50},
    "algo": "ppo",
    "total_timesteps": 6144,
    "checkpoint_every": 2048,
    "trials": 1,
    "hyperparameters": {
        "n_envs": 2,
        "n_steps": 64,
        "batch_size": 64,
        "n_epochs": 2,
        "learning_rate": "lin_0.001",
        "clip_range": "lin_0.2",
        "policy_kwargs": "dict(net_arch=[16, 16])",
    },
    "evaluation": {"return_range": [0, 500], "crash_below": 100},
}


class Done(NamedTuple):
    """A trainer process that ended."""

    returncode: int
    stdout: str
    stderr: str


Trainer = Callable[..., Done]


def frozen(document: dict[str, Any], name: str = "tiny") -> Spec:
    """Freeze an experiment as the launcher does."""
    return freeze_spec(
        read_experiment(document, name), run_id="test", created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def merged(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Change an experiment: `hyperparameters` are merged, other keys are replaced."""
    hyperparameters = {**document["hyperparameters"], **changes.pop("hyperparameters", {})}
    return {**document, **changes, "hyperparameters": hyperparameters}


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Freeze an experiment into a file."""

    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "spec.json"
        path.write_bytes(frozen(document).to_json())
        return path

    return write


def trainer_environment() -> dict[str, str]:
    """Return this process's environment without variables of coverage and pytest."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))
    }


class TrainerProcess:
    """One `python -m rl_trainer`, forked from the session's zygote."""

    def __init__(self, zygote: "Zygote", pid: int, folder: Path) -> None:
        self._zygote, self.pid, self._folder = zygote, pid, folder
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code: None while it runs, negative after a signal."""
        if self.code is None:
            self.code = self._zygote.ask({"wait": self.pid})["code"]
        return self.code

    def send_signal(self, number: int) -> None:
        """Send a signal to this process only."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def finish(self, timeout_s: float = 300.0) -> Done:
        """Wait for its end."""
        deadline = time.monotonic() + timeout_s
        while self.poll() is None:
            assert time.monotonic() < deadline, f"the trainer did not end: {self._text('err')}"
            time.sleep(0.01)
        return Done(int(self.code or 0), self._text("out"), self._text("err"))

    def _text(self, stream: str) -> str:
        return (self._folder / stream).read_text()


class Zygote:
    """Starts trainers without importing torch again; see :mod:`tests.trainer.zygote`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=trainer_environment(),
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(
        self, arguments: list[str], folder: Path, env: dict[str, str] | None = None
    ) -> TrainerProcess:
        """Start a trainer."""
        answer = self.ask(
            {
                "start": arguments,
                "out": str(folder / "out"),
                "err": str(folder / "err"),
                "env": env or {},
            }
        )
        return TrainerProcess(self, answer["pid"], folder)

    def close(self) -> None:
        """End the zygote."""
        self._process.communicate(timeout=300)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """One zygote for all tests of a worker."""
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def start_trainer(
    zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TrainerProcess]]:
    """Start `python -m rl_trainer` in the background; it is killed after the test."""
    started: list[TrainerProcess] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> TrainerProcess:
        started.append(zygote.start(list(arguments), tmp_path_factory.mktemp("trainer"), env))
        return started[-1]

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.finish()


@pytest.fixture
def trainer(start_trainer: Callable[..., TrainerProcess]) -> Trainer:
    """Run `python -m rl_trainer` to its end."""
    return lambda *arguments: start_trainer(*arguments).finish()


def json_of(done: Done) -> dict[str, Any]:
    """Return a command's JSON output; fail with its stderr if it did not succeed."""
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
