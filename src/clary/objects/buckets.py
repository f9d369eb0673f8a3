"""Buckets and the documents that belong to them: policy, tagging, versioning and so on.

Documents are kept as clients sent them and returned as they are: this server enforces none of them.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from clary.aws.fault import Fault
from clary.objects.contents import remove_pieces
from clary.objects.database import Transaction
from clary.objects.faults import no_such_bucket
from clary.objects.files import ContentFiles

Source = sqlite3.Connection | Transaction


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket."""

    name: str
    created_at: datetime
    region: str


def get_bucket(source: Source, name: str) -> Bucket:
    """Return a bucket.

    Raises:
        Fault: ``NoSuchBucket``.
    """
    row = source.execute(
        "SELECT name, created_at, region FROM buckets WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise no_such_bucket(name)
    return _bucket(row)


def check_bucket(source: Source, name: str) -> None:
    """Raise ``NoSuchBucket`` unless there is one."""
    if source.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone() is None:
        raise no_such_bucket(name)


def list_buckets(source: Source, *, prefix: str, after: str, limit: int) -> list[Bucket]:
    """Return buckets by name: those that start with a prefix and lie behind a name."""
    rows = source.execute(
        "SELECT name, created_at, region FROM buckets WHERE name > ? AND name >= ? "
        "AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
        (after, prefix, len(prefix), prefix, limit),
    )
    return [_bucket(row) for row in rows]


def create_bucket(
    transaction: Transaction, bucket: Bucket, documents: Mapping[str, bytes], *, repeatable: bool
) -> None:
    """Create a bucket.

    Args:
        transaction: Where.
        bucket: What.
        documents: Those that it has from its start.
        repeatable: Whether one that exists is fine, as in us-east-1.

    Raises:
        Fault: ``BucketAlreadyOwnedByYou``.
    """
    row = transaction.execute("SELECT 1 FROM buckets WHERE name = ?", (bucket.name,)).fetchone()
    if row is not None:
        if repeatable:
            return
        raise Fault(
            "BucketAlreadyOwnedByYou",
            "Your previous request to create the named bucket succeeded and you already own it.",
            409,
            fields={"BucketName": bucket.name},
        )
    transaction.execute(
        "INSERT INTO buckets VALUES (?, ?, ?)",
        (bucket.name, bucket.created_at.timestamp(), bucket.region),
    )
    for kind, document in documents.items():
        put_document(transaction, bucket.name, kind, document)


def delete_bucket(transaction: Transaction, files: ContentFiles, name: str) -> None:
    """Delete a bucket that holds no objects; unfinished uploads go with it.

    Raises:
        Fault: ``NoSuchBucket`` or ``BucketNotEmpty``.
    """
    check_bucket(transaction, name)
    if transaction.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
        raise Fault(
            "BucketNotEmpty",
            "The bucket you tried to delete is not empty",
            409,
            fields={"BucketName": name},
        )
    uploads = transaction.execute("SELECT content FROM uploads WHERE bucket = ?", (name,))
    for (content,) in uploads.fetchall():
        remove_pieces(transaction, files, content)
    for table, column in (
        ("uploads", "bucket"),
        ("bucket_documents", "bucket"),
        ("buckets", "name"),
    ):
        transaction.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))


def find_document(source: Source, bucket: str, kind: str) -> bytes | None:
    """Return a document of a bucket, as it was put.

    Args:
        source: Where to look.
        bucket: Name of the bucket.
        kind: Name of the sub-resource in the query, such as ``lifecycle``.

    Raises:
        Fault: ``NoSuchBucket``.
    """
    check_bucket(source, bucket)
    row = source.execute(
        "SELECT document FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind)
    ).fetchone()
    return None if row is None else bytes(row[0])


def put_document(transaction: Transaction, bucket: str, kind: str, document: bytes) -> None:
    """Set a document of a bucket.

    Raises:
        Fault: ``NoSuchBucket``.
    """
    check_bucket(transaction, bucket)
    transaction.execute(
        "INSERT OR REPLACE INTO bucket_documents VALUES (?, ?, ?)", (bucket, kind, document)
    )


def delete_document(transaction: Transaction, bucket: str, kind: str) -> None:
    """Remove a document of a bucket; one that is not there is fine.

    Raises:
        Fault: ``NoSuchBucket``.
    """
    check_bucket(transaction, bucket)
    transaction.execute(
        "DELETE FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind)
    )


def _bucket(row: tuple[str, float, str]) -> Bucket:
    name, created_at, region = row
    return Bucket(name, datetime.fromtimestamp(int(created_at), UTC), region)
