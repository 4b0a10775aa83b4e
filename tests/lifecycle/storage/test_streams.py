"""Large objects are sent and read in pieces and verified on the way."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import pytest

from rl_lifecycle.errors import ChangedPiecesError, CorruptArtifactError, MissingObjectError
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.storage.pieces import PiecesReader
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.storage.streams import put_pieces, read_verified

PARTS = [b"one", b"", bytes(3_000_000), b"three"]
WHOLE = b"".join(PARTS)
PIECES = [memoryview(part) for part in PARTS]


def test_pieces_become_one_object_and_are_read_as_they_come(store: ObjectStore) -> None:
    """An object written in pieces equals the joined pieces."""
    put_pieces(store, "a/chunk", PIECES, sha256_hex(WHOLE))
    assert get(store, "a/chunk").data == WHOLE
    assert (
        read_verified(store, "a/chunk", sha256_hex(WHOLE), lambda reader: reader.read(5))
        == WHOLE[:5]
    )


def test_bytes_that_changed_in_memory_are_not_stored_under_their_digest(store: ObjectStore) -> None:
    """The writer gets an error, whether or not the store compares digests."""
    data = bytearray(WHOLE)
    pieces = [memoryview(data)[:100], memoryview(data)[100:]]
    expected = sha256_hex(WHOLE)
    data[-1] ^= 1
    with pytest.raises(ChangedPiecesError, match="a/chunk changed"):
        put_pieces(store, "a/chunk", pieces, expected)
    if isinstance(store, DirectoryStore):
        assert list((store.root / "a").iterdir()) == []
        return
    data[-1] ^= 1

    def overtaken(**request: Any) -> None:
        """Send the pieces, then overwrite them in memory."""
        assert request["Body"].read()
        assert base64.b64decode(request["ChecksumSHA256"]).hex() == expected
        data[0] ^= 1

    with pytest.raises(ChangedPiecesError):
        put_pieces(
            S3Store(SimpleNamespace(put_object=overtaken), "lake"), "a/chunk", pieces, expected
        )


def test_other_bytes_than_were_recorded_are_refused_however_little_was_read(
    store: ObjectStore,
) -> None:
    """The digest covers the whole object, also parts that the caller did not read."""
    store.put("chunk", WHOLE[:-1] + b"x")
    with pytest.raises(CorruptArtifactError, match="chunk has SHA-256"):
        read_verified(store, "chunk", sha256_hex(WHOLE), lambda reader: reader.read(1))


def test_a_readers_error_is_damage_only_if_the_digest_differs(
    store: ObjectStore,
) -> None:
    """A reader's ValueError means damage if the digest differs, and is passed on if not."""
    store.put("chunk", b"odd")

    def fails(_reader: object) -> None:
        raise ValueError("not understood")

    with pytest.raises(CorruptArtifactError):
        read_verified(store, "chunk", sha256_hex(WHOLE), fails)
    with pytest.raises(ValueError, match="not understood"):
        read_verified(store, "chunk", sha256_hex(b"odd"), fails)


def test_a_key_that_does_not_exist_is_named(store: ObjectStore) -> None:
    """A missing key is reported as missing, not as a store that does not answer."""
    with pytest.raises(MissingObjectError, match="nowhere"):
        read_verified(store, "nowhere", "", lambda reader: reader.read(1))


def test_pieces_can_be_sought_in_like_a_file() -> None:
    """An HTTP client can measure a body and send it again after a redirect."""
    reader = PiecesReader(PIECES)
    assert (len(reader), reader.seek(0, io.SEEK_END), reader.tell()) == (
        len(WHOLE),
        len(WHOLE),
        len(WHOLE),
    )
    assert reader.read(10) == b""
    assert (reader.seek(2), reader.read(1), reader.seek(-6, io.SEEK_END)) == (
        2,
        b"e",
        len(WHOLE) - 6,
    )
    assert io.BufferedReader(reader).read() == b"\0three"
    assert io.BufferedReader(PiecesReader(PIECES)).read() == WHOLE
