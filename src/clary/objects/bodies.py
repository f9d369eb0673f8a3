"""Integrity of a request's body: what its headers promise is held against the bytes as they come.

``x-amz-content-sha256``, ``aws-chunked`` framing with its signatures and trailers, ``Content-MD5``
and the ``x-amz-checksum-*`` family. Everything here is work for a thread: hashing a gigabyte takes
seconds.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clary.aws.fault import Fault
from clary.errors import AccessDenied, InvalidRequest
from clary.objects.checksums import (
    Declaration,
    check_value,
    encode,
    find_declaration,
    new_digest,
    parse_md5,
)
from clary.objects.faults import bad_digest, incomplete_body, invalid_argument, malformed_trailer
from clary.signing import chunks
from clary.signing.chunks import ChunkDecoder, ChunkSigning
from clary.signing.keys import AccessKey

T = TypeVar("T")

_HEX_SHA256 = 64
_STREAMING = "STREAMING-"


@dataclass(frozen=True, slots=True)
class Checked:
    """A body that is what its headers promised."""

    size: int
    md5: str
    """Hex digest: the entity tag of an object or part."""

    checksums: Mapping[str, str]
    """By algorithm, in base64: at most one."""


class BodyCheck:
    """Decodes and checks one body.

    Args:
        headers: Of the request, by lower-case name.
        key: Whose signature the request has, where chunk signatures are to be checked.
        default_algorithm: Checksum to compute when the request names none.

    Raises:
        Fault: The headers promise something that cannot be.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        key: AccessKey | None = None,
        *,
        default_algorithm: str | None = None,
    ) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._expected_md5 = None
        if "content-md5" in headers:
            self._expected_md5 = parse_md5(headers["content-md5"])
        self._expected_sha256: str | None = None
        self._sha256: hashlib._Hash | None = None
        self._decoder: ChunkDecoder | None = None
        self._size = 0
        self._read_payload_header(headers, key)
        declaration = find_declaration(headers)
        if declaration is None and default_algorithm:
            declaration = Declaration(default_algorithm, None)
        self._declaration = declaration
        self._checksum = new_digest(declaration.algorithm) if declaration else None

    def _read_payload_header(self, headers: Mapping[str, str], key: AccessKey | None) -> None:
        declared = headers.get("x-amz-content-sha256", "")
        encodings = headers.get("content-encoding", "").lower().split(",")
        is_chunked = "aws-chunked" in (encoding.strip() for encoding in encodings)
        if declared.startswith(_STREAMING):
            signed = declared.encode() in (chunks.SIGNED, chunks.SIGNED_TRAILER)
            if not signed and declared.encode() != chunks.UNSIGNED_TRAILER:
                raise invalid_argument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, "
                    "STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, "
                    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
                    "x-amz-content-sha256",
                    declared,
                )
            signing = None
            if signed and key is not None:
                raw = {k.encode("latin-1"): v.encode("latin-1") for k, v in headers.items()}
                signing = _telling(lambda: ChunkSigning.of_request(raw, key))
            self._decoder = ChunkDecoder(signing, expected_length=_decoded_length(headers))
        elif is_chunked:
            self._decoder = ChunkDecoder(expected_length=_decoded_length(headers))
        elif len(declared) == _HEX_SHA256:
            self._expected_sha256 = declared.lower()
            self._sha256 = hashlib.sha256()

    def feed(self, pieces: Sequence[bytes]) -> Sequence[bytes]:
        """Take bytes as they came; return the object's bytes among them.

        Raises:
            Fault: They are not what they should be.
        """
        if self._decoder is not None:
            decoder = self._decoder
            pieces = _telling(lambda: [data for piece in pieces for data in decoder.feed(piece)])
        for piece in pieces:
            self._size += len(piece)
            self._md5.update(piece)
            if self._sha256 is not None:
                self._sha256.update(piece)
            if self._checksum is not None:
                self._checksum.update(piece)
        return pieces

    def finish(self) -> Checked:
        """Say that the body has ended; return what is known of it.

        Raises:
            Fault: It is not what its headers (or trailers) promised.
        """
        if self._decoder is not None:
            _telling(self._decoder.finish)
        if self._sha256 is not None and not hmac.compare_digest(
            self._sha256.hexdigest(), self._expected_sha256 or ""
        ):
            raise Fault(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
                400,
                fields={
                    "ClientComputedContentSHA256": self._expected_sha256,
                    "S3ComputedContentSHA256": self._sha256.hexdigest(),
                },
            )
        if self._expected_md5 is not None and self._md5.digest() != self._expected_md5:
            raise bad_digest("Content-MD5")
        return Checked(self._size, self._md5.hexdigest(), self._check_checksum())

    def _check_checksum(self) -> Mapping[str, str]:
        declaration = self._declaration
        if declaration is None or self._checksum is None:
            return {}
        computed = encode(self._checksum.digest())
        expected = declaration.value
        if declaration.trailer is not None:
            trailers = self._decoder.trailers if self._decoder is not None else {}
            expected = trailers.get(declaration.trailer)
            if expected is None:
                raise malformed_trailer()
            check_value(declaration.algorithm, expected, declaration.trailer)
        if expected is not None and expected != computed:
            raise bad_digest(declaration.algorithm)
        return {declaration.algorithm: computed}


def declared_length(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an object will have, as far as its headers tell."""
    decoded = _decoded_length(headers)
    if decoded is not None:
        return decoded
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _decoded_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("x-amz-decoded-content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise invalid_argument(
            "x-amz-decoded-content-length is no number of bytes.",
            "x-amz-decoded-content-length",
            text,
        )
    return int(text)


def _telling(action: Callable[[], T]) -> T:
    """Do something with chunks; say in S3's way what is wrong with them.

    Raises:
        Fault: The body is cut short or broken, or a signature is wrong.
    """
    try:
        return action()
    except InvalidRequest as error:
        if "You did not provide" in error.message or "were announced" in error.message:
            raise incomplete_body() from error
        raise Fault("InvalidChunkSizeError", error.message, 400) from error
    except AccessDenied as error:
        raise Fault(error.code, error.message, 403) from error
