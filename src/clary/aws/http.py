"""Requests and replies as values, whatever server brought them."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from clary.aws.fault import Fault

MAX_UNPACKED_BYTES = 32 * 1024 * 1024
"""Longest body that a compressed one may unpack to."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request with its whole body, or with an empty one where the body is streamed aside."""

    method: str
    path: str
    """Raw path, percent-encoded, without the query."""
    query: str = ""
    """Raw query, without the question mark."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name; values of a repeated header joined by a comma."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A reply."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def unpacked(request: HttpRequest) -> HttpRequest:
    """Return a request without its compression: SDKs compress long bodies of some operations.

    Raises:
        Fault: The body is not compressed as it says, or is too long.
    """
    if request.headers.get("content-encoding") != "gzip":
        return request
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(request.body, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise Fault("SerializationException", "The body is not valid gzip.", 400) from error
    if not unpacker.eof:
        raise Fault("RequestEntityTooLarge", "The request is too large or cut short.", 413)
    return replace(request, body=body)
