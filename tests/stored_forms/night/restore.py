"""Restore a stored night in a new account and a new Airflow.

The stored objects name resources of their own account: a launch template, subnets, a wheel set
and a machine. The new account has other resources. Objects name each other by digest, so a new
name changes digests in other objects. :func:`rename` repeats until no object changes any more.
All times are moved by whole seconds to the present, because a deadline in the past would end
the night.

Only values change: every key, field and form of a stored object stays.
"""

import hashlib
import json
import re
import sqlite3
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).with_name("night.tar.xz")
#: Objects that may contain another object's name; models, parameters and events do not.
TEXTS = (".json", ".jsonl", ".md", ".html")
TIME = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?!\d)")
#: Placeholders in `airflow.sql` for the project, the checkout and Airflow's home.
WORDS = ("/stored/project", "/stored/checkout", "/stored/airflow")
#: How long ago the night seems to be stopped, so that its triggerer counts as dead.
STOPPED_AGO = timedelta(seconds=120)


@dataclass(frozen=True)
class StoredNight:
    """The content of the archive.

    :param facts: see `make.py`

    :param database: Airflow's database as SQL

    :param objects: bytes by key

    :param wheels: bytes by file name

    :param store: bytes by path
    """

    facts: dict[str, Any]
    database: str
    objects: dict[str, bytes]
    wheels: dict[str, bytes]
    store: dict[str, bytes]


def read_archive(archive: Path = ARCHIVE) -> StoredNight:
    """Unpack the archive in memory."""
    with tarfile.open(archive, "r:xz") as packed:
        files = {entry.name: packed.extractfile(entry).read() for entry in packed}  # type: ignore[union-attr]

    def below(folder: str) -> dict[str, bytes]:
        return {
            name.removeprefix(folder): data
            for name, data in files.items()
            if name.startswith(folder)
        }

    return StoredNight(
        json.loads(files["facts.json"]),
        files["airflow.sql"].decode(),
        below("bucket/"),
        below("wheels/"),
        below("store/"),
    )


def names_of(night: StoredNight, outputs: Mapping[str, Any]) -> dict[str, str]:
    """Pair the names of the stored account with those of the new account.

    :param outputs: the new account's outputs, as `infra_bootstrap outputs` prints them
    """
    before = night.facts["outputs"]
    assert before["launch_template_version"] == outputs["launch_template_version"], (
        "a fresh environment has the first version of its template"
    )
    names = {
        before[name]: outputs[name]
        for name in ("bucket", "launch_template_id", "image_id", "evaluator_alias_arn", "topic_arn")
    }
    zones = sorted(before["subnet_ids"])
    assert zones == sorted(outputs["subnet_ids"])
    names |= {before["subnet_ids"][zone]: outputs["subnet_ids"][zone] for zone in zones}
    return names


class Clock:
    """Moves all times by the same seconds, so that the night was stopped a moment ago."""

    def __init__(self, stopped_at: str, now: datetime) -> None:
        ago = now - STOPPED_AGO - datetime.fromisoformat(stopped_at)
        self.by = timedelta(seconds=int(ago.total_seconds()))

    def move(self, text: str) -> str:
        """Move every time in a text.

        >>> Clock("2026-01-01T00:00:00+00:00", datetime(2026, 1, 1, 0, 1, tzinfo=UTC)).move(
        ...     '"2026-01-01T00:00:00.123Z"'
        ... )
        '"2025-12-31T23:59:00.123Z"'
        """
        return TIME.sub(lambda found: self._moved(found[0]), text)

    def _moved(self, word: str) -> str:
        moved = datetime.fromisoformat(word) + self.by
        return moved.isoformat(sep=word[10], timespec="seconds")


def replace_names(text: str, names: Mapping[str, str]) -> str:
    """Replace every name in a text, each once.

    >>> replace_names("a b", {"a": "b", "b": "c"})
    'b c'
    """
    if not names:
        return text
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return pattern.sub(lambda found: names[found[0]], text)


def rename(
    objects: Mapping[str, bytes], names: Mapping[str, str], clock: Clock
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Replace names and times, and then the digests and ETags that changed.

    :return: the objects by their new keys, and all replaced names
    """
    texts = {key: clock.move(data.decode()) for key, data in objects.items() if key.endswith(TEXTS)}
    known = dict(names) | _months(texts, names)
    while True:
        renamed = {key: replace_names(text, known).encode() for key, text in texts.items()}
        changed = {
            digest(objects[key]).hexdigest(): digest(data).hexdigest()
            for key, data in renamed.items()
            for digest in (hashlib.sha256, hashlib.md5)
            if data != objects[key]
        }
        if changed.items() <= known.items():
            break
        known |= changed
    return {replace_names(key, known): data for key, data in ({**objects} | renamed).items()}, known


def _months(texts: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Pair the ledgers' keys with the new ones, because a key names the month of its run."""
    began = {
        tuple(key.split("/")[1:3]): json.loads(text)["created_at"][:7]
        for key, text in texts.items()
        if key.startswith("specs/")
    }
    found = {}
    for key in texts:
        if key.startswith("ledger/"):
            experiment, run = key.removesuffix(".json").split("/")[2:4]
            moved = f"ledger/{began[experiment, run]}/{experiment}/{run}.json"
            found[key] = replace_names(moved, names)
    return found


def restore_database(text: str, path: Path) -> sqlite3.Connection:
    """Create an Airflow database from its SQL.

    :return: a connection to it
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.executescript(text)
    return database


def write_store(night: StoredNight, folder: Path) -> Path:
    """Write the stored directory store."""
    for name, data in night.store.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
