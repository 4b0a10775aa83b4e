"""An experiment's own wheels are fetched by digest and used one set at a time."""

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from rl_evaluator.errors import InvalidWheelError
from rl_evaluator.playing.environments import make_environment
from rl_evaluator.playing.wheels import use_wheels
from rl_lifecycle.errors import CorruptArtifactError
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.stored_runs import store_artifact

CODE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class ShopEnv(CartPoleEnv):
    version = {version}

gymnasium.register("Shop-v0", entry_point="shop_envs:ShopEnv", max_episode_steps=9)
"""


def wheel(version: int) -> bytes:
    """Build a wheel with one environment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("shop_envs/__init__.py", CODE.format(version=version))
        archive.writestr("shop_envs-0.1.dist-info/METADATA", "Name: shop-envs")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def clean_imports(store: DirectoryStore, tmp_path: Path) -> Iterator[None]:
    """Restore sys.path and the registry after the test."""
    yield
    use_wheels(store, (), tmp_path)
    assert "shop_envs" not in sys.modules
    assert "Shop-v0" not in gymnasium.registry


def test_a_wheel_makes_its_environment_known(store: DirectoryStore, tmp_path: Path) -> None:
    """`package:Env-v0` can be made as soon as the wheel is in use."""
    use_wheels(store, [store_artifact(store, "shop_envs-0.1-py3-none-any.whl", wheel(1))], tmp_path)
    assert make_environment("shop_envs:Shop-v0", {}).unwrapped.version == 1  # type: ignore[attr-defined]


def test_a_warm_container_serves_another_version_of_the_same_package(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """A warm container forgets the modules of the previous set."""
    for version in (1, 2, 1):
        use_wheels(
            store,
            [store_artifact(store, "shop_envs-0.1-py3-none-any.whl", wheel(version))],
            tmp_path,
        )
        assert make_environment("shop_envs:Shop-v0", {}).unwrapped.version == version  # type: ignore[attr-defined]


def test_a_wheel_set_names_its_wheels(store: DirectoryStore, tmp_path: Path) -> None:
    """The evaluator reads the wheel sets that the bootstrap stores for the trainer."""
    artifact = store_artifact(store, "shop_envs-0.1-py3-none-any.whl", wheel(3))
    wheels = WheelSet(python="3.12", wheels={"shop_envs-0.1-py3-none-any.whl": artifact.sha256})
    use_wheels(store, [store_artifact(store, "wheels.json", wheels.to_json())], tmp_path)
    assert make_environment("shop_envs:Shop-v0", {}).unwrapped.version == 3  # type: ignore[attr-defined]


def test_a_changed_wheel_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    """A wheel with another digest is refused before any of its code runs."""
    artifact = store_artifact(store, "shop_envs-0.1-py3-none-any.whl", wheel(1))
    store.put(artifact.key, wheel(2))
    with pytest.raises(CorruptArtifactError):
        use_wheels(store, [artifact], tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [("a.tar.gz", b"x", "takes .whl files"), ("a.whl", b"x", "is not a wheel")],
)
def test_what_is_no_wheel_is_refused(
    store: DirectoryStore, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    """A file that is not a wheel is refused, and the message names the key."""
    with pytest.raises(InvalidWheelError, match=message):
        use_wheels(store, [store_artifact(store, name, data)], tmp_path)


def test_a_missing_wheel_is_named(store: DirectoryStore, tmp_path: Path) -> None:
    """The error of a missing wheel names its key."""
    sha256 = sha256_hex(b"nothing")
    with pytest.raises(Exception, match="does not exist"):
        use_wheels(store, [Artifact(key=f"artifacts/{sha256}/a.whl", sha256=sha256)], tmp_path)
