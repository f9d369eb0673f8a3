"""Conditional requests and byte ranges: decisions about values.

Source: RFC 9110 sections 13 and 14, and the notes on conditional requests in S3's GetObject.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from clary.aws.fault import Fault
from clary.objects.faults import no_such_key, not_implemented, precondition_failed

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*")
_MAX_DIGITS = 18


class NotModified(Exception):
    """The client has the object already: 304.

    Args:
        etag: The object's, without quotes.
        modified_at: When it was written.
    """

    def __init__(self, etag: str, modified_at: datetime) -> None:
        super().__init__(etag)
        self.headers = {
            "etag": f'"{etag}"',
            "last-modified": format_datetime(modified_at, usegmt=True),
        }


def matches_etag(header: str, etag: str) -> bool:
    """Return whether a list of entity tags names this one; ``*`` names all.

    Args:
        header: ``If-Match`` or ``If-None-Match``; quotes may be missing, as S3 allows.
        etag: Without quotes.
    """
    tags = (tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
    return any(tag in ("*", etag) for tag in tags)


def check_read(
    conditions: Mapping[str, Any], etag: str, modified_at: datetime, *, prefix: str = ""
) -> None:
    """Check what a reader asks for.

    Args:
        conditions: Members IfMatch, IfNoneMatch, IfModifiedSince and IfUnmodifiedSince, or with a
            prefix those of a copy's source.
        etag: The object's, without quotes.
        modified_at: When it was written, in whole seconds.
        prefix: ``CopySource`` for the conditions of a copy, which never answers 304.

    Raises:
        NotModified: The client has it.
        Fault: ``PreconditionFailed``.
    """
    unchanged = NotModified(etag, modified_at)
    if_match = conditions.get(f"{prefix}IfMatch")
    if_none_match = conditions.get(f"{prefix}IfNoneMatch")
    modified_since = conditions.get(f"{prefix}IfModifiedSince")
    unmodified_since = conditions.get(f"{prefix}IfUnmodifiedSince")
    if if_match is not None:
        if not matches_etag(if_match, etag):
            raise precondition_failed("If-Match")
    elif unmodified_since is not None and modified_at > unmodified_since:
        raise precondition_failed("If-Unmodified-Since")
    if if_none_match is not None:
        if matches_etag(if_none_match, etag):
            raise precondition_failed("If-None-Match") if prefix else unchanged
    elif modified_since is not None and modified_at <= modified_since:
        raise precondition_failed("If-Modified-Since") if prefix else unchanged


def check_write(conditions: Mapping[str, Any], key: str, etag: str | None) -> None:
    """Check what a writer asks for.

    Args:
        conditions: Members IfMatch and IfNoneMatch.
        key: The object's key.
        etag: That of the object which is there now, without quotes; None when there is none.

    Raises:
        Fault: ``PreconditionFailed``, or ``NoSuchKey`` for If-Match without an object.
    """
    if_none_match = conditions.get("IfNoneMatch")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise not_implemented(
                "A header you provided implies functionality that is not implemented: "
                "If-None-Match of a write takes only *."
            )
        if etag is not None:
            raise precondition_failed("If-None-Match")
    if_match = conditions.get("IfMatch")
    if if_match is not None:
        if etag is None:
            raise no_such_key(key)
        if not matches_etag(if_match, etag):
            raise precondition_failed("If-Match")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of an object: from ``start``, ``length`` of them."""

    start: int
    length: int

    def header(self, size: int) -> str:
        """Return the value of ``Content-Range`` for an object of this size."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def resolve_range(header: str | None, size: int) -> ByteRange | None:
    """Return which bytes a ``Range`` header asks for; None for all of them.

    Headers that are no single range of bytes are ignored, as S3 does.

    Raises:
        Fault: ``InvalidRange``: it lies behind the object's end.
    """
    found = _RANGE.fullmatch(header) if header else None
    if found is None or max(len(found[1]), len(found[2])) > _MAX_DIGITS:
        return None
    first, last = found[1], found[2]
    if first:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    elif last:
        start = max(0, size - int(last))
        end = size - 1
    else:
        return None
    if start > end:
        raise Fault(
            "InvalidRange",
            "The requested range is not satisfiable",
            416,
            fields={"RangeRequested": header, "ActualObjectSize": size},
        )
    return ByteRange(start, end - start + 1)


def resolve_copy_range(header: str, size: int) -> ByteRange:
    """Return which bytes ``x-amz-copy-source-range`` means: it has both ends, within the source.

    Raises:
        Fault: ``InvalidArgument`` or ``InvalidRange``.
    """
    found = _RANGE.fullmatch(header)
    if found is None or not (found[1] and found[2]) or max(map(len, found.groups())) > _MAX_DIGITS:
        raise Fault(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            400,
        )
    start, end = int(found[1]), int(found[2])
    if start > end or end >= size:
        raise Fault(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {size}",
            400,
        )
    return ByteRange(start, end - start + 1)
