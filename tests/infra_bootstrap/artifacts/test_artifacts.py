"""Artifacts are reproducible, follow the locks, fit into Lambda and are uploaded once."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra_bootstrap.artifacts.archives import Entry, package_entries, zip_bytes
from infra_bootstrap.artifacts.cache import cached
from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.functions import MOST_UNZIPPED_BYTES, build_functions, check_size
from infra_bootstrap.artifacts.locks import LINUX, PLATFORMS, Target, read_lock
from infra_bootstrap.artifacts.own_wheels import build_wheel
from infra_bootstrap.artifacts.uploads import upload
from infra_bootstrap.artifacts.wheel_sets import IN_IMAGE, NOT_NEEDED, build_trainer_wheels
from infra_bootstrap.errors import BuildFailedError
from rl_lifecycle.experiment.spec import WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key
from tests.infra_bootstrap.accounts import PYTHON, ROOT, Deployment

#: The download cache of `make setup` and the demo, so that tests download nothing twice.
CACHE = ROOT / ".nightshift" / "cache"


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    """An archive's bytes depend on its files' names and contents, not on their order or times."""
    entries = [Entry("b.py", b"2"), Entry("a.so", b"1", executable=True)]
    assert zip_bytes(entries) == zip_bytes(reversed(entries))
    assert zip_bytes(entries) != zip_bytes([Entry("b.py", b"3"), entries[1]])
    with zipfile.ZipFile(io.BytesIO(zip_bytes(entries))) as archive:
        modes = [(info.filename, info.external_attr >> 16 & 0o777) for info in archive.infolist()]
    assert modes == [("a.so", 0o755), ("b.py", 0o644)]


def test_a_package_is_packed_without_what_only_this_machine_needs(tmp_path: Path) -> None:
    """A packed package has no byte code, because its bytes differ between machines."""
    package = tmp_path / "thing"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"")
    (package / "__init__.py").write_bytes(b"")
    (package / "data.json").write_bytes(b"{}")
    assert [entry.name for entry in package_entries(package)] == [
        "thing/__init__.py",
        "thing/data.json",
    ]


@pytest.mark.parametrize(
    ("project", "module"), [("lifecycle", "rl_lifecycle"), ("trainer", "rl_trainer")]
)
def test_our_wheels_are_reproducible_and_install(tmp_path: Path, project: str, module: str) -> None:
    """Building our wheels twice gives the same bytes, and uv can install and import them."""
    wheel = build_wheel(ROOT / project)
    assert wheel == build_wheel(ROOT / project)
    (tmp_path / wheel.file_name).write_bytes(wheel.data)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--offline",
            "--no-index",
            "--no-deps",
            "--no-config",
            "--target",
            str(tmp_path / "site"),
            str(tmp_path / wheel.file_name),
        ],
        check=True,
    )
    assert (tmp_path / "site" / module / "__init__.py").exists()


def test_a_project_that_is_none_says_which(tmp_path: Path) -> None:
    """A folder that is not a project is refused, and the message names the missing file."""
    with pytest.raises(
        BuildFailedError, match=r"wheel of ghost: ghost/pyproject.toml cannot be read"
    ):
        build_wheel(tmp_path / "ghost")


def test_a_lock_is_read_for_its_target() -> None:
    """Markers are evaluated for the machine's Python, and every pin keeps its digests."""
    old, new = (read_lock("trainer", Target(python)).text for python in ("3.11", "3.12"))
    assert "numpy==2.4.6" in old
    assert "numpy==2.4.6" not in new
    pins = [line for line in new.splitlines() if line[:1].isalnum()]
    assert pins
    assert all(line.endswith("\\") for line in pins)
    assert new.count("--hash=sha256:") >= len(pins)
    assert ";" not in "".join(pins)


def test_what_the_image_has_is_not_shipped() -> None:
    """The image has torch and boto3; NumPy is shipped, because digests depend on its version."""
    text = read_lock("trainer", Target("3.12"), without=IN_IMAGE | NOT_NEEDED).text
    names = {line.split("==")[0] for line in text.splitlines() if line[:1].isalnum()}
    assert not names & (IN_IMAGE | NOT_NEEDED)
    assert {
        "numpy",
        "stable-baselines3",
        "sb3-contrib",
        "gymnasium",
        "onnxruntime",
        "pydantic",
        "uv",
    } <= names


def test_every_platform_has_its_tags() -> None:
    """Each platform has its wheel tags: Linux for AWS, macOS for a laptop with the local AWS."""
    assert "manylinux_2_28_x86_64" in LINUX.pip
    assert PLATFORMS["macos-arm64"].uv == "aarch64-apple-darwin"


def test_the_cache_builds_once_and_never_half(tmp_path: Path) -> None:
    """The cache keeps nothing of a failed build and builds only once."""
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "x").write_bytes(b"1")
        if len(built) == 1:
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        cached("kind", "key", build, tmp_path)
    assert not (tmp_path / "kind" / "key").exists()
    first = cached("kind", "key", build, tmp_path)
    assert cached("kind", "key", build, tmp_path) == first
    assert len(built) == 2
    assert not list((tmp_path / "kind").glob(".building-*"))


def test_a_layer_that_lambda_would_refuse_is_refused_here() -> None:
    """A layer above Lambda's limit is refused with its size and the place to make it smaller."""
    check_size(MOST_UNZIPPED_BYTES)
    with pytest.raises(
        BuildFailedError, match=r"262,144,001 bytes unzipped, and Lambda takes 262,144,000"
    ):
        check_size(MOST_UNZIPPED_BYTES + 1)


def test_the_functions_fit_and_the_layer_imports(tmp_path: Path) -> None:
    """The real layer and function fit into Lambda's limit, and a clean interpreter imports them."""
    functions = build_functions(Target(PYTHON), cache=CACHE)
    assert 50_000_000 < functions.unzipped_bytes < MOST_UNZIPPED_BYTES
    for file in (functions.layer, functions.evaluator):
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            archive.extractall(tmp_path)
    # New code makes a new zip and reuses the cached layer, so only the alias moves.
    changed = tmp_path / "changed"
    for room, module in (("evaluator", "rl_evaluator"), ("lifecycle", "rl_lifecycle")):
        shutil.copytree(ROOT / room / module, changed / room / module)
    (changed / "evaluator" / "rl_evaluator" / "new.py").write_text("")
    again = build_functions(Target(PYTHON), root=changed, cache=CACHE)
    assert (again.layer, again.reaper) == (functions.layer, functions.reaper)
    assert again.evaluator.key != functions.evaluator.key
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(tmp_path / 'python')!r}]; "
        "import numpy, onnxruntime, gymnasium, pydantic, rl_evaluator.handler; env = "
        "gymnasium.make('LunarLander-v3'); "
        "env.reset(seed=0); print(env.step(0)[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(8,)", done.stderr


def test_a_wheel_set_names_every_wheel_by_its_digest() -> None:
    """The wheel set lists names and digests of our wheels and the locked ones, for one Python."""
    wheels = build_trainer_wheels(Target(PYTHON), cache=CACHE)
    record = WheelSet.from_json(wheels.files[-1].read())
    assert wheels.artifact.sha256 == sha256_hex(wheels.files[-1].read())
    assert {artifact_key(sha256, name) for name, sha256 in record.wheels.items()} == {
        file.key for file in wheels.files[:-1]
    }
    assert all(sha256_hex(file.read()) == file.sha256 for file in wheels.files)
    assert [name for name in record.wheels if name.startswith("uv-")]
    assert wheels.artifact == build_trainer_wheels(Target(PYTHON), cache=CACHE).artifact


def test_artifacts_are_uploaded_once_and_what_names_others_last(dev: Deployment) -> None:
    """A second upload sends only a missing file, even if the last file exists."""
    files = [
        ArtifactFile(artifact_key(sha256_hex(data), "x.whl"), sha256_hex(data), data=data)
        for data in (b"one", b"two", b"set")
    ]
    launcher = dev.as_role("launcher").s3
    assert upload(launcher, dev.bucket, files[2:]) == 1
    assert upload(launcher, dev.bucket, files) == 2
    assert upload(launcher, dev.bucket, files) == 0
