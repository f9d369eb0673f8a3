"""Pages of keys, with everything behind a delimiter rolled up.

A page is read from the key that it starts at, and a rolled-up group is stepped over with a new
search: the cost is that of what is on the page, whatever else the bucket holds.
"""

import base64
import binascii
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clary.objects.catalog import COLUMNS, StoredObject, object_of_row
from clary.objects.faults import invalid_argument

MAX_KEYS = 1000
"""Most entries on a page, and how many there are unless the request says less."""


@dataclass(slots=True)
class Page:
    """One page."""

    objects: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    """Common prefixes: what the delimiter rolled up."""

    last: str = ""
    """Last entry of the page, an object's key or a common prefix; empty on an empty page."""

    is_truncated: bool = False


def list_page(
    connection: sqlite3.Connection,
    bucket: str,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    limit: int = MAX_KEYS,
) -> Page:
    """Return the objects and common prefixes behind a key or common prefix.

    Args:
        connection: Where to read.
        bucket: Name of the bucket, which exists.
        prefix: What keys have to start with.
        delimiter: Up to where the rest of a key is rolled up; empty for never.
        after: Key or common prefix that the page starts behind; empty for the first page.
        limit: Most entries.
    """
    page = Page()
    if limit <= 0:
        return page
    for entry in _entries(connection, bucket, prefix, delimiter, after):
        if len(page.objects) + len(page.prefixes) >= limit:
            page.is_truncated = True
            break
        if isinstance(entry, str):
            page.prefixes.append(entry)
            page.last = entry
        else:
            page.objects.append(entry)
            page.last = entry.key
    return page


def _entries(
    connection: sqlite3.Connection, bucket: str, prefix: str, delimiter: str, after: str
) -> Iterator[StoredObject | str]:
    start = prefix.encode()
    if after and after.encode() >= start:
        group = common_prefix(after, prefix, delimiter)
        # Behind a whole group, or just behind a key: "key" + NUL is the next possible one.
        start = (successor(after.encode()) if group == after else after.encode() + b"\0") or b""
        if not start:
            return
    end = successor(prefix.encode())
    while True:
        group = None
        for row in _rows(connection, bucket, start, end):
            group = common_prefix(row[0].decode(), prefix, delimiter)
            if group is not None:
                break
            yield object_of_row(row)
        if group is None:
            return
        yield group
        following = successor(group.encode())
        if following is None:
            return
        start = following


def _rows(
    connection: sqlite3.Connection, bucket: str, start: bytes, end: bytes | None
) -> Iterator[tuple[Any, ...]]:
    bound = "" if end is None else " AND key < ?"
    cursor = connection.execute(
        f"SELECT {COLUMNS} FROM objects WHERE bucket = ? AND key >= ?{bound} ORDER BY key",
        (bucket, start) if end is None else (bucket, start, end),
    )
    try:
        yield from cursor
    finally:
        # An unfinished cursor would hold its snapshot, and with it the write-ahead log.
        cursor.close()


def common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    """Return what a key is rolled up to; None when it stands for itself."""
    if not delimiter or not key.startswith(prefix):
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


def successor(start: bytes) -> bytes | None:
    """Return the smallest text behind all that start so; None when there is none."""
    kept = start.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else None


def encode_token(last: str) -> str:
    """Return a continuation token: opaque to clients."""
    return base64.urlsafe_b64encode(b"1" + last.encode()).decode()


def decode_token(token: str) -> str:
    """Return the entry that a continuation token points behind.

    Raises:
        Fault: ``InvalidArgument``.
    """
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        if raw[:1] != b"1":
            raise ValueError("no token of ours")
        return raw[1:].decode()
    except (binascii.Error, ValueError) as error:
        raise invalid_argument(
            "The continuation token provided is incorrect", "continuation-token", token
        ) from error
