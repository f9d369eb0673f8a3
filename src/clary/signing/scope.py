"""Whom a signature names, read without checking anything.

Requests are routed by it, whether authentication is on or not. What clients repeat with every
request is remembered; what is long is not, so that nobody can fill the memory with it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

ALGORITHM = b"AWS4-HMAC-SHA256"

_CACHED = 1024


class Scope(NamedTuple):
    """Whom a signature names: the credential scope."""

    access_key_id: str
    date: str
    region: str
    service: str


class Credential(NamedTuple):
    """The constant part of a signature: the scope, and which headers are signed."""

    scope: Scope
    scope_bytes: bytes
    """``20260101/us-east-1/s3/aws4_request``."""
    signed_headers: bytes
    """As sent: ``host;x-amz-date``."""
    header_names: tuple[bytes, ...]
    template: bytes
    """The end of the canonical request, with ``%b`` for each header's value and for the hash of
    the body."""


def scope_of(headers: Mapping[bytes, bytes], query: bytes) -> Scope | None:
    """Return whom a request is for, by its header or presigned query; None when it does not say.

    Nothing is verified. SigV2, which only S3 has, gives a scope without date and region.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None:
        if authorization.startswith(ALGORITHM):
            credential = parse_authorization(authorization.rpartition(b"Signature=")[0])
            return credential.scope if credential else None
        if authorization.startswith(b"AWS "):
            return Scope(_text(authorization[4:].partition(b":")[0]), "", "", "s3")
    if b"X-Amz-Credential=" in query:
        return _parse_scope(unquote_to_bytes(parameter(query, b"X-Amz-Credential") or b""))
    key_id = parameter(query, b"AWSAccessKeyId") if b"AWSAccessKeyId=" in query else None
    return Scope(_text(unquote_to_bytes(key_id)), "", "", "s3") if key_id is not None else None


def parse_authorization(prefix: bytes) -> Credential | None:
    """Parse an ``Authorization`` header up to its signature; None when it is malformed."""
    parse = _parse_header if len(prefix) <= 1024 else _parse_header.__wrapped__
    return parse(prefix)


@lru_cache(maxsize=_CACHED)
def _parse_header(prefix: bytes) -> Credential | None:
    """Parse ``AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., ``."""
    fields = {}
    for part in prefix[len(ALGORITHM) :].split(b","):
        name, equals, value = part.strip().partition(b"=")
        if equals:
            fields[name] = value.strip()
    return parse_credential(fields.get(b"Credential", b""), fields.get(b"SignedHeaders", b""))


def parse_credential(text: bytes, signed_headers: bytes) -> Credential | None:
    scope = _parse_scope(text)
    if scope is None or not signed_headers:
        return None
    names = tuple(signed_headers.lower().split(b";"))
    lines = b"".join(name.replace(b"%", b"%%") + b":%b\n" for name in names)
    template = b"%b\n%b\n%%b" % (lines, signed_headers.replace(b"%", b"%%"))
    return Credential(scope, text.partition(b"/")[2], signed_headers, names, template)


def _parse_scope(text: bytes) -> Scope | None:
    parts = text.split(b"/")
    if len(text) > 256 or len(parts) != 5 or parts[4] != b"aws4_request" or not all(parts):
        return None
    return Scope(*map(_text, parts[:4]))


@lru_cache(maxsize=_CACHED)
def parse_moment(text: bytes) -> float | None:
    """Return the seconds since 1970 of ``20260102T030405Z``; None when it is no such text."""
    if len(text) != 16:
        return None
    try:
        return (
            datetime.strptime(text.decode("ascii"), "%Y%m%dT%H%M%SZ")
            .replace(tzinfo=UTC)
            .timestamp()
        )
    except ValueError:
        return None


def format_moment(moment: datetime) -> str:
    """Return a moment as ``x-amz-date`` has it."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parameter(query: bytes, name: bytes) -> bytes | None:
    """Return the raw value of a query parameter: the first one of that name."""
    start = name + b"="
    for part in query.split(b"&"):
        if part.startswith(start):
            return part[len(start) :]
    return None


def _text(data: bytes) -> str:
    return data.decode("latin-1")
