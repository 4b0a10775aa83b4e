"""The version that every spec and manifest records."""

from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.dag_processing.bundles.local import LocalDagBundle

from rl_airflow.infrastructure.project_version import (
    COMMIT_VARIABLE,
    find_bundle_version,
    find_commit,
)


class FakeGitBundle(BaseDagBundle):
    """A bundle with versions, as Airflow's git bundle: its current version may move."""

    supports_versioning = True
    current: Any = BundleVersion(version="b" * 40)

    @property
    def path(self) -> Path:
        """The folder of the checkout."""
        return Path("/nowhere")

    def get_current_version(self) -> Any:
        """Return the commit of the branch."""
        return self.current

    def refresh(self) -> None:
        """Do nothing."""


class FakeTi:
    """A task instance as the task's process has it."""

    def __init__(self, bundle: BaseDagBundle) -> None:
        self.bundle_instance = bundle


def test_a_run_that_is_pinned_records_the_version_of_its_bundle() -> None:
    """The branch may have moved since the run began."""
    bundle = FakeGitBundle(name="nightly", version="a" * 40)
    assert find_bundle_version(FakeTi(bundle)) == "a" * 40


@pytest.mark.parametrize("current", [BundleVersion(version="b" * 40), "b" * 40])
def test_a_run_that_is_not_pinned_records_the_current_version(current: object) -> None:
    """Bundles of older providers give a text."""
    bundle = FakeGitBundle(name="nightly")
    bundle.current = current
    assert find_bundle_version(FakeTi(bundle)) == "b" * 40


def test_without_versions_it_is_the_commit_of_the_folder_or_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local folder has no version, and a test's task instance has no bundle."""
    assert find_bundle_version(FakeTi(LocalDagBundle(name="local", path=str(tmp_path)))) is None
    assert find_bundle_version(object()) is None
    monkeypatch.setenv(COMMIT_VARIABLE, "c" * 40)
    assert find_commit(tmp_path) == "c" * 40
