"""The catalogue: which objects there are, by bucket and key."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clary.objects.buckets import check_bucket
from clary.objects.conditions import check_write
from clary.objects.contents import Piece, new_content_id, remove_pieces, save_piece
from clary.objects.database import Transaction
from clary.objects.faults import no_such_key
from clary.objects.files import ContentFiles

Source = sqlite3.Connection | Transaction

COLUMNS = "key, content, size, etag, modified_at, attributes"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object without its bytes."""

    key: str
    content: int
    """Id of its pieces."""

    size: int
    etag: str
    """Without quotes."""

    modified_at: datetime
    """In whole seconds, as S3 has it."""

    attributes: Mapping[str, Any]
    """Members of S3's replies (``ContentType``, ``Metadata``, ``ChecksumCRC32``, ...), and
    ``Tags``: a list of pairs."""


def find_object(source: Source, bucket: str, key: str) -> StoredObject | None:
    row = source.execute(
        f"SELECT {COLUMNS} FROM objects WHERE bucket = ? AND key = ?", (bucket, key.encode())
    ).fetchone()
    return None if row is None else object_of_row(row)


def get_object(source: Source, bucket: str, key: str) -> StoredObject:
    """Return an object.

    Raises:
        Fault: ``NoSuchKey`` or ``NoSuchBucket``.
    """
    found = find_object(source, bucket, key)
    if found is None:
        check_bucket(source, bucket)
        raise no_such_key(key)
    return found


def put_object(
    transaction: Transaction,
    files: ContentFiles,
    bucket: str,
    new: StoredObject,
    *,
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Create or replace an object whose pieces are saved in the same transaction.

    Raises:
        Fault: ``NoSuchBucket``, or a condition does not hold.
    """
    check_bucket(transaction, bucket)
    old = find_object(transaction, bucket, new.key)
    if conditions:
        check_write(conditions, new.key, old.etag if old else None)
    if old is not None:
        remove_pieces(transaction, files, old.content)
    transaction.execute(
        f"INSERT OR REPLACE INTO objects (bucket, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            bucket,
            new.key.encode(),
            new.content,
            new.size,
            new.etag,
            new.modified_at.timestamp(),
            json.dumps(new.attributes),
        ),
    )


def put_single(
    transaction: Transaction,
    files: ContentFiles,
    bucket: str,
    key: str,
    piece: Piece,
    attributes: Mapping[str, Any],
    conditions: Mapping[str, Any],
) -> StoredObject:
    """Create or replace an object of one piece.

    Raises:
        Fault: ``NoSuchBucket``, or a condition does not hold.
    """
    content = new_content_id()
    modified_at = datetime.fromtimestamp(int(piece.modified_at), UTC)
    new = StoredObject(key, content, piece.size, piece.etag, modified_at, attributes)
    put_object(transaction, files, bucket, new, conditions=conditions)
    save_piece(transaction, files, content, piece)
    return new


def set_attributes(
    transaction: Transaction, bucket: str, key: str, changes: Mapping[str, Any]
) -> None:
    """Change attributes of an object; None removes one.

    Raises:
        Fault: ``NoSuchKey`` or ``NoSuchBucket``.
    """
    merged = {**get_object(transaction, bucket, key).attributes, **changes}
    kept = {name: value for name, value in merged.items() if value is not None}
    transaction.execute(
        "UPDATE objects SET attributes = ? WHERE bucket = ? AND key = ?",
        (json.dumps(kept), bucket, key.encode()),
    )


def delete_object(
    transaction: Transaction,
    files: ContentFiles,
    bucket: str,
    key: str,
    conditions: Mapping[str, Any] | None = None,
) -> None:
    """Delete an object; one that is not there is fine, unless a condition names it.

    Raises:
        Fault: ``NoSuchBucket``, or a condition does not hold.
    """
    check_bucket(transaction, bucket)
    old = find_object(transaction, bucket, key)
    if conditions:
        check_write(conditions, key, old.etag if old else None)
    if old is None:
        return
    transaction.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key.encode()))
    remove_pieces(transaction, files, old.content)


def object_of_row(row: tuple[Any, ...]) -> StoredObject:
    key, content, size, etag, modified_at, attributes = row
    return StoredObject(
        key.decode(),
        content,
        size,
        etag,
        datetime.fromtimestamp(int(modified_at), UTC),
        json.loads(attributes),
    )
