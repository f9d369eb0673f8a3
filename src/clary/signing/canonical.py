"""The canonical forms that SigV4 signs.

All of it works on bytes as they came, so that nothing is decoded and encoded again on the way. Two
clients may write the same request differently (``%2f`` or ``%2F``, ``+`` or ``%20``): ``paths`` and
``queries`` give the form as sent first, which is what SDKs sign, then the form that the
specification makes of it.
"""

from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

_CACHED = 1024

EMPTY_SHA256 = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Hex SHA-256 of no bytes at all."""


def paths(path: bytes, *, s3: bool) -> tuple[bytes, ...]:
    """Return the canonical URIs to try for a path as sent, the likeliest first.

    Args:
        path: Raw path, percent-encoded, without the query.
        s3: S3 signs the path as it is; all other services sign the normalised path, encoded a
            second time.
    """
    # Invocations have few paths, objects have many: only the former are worth remembering.
    if s3 or len(path) > 512:
        return _paths(path, s3)
    return _remembered_paths(path, s3)


def _paths(path: bytes, s3: bool) -> tuple[bytes, ...]:
    path = path or b"/"
    if s3:
        normalized = quote(unquote_to_bytes(path), safe="/-_.~").encode()
        return (path,) if normalized == path else (path, normalized)
    return (quote(_remove_dot_segments(path), safe="/-_.~").encode(),)


_remembered_paths = lru_cache(maxsize=_CACHED)(_paths)


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4; AWS also drops empty segments."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment and segment != b".":
            kept.append(segment)
    end = b"/" if kept and path.endswith(b"/") else b""
    return b"/" + b"/".join(kept) + end


def queries(query: bytes, *, without: bytes = b"") -> tuple[bytes, ...]:
    """Return the canonical query strings to try for a query as sent, the likeliest first.

    Args:
        query: Raw query, without the question mark.
        without: Name of a parameter to leave out: the signature of a presigned request.
    """
    if not query:
        return (b"",)
    pairs = [
        (name, value)
        for name, _, value in (part.partition(b"=") for part in query.split(b"&") if part)
        if name != without
    ]
    as_sent = b"&".join([b"%s=%s" % pair for pair in sorted(pairs)])
    encoded = sorted((_encode_again(name), _encode_again(value)) for name, value in pairs)
    normalized = b"&".join([b"%s=%s" % pair for pair in encoded])
    return (as_sent,) if normalized == as_sent else (as_sent, normalized)


def _encode_again(text: bytes) -> bytes:
    if text.isalnum():
        return text
    return quote(unquote_to_bytes(text.replace(b"+", b"%20")), safe="-_.~").encode()
