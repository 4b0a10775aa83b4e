"""The keys in the answers of the trainer's commands and the evaluator's function."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.one_process import answer
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact, store_policy, store_shard, store_spec
from tests.trainer.conftest import TINY_PPO, frozen

#: Run several commands in one process, because importing torch takes seconds.
COMMANDS = """
import contextlib, glob, io, json, runpy, sys
def run(*arguments):
    sys.argv = ["rl_trainer", *arguments, "--json"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_module("rl_trainer", run_name="__main__")
    return sorted(json.loads(out.getvalue()))
from stable_baselines3 import PPO
PPO("MlpPolicy", "CartPole-v1", n_steps=8).save("model.zip")
print(json.dumps({
    "train": run("train", "--spec", "spec.json", "--store", "store", "--quiet"),
    "digest": run("digest", "--store", "store"),
    "export": run("export", "--model", "model.zip", "--out", "p.onnx", "--trust"),
    "replay": run("replay", "--spec", "spec.json", "--store", "store", "--manifest",
                  glob.glob("store/checkpoints/*/*/*/*/*/manifest.json")[-1]),
}))
"""


def trainer_answers() -> dict[str, list[str]]:
    """List the keys that each of the trainer's commands prints with `--json`."""
    with tempfile.TemporaryDirectory() as folder:
        spec = frozen({**TINY_PPO, "total_timesteps": 2048})
        Path(folder, "spec.json").write_bytes(spec.to_json())
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("COV_")},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    keys: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return keys


def function_answers() -> dict[str, list[str]]:
    """List the keys of those answers of the evaluator that are not records."""
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(Path(folder))
        spec, frozen_spec = store_spec(store)
        policy = store_artifact(store, "p.onnx", policy_for_id("CartPole-v1"))
        key = store_policy(store, spec, policy_for_id("CartPole-v1"))
        run = {"experiment": "cartpole", "run": spec.run}
        episodes = {"policy": policy.model_dump(), "env_id": "CartPole-v1", "first_seed": 5}
        judged = {**run, "candidate": "gate-candidate", "champion": None}
        store_shard(store, spec, "gate-candidate", [1.0] * 80)
        event = {"detail-type": "Object Created", "detail": {"object": {"key": key}}}
        missing = {"object": {"key": key.replace("512", "513")}}
        events = {
            "evaluate": {**run, **episodes, "action": "evaluate", "name": "n", "shard": 0}
            | {"n_episodes": 2},
            "decide": {**judged, "action": "decide", "spec": frozen_spec.model_dump()},
            "arrival": event,
            "arrival of another kind": {**event, "detail-type": "Object Deleted"},
            "arrival that is refused": {**event, "detail": missing},
        }
        return {
            name: sorted(answer(event, store, lambda: math.inf)) for name, event in events.items()
        }
