"""Which imports the start of a machine avoids, and how exhausted memory or disks are recognised."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_lifecycle.trials.heartbeats import TrainerCause
from rl_trainer.environments.vec_env import LeanVecEnv
from rl_trainer.errors import TrainerError, find_exhaustion
from tests.conftest import ROOT

PROGRAM = """
import json, sys
from rl_trainer.attempts.attempts import TrainRequest, run_attempt
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.lean_torch import leave_compiler_out
result = run_attempt(TrainRequest(sys.argv[1], sys.argv[2], quiet=True), Interruption())
print(json.dumps({
    "path": result["path"],
    "methods": leave_compiler_out(),
    "compiler": "torch._dynamo" in sys.modules,
    "tensorboard": "torch.utils.tensorboard" in sys.modules,
}))
from torch.utils.tensorboard import SummaryWriter
"""
#: An environment's package that could have imported TensorBoard when it was imported.
PACKAGE = """
import sys
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
if sys.modules.get("torch.utils.tensorboard", "not imported") is None:
    raise RuntimeError("an import of torch.utils.tensorboard would be refused")
if "stable_baselines3" not in sys.modules or "tensorboard" in sys.modules:
    raise RuntimeError("TensorBoard is imported already, or SB3 is not imported yet")
gymnasium.register("Told-v0", entry_point=CartPoleEnv, max_episode_steps=500)
"""
SPEC = """
env_id: told_package:Told-v0
algo: ppo
total_timesteps: 20000
checkpoint_every: 10000
trials: 1
hyperparameters: {n_envs: 1, n_steps: 512}
evaluation: {return_range: [0, 500], crash_below: 100}
"""


def test_a_training_imports_neither_torchs_compiler_nor_tensorboard(
    tmp_path: Path,
) -> None:
    """A start saves 840 modules and 1.4 s of CPU.

    The training has two segments with checkpoints and a policy. TensorBoard's writer is imported
    after the first segment, without torch's. An environment may import both.
    """
    (tmp_path / "lean.yaml").write_text(SPEC)
    (tmp_path / "told_package.py").write_text(PACKAGE)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "lean.yaml"), str(tmp_path / "runs")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["path"] == "numpy"
    assert result["methods"] >= 3, (
        "torch wraps its optimizers in another way: look at rl_trainer.training.lean_torch"
    )
    assert not result["compiler"]
    assert not result["tensorboard"]
    events = [
        json.loads(line)
        for line in next((tmp_path / "runs").rglob("trainer.jsonl")).read_text().splitlines()
    ]
    assert [event["event"] for event in events][:2] == ["imported", "started"]
    assert events[0]["imports_s"] > 0


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (MemoryError("Unable to allocate 512 TiB"), TrainerCause.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), TrainerCause.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), TrainerCause.DISK_FULL),
        (OSError(errno.ENOENT, "no such file"), None),
        (ValueError("the arm is not attached"), None),
    ],
)
def test_a_lack_of_memory_or_space_is_not_a_failure_of_the_code(
    raised: Exception, cause: TrainerCause | None
) -> None:
    """The environment's code may also run out of memory, and another machine helps."""
    found = find_exhaustion(raised)
    assert (found.cause if found else None) is cause
    vec_env = LeanVecEnv([lambda: _Raising(raised)], [0])
    vec_env.reset()
    vec_env.step_async(np.zeros(1, dtype=np.int64))
    with pytest.raises(TrainerError) as failed:
        vec_env.step_wait()
    assert failed.value.cause is (cause or TrainerCause.ENVIRONMENT)


class _Raising(gym.Env[Any, Any]):
    """An environment that raises in every step."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, error: Exception) -> None:
        self.error = error

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin."""
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        """Raise."""
        raise self.error
