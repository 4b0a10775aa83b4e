"""What was built before, by what it was made from."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from infra_bootstrap.artifacts.locks import ROOT


def cache_folder() -> Path:
    """What NIGHTSHIFT_CACHE names, else `.cache` in the project. Everything in it is named by what
    it was made from.
    """
    named = os.environ.get("NIGHTSHIFT_CACHE")
    return Path(named) if named else ROOT / ".cache"


def cached(kind: str, key: str, build: Callable[[Path], None], root: Path | None = None) -> Path:
    """Find the folder of something built, or build it: whole or not at all, by one process at a
    time.

    :param kind: what it is, for people who look into the cache.
    :param key: digest of all that it is made from.
    :param build: fills the empty folder that it is given.
    :param root: the cache; None: :func:`cache_folder`.
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
