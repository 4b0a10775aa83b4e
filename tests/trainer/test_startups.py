"""What a machine's start does not do: import torch's compiler."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PROGRAM = """
import json, sys
from rl_trainer.attempts import TrainRequest, run_attempt
from rl_trainer.interruptions import Interruption
from rl_trainer.lean_torch import leave_compiler_out
result = run_attempt(TrainRequest(sys.argv[1], sys.argv[2], quiet=True), Interruption())
print(json.dumps({"path": result["path"], "methods": leave_compiler_out(), "compiler": "torch._dynamo" in sys.modules}))
"""
SPEC = """
env_id: CartPole-v1
algo: ppo
total_timesteps: 20000
checkpoint_every: 10000
trials: 1
hyperparameters: {n_envs: 1, n_steps: 512}
evaluation: {return_range: [0, 500], crash_below: 100}
"""


def test_a_training_without_torchs_optimizer_never_imports_its_compiler(tmp_path: Path) -> None:
    """Two segments with their checkpoints and a policy: 840 modules and 1.4 s of CPU less on every start."""
    (tmp_path / "lean.yaml").write_text(SPEC)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "lean.yaml"), str(tmp_path / "runs")], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["path"] == "numpy"
    assert told["methods"] >= 3, "torch wraps its optimizers in another way: look at rl_trainer.lean_torch"
    assert not told["compiler"]
    events = [json.loads(line) for line in next((tmp_path / "runs").rglob("trainer.jsonl")).read_text().splitlines()]
    assert [event["event"] for event in events][:2] == ["imported", "started"]
    assert events[0]["imports_s"] > 0
