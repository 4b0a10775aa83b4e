"""Open a store from its URI, and wait for a store that does not answer.

botocore's own retries draw from Python's global generator (`random.random()` in
botocore/retryhandler.py). An environment may draw from the same generator. So the client here never
retries. :class:`PatientStore` retries, with its own generator.
"""

import errno
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rl_lifecycle.aws_errors import (
    BELIEVED_AFTER_S,
    ErrorKind,
    error_code,
    http_status,
    kind_of,
    may_pass,
    waiting_for,
)
from rl_lifecycle.errors import ChangedPiecesError, StoreUnavailableError
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, StoredObject
from rl_lifecycle.storage.pieces import Pieces, Reader
from rl_lifecycle.storage.s3_store import S3Store, split_s3_uri
from rl_lifecycle.storage.streams import put_pieces, read_through
from rl_trainer.errors import BadInputError, DiskFullError, StoreLostError, TrainerError

T = TypeVar("T")
#: What botocore accepts as the name of a bucket. Source: VALID_BUCKET in botocore/handlers.py.
BUCKET = re.compile(r"[a-zA-Z0-9.\-_]{1,255}")
#: Errors of a directory that do not go away by waiting.
PERMANENT_ERRNOS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "quota exceeded",
    errno.EROFS: "read-only",
    errno.EACCES: "not writable",
    errno.EPERM: "not writable",
    errno.EFBIG: "file too large",
}
#: A start without credentials, or with a wrong endpoint, is believed after this time, seconds. A
#: machine's own credentials can be late by some seconds.
UNREACHABLE_S = 5.0
#: How often a waiting store looks whether it may wait on, seconds.
CHECK_EVERY_S = 0.2


def open_store(uri: str) -> ObjectStore:
    """Open a directory or `s3://bucket[/prefix]`.

    S3 is called with boto3's default credential chain and `AWS_ENDPOINT_URL`.

    :raises BadInputError: if the URI has another form, or the directory cannot be made.
    """
    if not uri.strip():
        raise BadInputError("--store: is empty; give a directory, or s3://bucket/prefix")
    if uri.startswith("s3://"):
        return _open_bucket(uri)
    if "://" in uri:
        raise BadInputError(f"--store {uri}: must be a directory or s3://bucket/prefix")
    path = Path(uri)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(
            f"--store {uri}: the directory cannot be made: {error.strerror}"
        ) from error
    return DirectoryStore(path)


def _open_bucket(uri: str) -> ObjectStore:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    keep_global_random_untouched()
    bucket, prefix = split_s3_uri(uri)
    if not BUCKET.fullmatch(bucket):
        raise BadInputError(
            f"--store {uri}: {bucket!r} is no name of a bucket; write s3://bucket/prefix"
        )
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=5, read_timeout=60
    )
    try:
        return S3Store(boto3.client("s3", config=config), bucket, prefix)
    except (BotoCoreError, ValueError) as error:  # a profile, region or endpoint that is not valid
        raise _unusable(error, uri) from error


def keep_global_random_untouched() -> None:
    """Give botocore its own random generator.

    Otherwise a thread that refreshes credentials would change the random numbers of the training.
    """
    import botocore.utils

    vars(botocore.utils)["random"] = random.Random()


class PatientStore:
    """A store that repeats failed operations on another store, for a limited time.

    :param patience_s: how long one operation is repeated, in seconds after its first failure.
    :param on_wait: called with a sentence after each failure. The trainer then reports WAITING.
    :param check: called again and again while it waits. What it raises ends the waiting.
    """

    def __init__(
        self,
        store: ObjectStore,
        patience_s: float = waiting_for("s3").most_s,
        on_wait: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.store, self.patience_s, self.on_wait = store, patience_s, on_wait or _ignore
        self.check = check or _check_nothing
        self._jitter, self._has_answered = random.Random(), False

    @property
    def uri(self) -> str:
        """The URI of the store."""
        return self.store.uri

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        return self._patiently(lambda: self.store.find(key))

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key."""
        return self._patiently(
            lambda: self.store.put(key, data, if_match=if_match, if_none_match=if_none_match)
        )

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key from pieces of memory.

        :raises TrainerError: if the pieces changed while they were sent, which is an error in code.
        """
        try:
            self._patiently(lambda: put_pieces(self.store, key, pieces, sha256))
        except ChangedPiecesError as error:
            raise TrainerError(str(error)) from error

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Read a key through a function. If the store fails in between, reading starts again."""
        return self._patiently(lambda: read_through(self.store, key, consume))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys."""
        return iter(self._patiently(lambda: tuple(self.store.list(prefix))))

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._patiently(lambda: self.store.delete(key))

    def _patiently(self, operation: Callable[[], T]) -> T:
        failing_since, pause = None, 0.2
        while True:
            try:
                result = operation()
                self._has_answered = True
                return result
            except StoreUnavailableError as error:
                # The time counts from the first failure, because the transfer may have been long.
                failing_since = failing_since or time.monotonic()
                waited = time.monotonic() - failing_since
                if not self._has_answered and waited >= UNREACHABLE_S:
                    _believe(error, self.uri)
                if waited >= _patience(error, self.patience_s):
                    raise StoreLostError(f"{error} (waited {waited:.0f} s)") from error
                self.on_wait(str(error))
            self._pause(pause * self._jitter.uniform(0.5, 1.5))
            pause = min(2 * pause, 15.0)

    def _pause(self, seconds: float) -> None:
        """Wait in short pieces, because a signal does not end Python's sleep."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_EVERY_S))
            self.check()


def _ignore(_problem: str) -> None:
    """Ignore a problem."""


def _check_nothing() -> None:
    """Let the waiting go on."""


def _believe(error: StoreUnavailableError, uri: str) -> None:
    """Refuse a store that no request can reach as it is, such as one without credentials.

    botocore has then sent no request. A store that has answered before is waited for, because a
    machine's credentials are renewed while it trains, and come back.

    :raises BadInputError: with botocore's reason, and what to do.
    """
    cause = error.__cause__
    if cause is None or not type(cause).__module__.startswith("botocore."):
        return
    if not error_code(cause) and not http_status(cause) and not may_pass(cause):
        raise _unusable(cause, uri) from error


def _unusable(error: BaseException, uri: str) -> BadInputError:
    return BadInputError(
        f"--store {uri}: {' '.join(str(error).split()).rstrip('.')}; set AWS credentials and a "
        "region, for example AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_DEFAULT_REGION, and start "
        "again"
    )


def _patience(error: StoreUnavailableError, patience_s: float) -> float:
    """Return how many seconds to wait after this error, by the table of all services.

    A request that cannot succeed is not repeated. A refusal is believed after some time, because
    IAM needs it to make a new role known. All other errors may pass.

    :raises DiskFullError: if the store is a directory that is full or cannot be written.
    """
    cause: Any = error.__cause__
    if isinstance(cause, OSError) and cause.errno in PERMANENT_ERRNOS:
        problem = PERMANENT_ERRNOS[cause.errno]
        raise DiskFullError(
            f"{error.uri}: {problem}; free space or choose another --store, then start again"
        ) from error
    if not isinstance(cause, Exception) or not error_code(cause) or may_pass(cause):
        return patience_s
    refused = kind_of(error_code(cause)) is ErrorKind.BAD_REQUEST
    return 0.0 if refused else min(BELIEVED_AFTER_S, patience_s)
