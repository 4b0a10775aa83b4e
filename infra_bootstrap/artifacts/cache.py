"""The cache of builds. The key of a build is the digest of its sources."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from infra_bootstrap.artifacts.locks import ROOT


def cache_folder() -> Path:
    """Return the folder that NIGHTSHIFT_CACHE names, else `.cache` in the project."""
    named = os.environ.get("NIGHTSHIFT_CACHE")
    return Path(named) if named else ROOT / ".cache"


def cached(kind: str, key: str, build: Callable[[Path], None], root: Path | None = None) -> Path:
    """Return the folder of an earlier build, or build it now.

    A failed build leaves no folder. Only one process at a time builds a kind with this key.

    :param kind: what is built, for people who look into the cache.
    :param key: digest of all sources of the build.
    :param build: fills the empty folder that it gets.
    :param root: the cache. None means :func:`cache_folder`.
    """
    base = (root or cache_folder()) / kind
    target = base / key
    if target.is_dir():
        return target
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base / f".{key[:16]}.lock"):
        if target.is_dir():
            return target
        fresh = Path(tempfile.mkdtemp(dir=base, prefix=".building-"))
        try:
            build(fresh)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
