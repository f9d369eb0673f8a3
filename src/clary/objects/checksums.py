"""Checksums of bodies: what S3 clients declare, what is kept, and how parts add up.

Source: Amazon S3 user guide, "Checking object integrity". A multipart object has either a checksum
of its parts' checksums (``COMPOSITE``, written with ``-<parts>``) or, for CRCs, that of all its
bytes (``FULL_OBJECT``), which follows from those of the parts.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import google_crc32c

from clary.aws.fault import Fault
from clary.objects import crc
from clary.objects.faults import invalid_request, not_implemented

HEADER_PREFIX = "x-amz-checksum-"
_NOT_CHECKSUMS = frozenset(
    {"x-amz-checksum-mode", "x-amz-checksum-algorithm", "x-amz-checksum-type"}
)


class Digest(Protocol):
    """A checksum that takes bytes piece by piece."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Crc32c:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = google_crc32c.extend(self._value, data)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_DIGESTS: Mapping[str, Callable[[], Digest]] = {
    "CRC32": _Crc32,
    "CRC32C": _Crc32c,
    "CRC64NVME": crc.Crc64Nvme,
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
_WIDTHS = {
    "CRC32": 4,
    "CRC32C": 4,
    "CRC64NVME": 8,
    "SHA1": 20,
    "SHA256": 32,
    "SHA512": 64,
    "MD5": 16,
}
_POLYNOMIALS = {"CRC32": crc.CRC32, "CRC32C": crc.CRC32C, "CRC64NVME": crc.CRC64NVME}


def new_digest(algorithm: str) -> Digest:
    """Return an empty checksum.

    Raises:
        Fault: ``NotImplemented``: this server cannot compute it.
    """
    factory = _DIGESTS.get(algorithm)
    if factory is None:
        raise not_implemented(
            f"The checksum algorithm {algorithm[:20]} is not implemented by this server; it knows "
            f"{', '.join(_DIGESTS)}."
        )
    return factory()


def member_of(algorithm: str) -> str:
    """Return the member of S3's structures that holds this checksum."""
    return f"Checksum{algorithm}"


def encode(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a request says about its body's checksum."""

    algorithm: str
    """Such as ``CRC32``."""
    value: str | None
    """In base64; None when it comes in a trailer, or is to be computed."""
    trailer: str | None = None
    """Name of the trailer that brings the value."""


def find_declaration(headers: Mapping[str, str]) -> Declaration | None:
    """Return the checksum that the headers of an upload declare.

    Raises:
        Fault: ``InvalidRequest``: there are several, or the value is none.
    """
    names = [
        name for name in headers if name.startswith(HEADER_PREFIX) and name not in _NOT_CHECKSUMS
    ]
    trailers = [
        name.strip().lower()
        for name in headers.get("x-amz-trailer", "").split(",")
        if name.strip().lower().startswith(HEADER_PREFIX)
    ]
    if len(names) + len(trailers) > 1:
        raise invalid_request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    if trailers:
        return Declaration(_algorithm_of(trailers[0]), None, trailers[0])
    if names:
        algorithm = _algorithm_of(names[0])
        new_digest(algorithm)
        check_value(algorithm, headers[names[0]], names[0])
        return Declaration(algorithm, headers[names[0]])
    wanted = headers.get("x-amz-sdk-checksum-algorithm") or headers.get("x-amz-checksum-algorithm")
    return Declaration(wanted.upper(), None) if wanted else None


def check_value(algorithm: str, value: str, name: str) -> None:
    """Refuse what cannot be a checksum.

    Raises:
        Fault: ``InvalidRequest``.
    """
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _WIDTHS[algorithm]:
        raise invalid_request(f"Value for {name} header is invalid.")


def default_type(algorithm: str) -> str:
    """Return the kind of checksum that a multipart object has unless its upload says another."""
    return "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"


def check_type(algorithm: str, checksum_type: str) -> None:
    """Refuse a kind of checksum that an algorithm cannot have.

    Raises:
        Fault: ``InvalidRequest``.
    """
    if (checksum_type == "FULL_OBJECT" and algorithm not in _POLYNOMIALS) or (
        checksum_type == "COMPOSITE" and algorithm == "CRC64NVME"
    ):
        raise invalid_request(
            f"The {checksum_type} checksum type cannot be used with the "
            f"{algorithm.lower()} checksum algorithm."
        )


def combine(algorithm: str, checksum_type: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of an object from those of its parts.

    Args:
        algorithm: Such as ``CRC32``.
        checksum_type: ``COMPOSITE`` or ``FULL_OBJECT``.
        parts: (checksum in base64, size) of each part, in order.
    """
    raw = [base64.b64decode(value) for value, _ in parts]
    if checksum_type == "COMPOSITE":
        digest = new_digest(algorithm)
        digest.update(b"".join(raw))
        return f"{encode(digest.digest())}-{len(parts)}"
    polynomial = _POLYNOMIALS[algorithm]
    total = 0
    for value, (_, size) in zip(raw, parts, strict=True):
        total = polynomial.combine(total, int.from_bytes(value, "big"), size)
    return encode(total.to_bytes(_WIDTHS[algorithm], "big"))


def combine_etags(etags: Sequence[str]) -> str:
    """Return the entity tag of a multipart object from those of its parts, all without quotes."""
    digest = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


def parse_md5(value: str) -> bytes:
    """Return the digest in a ``Content-MD5`` header.

    Raises:
        Fault: ``InvalidDigest``.
    """
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 16:
        raise Fault("InvalidDigest", "The Content-MD5 you specified was invalid.", 400)
    return raw


def _algorithm_of(header: str) -> str:
    return header.removeprefix(HEADER_PREFIX).upper()
