"""Multipart uploads: parts collect as pieces of a content that no object has yet."""

import itertools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clary.aws.fault import Fault
from clary.objects import catalog
from clary.objects.buckets import check_bucket
from clary.objects.catalog import StoredObject
from clary.objects.checksums import combine, combine_etags, member_of
from clary.objects.contents import Piece, find_part_facts, remove_pieces, save_piece
from clary.objects.database import Transaction
from clary.objects.faults import bad_digest, invalid_request, malformed_xml, no_such_upload
from clary.objects.files import ContentFiles
from clary.objects.listing import common_prefix

Source = sqlite3.Connection | Transaction

MAX_PART_NUMBER = 10_000
MIN_PART_BYTES = 5 * 1024**2
"""Fewest bytes of any part but the last."""

_COLUMNS = "id, bucket, key, content, started_at, attributes"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in progress."""

    id: str
    bucket: str
    key: str
    content: int
    started_at: datetime
    attributes: Mapping[str, Any]
    """Those that the object will have."""

    @property
    def algorithm(self) -> str | None:
        """Checksum that its parts have; None when each may have another."""
        return self.attributes.get("ChecksumAlgorithm")


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part as the request to complete an upload names it."""

    number: int
    etag: str
    """Without quotes."""

    checksums: Mapping[str, str]
    """By algorithm."""


def start_upload(transaction: Transaction, upload: Upload) -> None:
    """Begin an upload.

    Raises:
        Fault: ``NoSuchBucket``.
    """
    check_bucket(transaction, upload.bucket)
    transaction.execute(
        f"INSERT INTO uploads ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (
            upload.id,
            upload.bucket,
            upload.key.encode(),
            upload.content,
            upload.started_at.timestamp(),
            json.dumps(upload.attributes),
        ),
    )


def get_upload(source: Source, bucket: str, key: str, upload_id: str) -> Upload:
    """Return an upload in progress.

    Raises:
        Fault: ``NoSuchUpload`` or ``NoSuchBucket``.
    """
    row = source.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE id = ? AND bucket = ? AND key = ?",
        (upload_id, bucket, key.encode()),
    ).fetchone()
    if row is None:
        check_bucket(source, bucket)
        raise no_such_upload(upload_id)
    return _upload(row)


@dataclass(frozen=True, slots=True)
class UploadPage:
    """One page of uploads, in the order of their keys."""

    uploads: list[Upload]
    prefixes: list[str]
    """What the delimiter rolled up."""

    is_truncated: bool


def list_uploads(
    source: Source,
    bucket: str,
    *,
    prefix: str,
    delimiter: str,
    after: tuple[str, str],
    limit: int,
) -> UploadPage:
    """Return uploads in progress.

    Args:
        source: Where to look.
        bucket: Name of the bucket, which exists.
        prefix: What keys have to start with.
        delimiter: Up to where the rest of a key is rolled up; empty for never.
        after: Key and id of the upload that the page starts behind.
        limit: Most entries.
    """
    start = prefix.encode()
    rows = source.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE bucket = ? AND (key, id) > (?, ?) "
        "AND key >= ? AND substr(key, 1, ?) = ? ORDER BY key, id",
        (bucket, after[0].encode(), after[1], start, len(start), start),
    )
    page: list[Upload] = []
    prefixes: dict[str, None] = {}
    for row in rows:
        upload = _upload(row)
        group = common_prefix(upload.key, prefix, delimiter)
        if group is not None and (group in prefixes or group == after[0]):
            continue
        if len(page) + len(prefixes) >= limit:
            rows.close()
            return UploadPage(page, list(prefixes), is_truncated=True)
        if group is not None:
            prefixes[group] = None
        else:
            page.append(upload)
    return UploadPage(page, list(prefixes), is_truncated=False)


def put_part(transaction: Transaction, files: ContentFiles, upload: Upload, piece: Piece) -> None:
    """Add a part, or replace the one with its number.

    Raises:
        Fault: ``NoSuchUpload``: it has been completed or aborted meanwhile.
    """
    get_upload(transaction, upload.bucket, upload.key, upload.id)
    save_piece(transaction, files, upload.content, piece)


def abort_upload(
    transaction: Transaction, files: ContentFiles, bucket: str, key: str, upload_id: str
) -> None:
    """Forget an upload and its parts.

    Raises:
        Fault: ``NoSuchUpload`` or ``NoSuchBucket``.
    """
    upload = get_upload(transaction, bucket, key, upload_id)
    transaction.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
    remove_pieces(transaction, files, upload.content)


def complete_upload(
    transaction: Transaction,
    files: ContentFiles,
    upload: Upload,
    parts: Sequence[NamedPart],
    declared: Mapping[str, str],
    conditions: Mapping[str, Any],
    now: datetime,
) -> StoredObject:
    """Make an object of the parts of an upload.

    Args:
        transaction: Where.
        files: Where the bytes of parts lie that are not used.
        upload: Which.
        parts: Those to use, in order.
        declared: Checksum of the whole that the request names, by algorithm.
        conditions: Members IfMatch and IfNoneMatch.
        now: When the object is made.

    Raises:
        Fault: A part is missing, too small, or not what was named; a condition does not hold.
    """
    get_upload(transaction, upload.bucket, upload.key, upload.id)
    stored = {piece.number: piece for piece in find_part_facts(transaction, upload.content)}
    chosen = choose_parts(stored, parts)
    attributes = {
        **upload.attributes,
        **_whole_checksum(upload, chosen, declared),
        "PartsCount": len(chosen),
    }
    new = StoredObject(
        upload.key,
        upload.content,
        sum(piece.size for piece in chosen),
        combine_etags([piece.etag for piece in chosen]),
        now,
        attributes,
    )
    catalog.put_object(transaction, files, upload.bucket, new, conditions=conditions)
    used = {part.number for part in parts}
    unused = [number for number in stored if number not in used]
    if unused:
        remove_pieces(transaction, files, upload.content, unused)
    transaction.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
    return new


def choose_parts(stored: Mapping[int, Piece], parts: Sequence[NamedPart]) -> list[Piece]:
    """Return the stored parts that a request names.

    Raises:
        Fault: ``MalformedXML``, ``InvalidPartOrder``, ``InvalidPart`` or ``EntityTooSmall``.
    """
    if not parts or len(parts) > MAX_PART_NUMBER:
        raise malformed_xml()
    if any(second.number <= first.number for first, second in itertools.pairwise(parts)):
        raise Fault(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
            400,
        )
    chosen = []
    for part in parts:
        piece = stored.get(part.number)
        matches = piece is not None and piece.etag == part.etag
        if piece is None or not matches or not _checksums_agree(piece, part):
            raise Fault(
                "InvalidPart",
                "One or more of the specified parts could not be found.  The part may not have "
                "been uploaded, or the specified entity tag may not match the part's entity tag.",
                400,
                fields={"PartNumber": part.number, "ETag": part.etag},
            )
        chosen.append(piece)
    for piece in chosen[:-1]:
        if piece.size < MIN_PART_BYTES:
            raise Fault(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                400,
                fields={
                    "ETag": piece.etag,
                    "PartNumber": piece.number,
                    "ProposedSize": piece.size,
                    "MinSizeAllowed": MIN_PART_BYTES,
                },
            )
    return chosen


def _checksums_agree(piece: Piece, part: NamedPart) -> bool:
    return all(
        piece.checksums.get(algorithm, value) == value
        for algorithm, value in part.checksums.items()
    )


def _whole_checksum(
    upload: Upload, chosen: Sequence[Piece], declared: Mapping[str, str]
) -> dict[str, str]:
    """Return the members that tell the checksum of the whole object.

    Raises:
        Fault: ``BadDigest``: it is not the declared one.
    """
    algorithm = upload.algorithm
    if algorithm is None:
        return {}
    checksum_type = str(upload.attributes["ChecksumType"])
    parts = [(piece.checksums.get(algorithm), piece.size) for piece in chosen]
    known = [(value, size) for value, size in parts if value is not None]
    if len(known) < len(parts):
        raise invalid_request(
            f"The upload was created using a {algorithm.lower()} checksum. The complete request "
            "must include the checksum for each part. It was missing for some part in the request."
        )
    whole = combine(algorithm, checksum_type, known)
    expected = declared.get(algorithm)
    if expected is not None and whole not in (expected, f"{expected}-{len(chosen)}"):
        raise bad_digest(algorithm)
    return {member_of(algorithm): whole}


def _upload(row: tuple[Any, ...]) -> Upload:
    upload_id, bucket, key, content, started_at, attributes = row
    return Upload(
        upload_id,
        bucket,
        key.decode(),
        content,
        datetime.fromtimestamp(int(started_at), UTC),
        json.loads(attributes),
    )
