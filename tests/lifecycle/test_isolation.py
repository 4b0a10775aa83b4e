"""The contract needs only the standard library and pydantic."""

import pkgutil
import subprocess
import sys

import rl_lifecycle

BLOCKER = """
import sys
BLOCKED = {
    "airflow", "boto3", "botocore", "torch", "numpy", "gymnasium", "yaml", "onnx", "onnxruntime",
    "stable_baselines3",
}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, check=False
    )


def test_every_module_imports_with_the_heavy_packages_blocked() -> None:
    """A Lambda without torch and a laptop without Airflow can import every module."""
    names = [
        module.name
        for module in pkgutil.walk_packages(rl_lifecycle.__path__, "rl_lifecycle.")
        if not module.name.endswith("__main__")
    ]
    assert len(names) > 10
    done = _run(
        "import importlib\n" + "\n".join(f"importlib.import_module('{name}')" for name in names)
    )
    assert done.returncode == 0, done.stderr


def test_the_blocker_blocks() -> None:
    """A blocked package cannot be imported, so the test above can fail."""
    done = _run("import numpy")
    assert done.returncode != 0
    assert "blocked: numpy" in done.stderr
