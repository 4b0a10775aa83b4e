"""Read and write the few keys that presigned addresses are given for.

The player has no credentials for the bucket. It reads and writes over plain HTTPS, with the
standard library alone.
"""

import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

from rl_evaluator.errors import ExpiredRequestError, InvalidRequestError
from rl_lifecycle.errors import (
    PreconditionFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject

#: Seconds that one transfer may stand still, and the pauses before each repetition. They are short,
#: because the player is paid for while it waits. Airflow waits longer, by the table in
#: rl_lifecycle.aws_errors.
STILL_S = 60.0
PAUSES_S = (0.5, 2.0)
#: S3's code for an address that is too old, and for credentials that have ended before it.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
EXPIRED = (b"Request has expired", b"ExpiredToken")


class UrlStore:
    """The keys of a bucket for which there are presigned addresses.

    Its errors name keys and never addresses, because an address is a permission.

    :param reads: key → address.
    :param write: the address of the one key that may be written.
    """

    def __init__(self, reads: Mapping[str, str], write: str | None = None) -> None:
        self.reads, self.write = reads, write
        self._context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))

    @property
    def uri(self) -> str:
        """A name for error messages."""
        return "the bucket"

    def find(self, key: str) -> StoredObject | None:
        """Read a key. :return: None if it does not exist."""
        if key not in self.reads:
            raise InvalidRequestError(f"{key} was not handed over to the player")
        status, data = self._send(key, self._request(self.reads[key]))
        if status == 404:
            return None
        if status != 200:
            raise StoreRefusedError(key, f"S3 answered {status}")
        return StoredObject(data, "")

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write the one key that may be written, unless it exists.

        :raises PreconditionFailedError: if it exists.
        """
        if self.write is None or if_match is not None or not if_none_match:
            raise InvalidRequestError(f"{key}: the player writes only one key, and only once")
        headers = {"If-None-Match": "*", "Content-Type": "application/json"}
        status, _ = self._send(key, self._request(self.write, data, headers, "PUT"))
        if status == 412:
            raise PreconditionFailedError(key, "If-None-Match")
        if status not in (200, 201):
            raise StoreRefusedError(key, f"S3 answered {status}")
        return ""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Refuse: no address lists keys."""
        raise InvalidRequestError(f"{prefix}: the player cannot list keys")

    def delete(self, key: str) -> None:
        """Refuse: no address deletes a key."""
        raise InvalidRequestError(f"{key}: the player cannot delete keys")

    def _request(
        self,
        address: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> urllib.request.Request:
        """Make a request. Only HTTP is spoken, so that an address never names a local file."""
        if not address.startswith(("https://", "http://")):
            raise InvalidRequestError("an address of the request is not one of S3")
        return urllib.request.Request(address, data, dict(headers or {}), method=method)  # noqa: S310

    def _send(self, key: str, request: urllib.request.Request) -> tuple[int, bytes]:
        """Send a request; repeat it if S3 does not answer or is too busy."""
        problem = ""
        for pause in (*PAUSES_S, None):
            status, body, problem = self._try(request)
            if status == 403 or (status == 400 and EXPIRED[1] in body):
                if any(sign in body for sign in EXPIRED):
                    raise ExpiredRequestError(key)
                return status, body
            if status and status < 500 and status != 409:
                return status, body
            if pause is not None:
                time.sleep(pause)
        raise StoreUnavailableError(key, problem or "S3 did not answer")

    def _try(self, request: urllib.request.Request) -> tuple[int, bytes, str]:
        """Send a request once. :return: the status, or 0 without an answer; the body; the cause."""
        try:
            with urllib.request.urlopen(  # noqa: S310 - checked above
                request, timeout=STILL_S, context=self._context
            ) as answer:
                return answer.status, answer.read(), ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(4096), f"S3 answered {error.code}"
        except (OSError, urllib.error.URLError) as error:
            return 0, b"", f"S3 did not answer: {type(error).__name__}"
