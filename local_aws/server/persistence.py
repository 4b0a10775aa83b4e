"""Saves each change of the account before its caller gets an answer, so that it survives a crash.

The emulator writes objects as they arrive. This module writes the rest (roles, stacks, functions,
rules, …) after each request that may have changed it. While background work may be going on, it
also writes once a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws.emulator import seams
from local_aws.server import overwrites

log = logging.getLogger("local_aws")
MESSAGES = (
    "Invoke",
    "PutEvents",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessage",
    "Publish",
    "Assume",
)
"""Frequent actions that change no configuration. The background round saves their effects."""
READS = (
    "Get",
    "List",
    "Describe",
    "Head",
    "Lookup",
    "Search",
    "Select",
    "BatchGet",
    "Estimate",
    "Validate",
    "Simulate",
    "Detect",
)
TRIES = 5
BUSY_FOR_S = 10.0
"""How long after the last request the background round goes on, once a second."""
BLOB_BYTES = 256 * 1024
"""Byte strings of at least this size are stored in their own files."""
DATA_PLANE = ("s3", "logs", "monitoring", "cloudwatch", "pricing", "servicequotas")
"""Services whose requests change no account-wide state, or which save it themselves."""


class Saver:
    """Writes each service's state when it has changed."""

    def __init__(self, folder: Path, sessions: Path) -> None:
        self._folder = folder
        self._sessions = sessions
        self._digests: dict[str, str] = {}
        self._blobs: dict[int, tuple[bytes, str]] = {}
        self._lock = threading.Lock()
        self._touched_at = time.monotonic()
        self._touched = threading.Event()

    def touch(self) -> None:
        """Note that a request was served, because its background work may change the account for a
        while.
        """
        self._touched_at = time.monotonic()
        self._touched.set()

    def is_busy(self) -> bool:
        """Say whether the last request was a short time ago."""
        return time.monotonic() - self._touched_at < BUSY_FOR_S

    def await_work(self) -> None:
        """Return when background work may be going on, at once or after the next request."""
        self._touched.clear()
        if not self.is_busy():
            self._touched.wait()

    def save_while_busy(self) -> None:
        """Save the changes, but only if the last request was a short time ago."""
        if self.is_busy():
            self.save()

    def install(self) -> None:
        """Replace the emulator's functions that write state and objects.

        State is written only if it has changed. Large byte strings get their own files. A crash
        never leaves half an object.
        """
        seams.replace("services.s3", "_atomic_write", overwrites.surviving)
        seams.replace("core.persistence", "save_state", lambda _original: self.save_state)
        seams.replace("core.persistence", "_json_object_hook", self._reading_blobs)

    def save_state(self, service: str, data: dict[str, Any]) -> None:
        """Write one service's state atomically, if it differs from the last written state."""
        persistence = seams.module("core.persistence")
        wrapped = {
            "__ministack_format__": persistence._state_format_version(service),
            "payload": data,
        }
        default = self._naming_blobs(persistence._json_default)
        self._write(service, self._folder / f"{service}.json", json.dumps(wrapped, default=default))

    def _naming_blobs(self, default: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Encode large byte strings (function code, layers) as file names.

        The state is written often, but these byte strings never change.
        """

        def encode(value: Any) -> Any:
            if isinstance(value, bytes) and len(value) >= BLOB_BYTES:
                return {"__blob__": self._keep_blob(value)}
            return default(value)

        return encode

    def _keep_blob(self, data: bytes) -> str:
        """Write a large byte string once, under its digest, and return the file's name.

        A known byte string is not hashed again.
        """
        known = self._blobs.get(id(data))
        if known is not None and known[0] is data:
            return known[1]
        name = hashlib.blake2b(data, digest_size=32).hexdigest()
        path = self._folder / "blobs" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(data)
            fresh.replace(path)
        self._blobs[id(data)] = (data, name)
        return name

    def _reading_blobs(
        self, original: Callable[[dict[str, Any]], Any]
    ) -> Callable[[dict[str, Any]], Any]:
        """Decode what :meth:`_naming_blobs` encoded."""

        def decode(value: dict[str, Any]) -> Any:
            if "__blob__" in value:
                return (self._folder / "blobs" / str(value["__blob__"])).read_bytes()
            return original(value)

        return decode

    def _write(self, name: str, path: Path, text: str) -> None:
        """Replace a file if its new text differs."""
        digest = hashlib.blake2b(text.encode()).hexdigest()
        if self._digests.get(name) == digest:
            return
        fresh = path.with_suffix(".new")
        with fresh.open("w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
        self._digests[name] = digest

    def save(self) -> None:
        """Save what has changed since the last call; retry if the state changes meanwhile."""
        with self._lock:
            for _ in range(TRIES):
                try:
                    return self._save_all()
                except RuntimeError:  # a dictionary changed while it was read
                    continue
            return self._save_all()

    def _save_all(self) -> None:
        """Write every service's state and the sessions."""
        app = seams.module("app")
        for name, get_state in app._build_persistence_save_dict().items():
            state = get_state()
            if state is not None:
                self.save_state(name, state)
        live = {
            k: s
            for k, s in seams.module("services.sts")._sessions.items()
            if s.get("Expiration", 0) > time.time()
        }
        self._write("sessions", self._sessions, json.dumps(live, default=str))

    def load_sessions(self) -> None:
        """Restore the sessions that were issued before a restart; they stay valid, as on AWS."""
        if self._sessions.exists():
            seams.module("services.sts")._sessions.update(json.loads(self._sessions.read_text()))


def fail_interrupted_stacks() -> list[str]:
    """Mark stacks as failed if a crash interrupted their operation. Return the names.

    CloudFormation would continue the operation. Here nothing continues it, so the caller would
    wait for ever for a stack that is in progress.
    """
    failed = []
    stacks = seams.module("services.cloudformation")._stacks
    for stack in list(stacks._data.values()):
        status = str(stack.get("StackStatus", ""))
        if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            verb = "UPDATE_ROLLBACK" if status.startswith("UPDATE") else status.split("_")[0]
            stack["StackStatus"] = f"{verb}_FAILED"
            stack["StackStatusReason"] = "The local AWS was stopped during this operation."
            failed.append(str(stack.get("StackName")))
    return failed


def may_change(service: str, action: str | None, method: str) -> bool:
    """Say whether a request may change what the account holds.

    >>> may_change("iam", "iam:CreateRole", "POST"), may_change("iam", "iam:GetRole", "POST")
    (True, False)
    >>> may_change("s3", "s3:PutObject", "PUT")
    False
    """
    if service in DATA_PLANE and not (action or "").startswith(
        (
            "s3:PutBucket",
            "s3:CreateBucket",
            "s3:DeleteBucket",
            "s3:PutLifecycle",
            "s3:PutEncryption",
        )
    ):
        return False
    name = (action or "").partition(":")[2]
    return method not in ("GET", "HEAD") and not name.startswith((*READS, *MESSAGES))
