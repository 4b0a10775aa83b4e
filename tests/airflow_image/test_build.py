"""`make image` uses the first engine that works, and hands on an index of packages as a secret.

The engines here are programs that write down their arguments, and what a secret's file says.
"""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: What the script calls, and the engines below.
TOOLS = ("bash", "cat", "dirname", "git", "mktemp", "rm")
DOCKER, PODMAN, BUILDAH = "docker", "podman", "buildah"
INDEX = "https://ci:s3cret-word@packages.example.org/simple"
#: `docker info` fails where no daemon runs.
ENGINE = """#!/bin/sh
name=${0##*/}
if [ "$1" = info ]; then exit $STATUS_OF_INFO; fi
for word in "$name" "$@"; do
  printf '%s\\n' "$word" >> "$CALLS"
  case $word in id=*) cat "${word#*src=}" >> "$SECRETS";; esac
done
"""


class Build:
    """A folder in which only some engines are installed."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.calls = folder / "bin", folder / "calls"
        self.secrets, self.temporary = folder / "secrets", folder / "tmp"
        self.programs.mkdir()
        self.temporary.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.programs / tool).symlink_to(found)

    def run(
        self, engines: Iterable[str], *, daemon: bool = False, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the script of `make image`."""
        for name in engines:
            (self.programs / name).write_text(ENGINE)
            (self.programs / name).chmod(0o755)
        return subprocess.run(
            ["bash", str(ROOT / "airflow_image/build.sh")],
            env={
                "PATH": str(self.programs),
                "TMPDIR": str(self.temporary),
                "CALLS": str(self.calls),
                "SECRETS": str(self.secrets),
                "STATUS_OF_INFO": "0" if daemon else "1",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def arguments(self) -> list[str]:
        """Return the engine's name and its arguments."""
        return self.calls.read_text().splitlines()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """No engine is installed yet."""
    return Build(tmp_path)


@pytest.mark.parametrize(
    ("engines", "daemon", "used"),
    [
        ((DOCKER, PODMAN, BUILDAH), True, [DOCKER, "build"]),
        ((DOCKER, PODMAN, BUILDAH), False, [BUILDAH, "bud"]),
        ((DOCKER, PODMAN), False, [PODMAN, "build"]),
    ],
)
def test_the_first_engine_that_works_builds_the_image(
    build: Build, engines: tuple[str, ...], daemon: bool, used: list[str]
) -> None:
    """Docker only with its daemon. The others need no network of bridges, which a container lacks.

    The image has the name that docker-compose.yaml starts.
    """
    done = build.run(engines, daemon=daemon)
    assert done.returncode == 0, done.stderr
    arguments = build.arguments()
    assert arguments[:2] == used
    assert arguments[arguments.index("--tag") + 1] in (ROOT / "docker-compose.yaml").read_text()
    assert ("--isolation" in arguments) == (used[0] != DOCKER)
    assert "--secret" not in arguments
    assert not any(word.startswith("BASE_IMAGE") for word in arguments)


def test_without_an_engine_one_line_says_what_to_install(build: Build) -> None:
    """The exit status is that of a wrong input."""
    done = build.run(())
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install buildah" in done.stderr


def test_an_index_with_a_password_is_a_secret_of_the_build(build: Build, tmp_path: Path) -> None:
    """The engine gets it as a file, which is gone afterwards, and no argument shows it."""
    certificates = tmp_path / "company.pem"
    certificates.write_text("\nthe company's certificates\n")
    done = build.run([BUILDAH], PIP_INDEX_URL=INDEX, PIP_CERT=str(certificates))
    assert done.returncode == 0, done.stderr
    assert "s3cret-word" not in build.calls.read_text() + done.stdout + done.stderr
    assert build.secrets.read_text() == INDEX + "\nthe company's certificates\n"
    assert list(build.temporary.iterdir()) == []
    mounted = (ROOT / "Dockerfile").read_text()
    for word in build.arguments():
        if word.startswith("id="):
            assert f"--mount=type=secret,{word.split(',')[0]} " in mounted


def test_a_base_and_a_proxy_of_your_own_are_arguments(build: Build) -> None:
    """A proxy is named without its value, which may hold a password: the engine looks it up."""
    base = "registry.example.org/python:3.12"
    done = build.run([PODMAN], BASE_IMAGE=base, https_proxy="http://me:pw@proxy.example.org:3128")
    assert done.returncode == 0, done.stderr
    arguments = build.arguments()
    given = [arguments[n + 1] for n, word in enumerate(arguments) if word == "--build-arg"]
    assert given[1:] == [f"BASE_IMAGE={base}", "https_proxy"]
    assert given[0].startswith("NIGHTSHIFT_COMMIT=")
