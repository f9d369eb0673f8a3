r"""Bodies of S3 uploads that come in signed chunks or with trailers (``aws-chunked``).

::

    10000;chunk-signature=<64 hex digits>\r\n     the signature only where chunks are signed
    <65536 bytes>\r\n
    0;chunk-signature=<64 hex digits>\r\n
    x-amz-checksum-crc32c:AAAAAA==\r\n            trailers, where x-amz-trailer announced them
    x-amz-trailer-signature:<64 hex digits>\r\n   where chunks are signed
    \r\n

Each signature covers the one before it, the first one the signature of the request's head. Data is
given out as it comes, before the end of its chunk has proved it: nothing may become visible before
``finish`` has returned.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from clary.errors import InvalidRequest
from clary.signing import sigv4
from clary.signing.canonical import EMPTY_SHA256
from clary.signing.keys import AccessKey
from clary.signing.refusals import refuse_mismatch
from clary.signing.scope import ALGORITHM, scope_of

SIGNED = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"

MAX_LINE = 16 * 1024
"""Most bytes in a line between chunks, or in one trailer."""
MAX_TRAILERS = 32
MAX_CHUNK = 5 * 1024**3
"""Most bytes in one chunk: the largest object of a single PutObject."""

_TRAILER_SIGNATURE = "x-amz-trailer-signature"


@dataclass(frozen=True, slots=True)
class ChunkSigning:
    """What the signatures of a body's chunks are checked with."""

    key: bytes = field(repr=False)
    """Signing key of the day, region and service."""
    scope: bytes
    """Credential scope without the key id."""
    moment: bytes
    """``x-amz-date`` of the request."""
    seed: bytes
    """Signature of the request's head."""

    @classmethod
    def of_request(cls, headers: Mapping[bytes, bytes], key: AccessKey) -> "ChunkSigning":
        """Return what to check the chunks of a request with, whose head has been verified.

        Raises:
            InvalidRequest: The request has no SigV4 ``Authorization`` header, which chunk
                signatures start from.
        """
        scope = scope_of(headers, b"")
        authorization = headers.get(b"authorization", b"")
        if scope is None or not authorization.startswith(ALGORITHM):
            raise InvalidRequest("Signed chunks require an Authorization header of SigV4.")
        return cls(
            key=sigv4.derive_key(key.secret, scope.date, scope.region, scope.service),
            scope=f"{scope.date}/{scope.region}/{scope.service}/aws4_request".encode(),
            moment=headers.get(b"x-amz-date", b""),
            seed=authorization.rpartition(b"Signature=")[2].strip(),
        )


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkDecoder:
    """Takes an ``aws-chunked`` body in pieces and gives its data.

    Args:
        signing: How to check chunk signatures; None for unsigned chunks, and when authentication
            is off, where signatures are read over.
        expected_length: ``x-amz-decoded-content-length``; None when it was not sent.
    """

    def __init__(
        self, signing: ChunkSigning | None = None, *, expected_length: int | None = None
    ) -> None:
        self._signing = signing
        self._expected_length = expected_length
        self._previous = signing.seed if signing else b""
        self._given = b""
        self._digest = hashlib.sha256()
        self._state = _State.SIZE
        self._line = bytearray()
        self._left = 0
        self._decoded = 0
        self._trailers: dict[str, str] = {}
        self._trailer_text = bytearray()
        self._trailer_signature = b""

    @property
    def finished(self) -> bool:
        """Whether the last chunk and all trailers have been read and found right."""
        return self._state is _State.DONE

    @property
    def decoded_length(self) -> int:
        """Bytes of data given out so far."""
        return self._decoded

    @property
    def trailers(self) -> Mapping[str, str]:
        """Trailers by lower-case name, without their signature; complete once ``finished``."""
        return self._trailers

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the body as they came; return the data among them, in order.

        Raises:
            InvalidRequest: They are no chunks, or data of another length than announced.
            AccessDenied: A signature is wrong; what was given out before is not to be trusted.
        """
        pieces = []
        position = 0
        end = len(data)
        while position < end:
            if self._state is _State.DATA:
                piece = data[position : position + self._left]
                position += len(piece)
                self._take(piece)
                pieces.append(piece)
            else:
                newline = data.find(b"\n", position)
                stop = end if newline < 0 else newline + 1
                self._line += data[position:stop]
                position = stop
                if len(self._line) > MAX_LINE:
                    raise InvalidRequest("A chunk's head or trailer is too long.")
                if newline >= 0:
                    line = bytes(self._line).rstrip(b"\r\n")
                    self._line.clear()
                    self._take_line(line)
        return pieces

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            InvalidRequest: Something is missing.
        """
        if self._state is _State.TRAILERS and not self._line and not self._trailer_text:
            # Some clients leave out the empty line behind the last chunk when no trailer follows.
            self._end()
        if not self.finished:
            raise InvalidRequest(
                "You did not provide the number of bytes specified by the chunk sizes."
            )

    def _take(self, piece: bytes) -> None:
        self._left -= len(piece)
        self._decoded += len(piece)
        expected = self._expected_length
        if expected is not None and self._decoded > expected:
            raise InvalidRequest(f"The body has more than the {expected} bytes announced.")
        if self._signing:
            self._digest.update(piece)
        if not self._left:
            self._state = _State.DATA_END

    def _take_line(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            self._start_chunk(line)
        elif self._state is _State.DATA_END:
            if line:
                raise InvalidRequest("A chunk is longer than its size says.")
            self._check_chunk()
            self._state = _State.SIZE
        elif self._state is _State.TRAILERS:
            if line:
                self._take_trailer(line)
            else:
                self._end()
        elif line:
            raise InvalidRequest("There are bytes behind the last chunk.")

    def _start_chunk(self, line: bytes) -> None:
        digits, _, extension = line.partition(b";")
        # int() alone would also take signs, blanks, underscores and 0x.
        if not 1 <= len(digits) <= 16 or digits.strip(b"0123456789abcdefABCDEF"):
            raise InvalidRequest("A chunk's size is no hexadecimal number.")
        self._left = int(digits, 16)
        if self._left > MAX_CHUNK:
            raise InvalidRequest(f"A chunk has more than {MAX_CHUNK} bytes.")
        self._given = extension.partition(b"chunk-signature=")[2].strip()
        if self._left:
            self._state = _State.DATA
        else:
            self._check_chunk()
            self._state = _State.TRAILERS

    def _check_chunk(self) -> None:
        if self._signing:
            self._check(b"AWS4-HMAC-SHA256-PAYLOAD", self._given, self._digest, empty=EMPTY_SHA256)
            self._digest = hashlib.sha256()

    def _check(
        self, algorithm: bytes, given: bytes, digest: "hashlib._Hash", *, empty: bytes | None = None
    ) -> None:
        signing = self._signing
        assert signing is not None
        parts = [algorithm, signing.moment, signing.scope, self._previous]
        if empty is not None:
            parts.append(empty)
        text = b"\n".join([*parts, digest.hexdigest().encode()])
        expected = hmac.digest(signing.key, text, "sha256").hex().encode()
        if not hmac.compare_digest(expected, given):
            raise refuse_mismatch("s3")
        self._previous = expected

    def _take_trailer(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        key = name.strip().lower().decode("latin-1")
        if not colon or not key or key in self._trailers or len(self._trailers) >= MAX_TRAILERS:
            raise InvalidRequest("The request contained trailing data that is not well-formed.")
        if key == _TRAILER_SIGNATURE:
            self._trailer_signature = value.strip()
            return
        self._trailers[key] = value.strip().decode("latin-1")
        self._trailer_text += b"%s:%s\n" % (key.encode("latin-1"), value.strip())

    def _end(self) -> None:
        expected = self._expected_length
        if expected is not None and self._decoded != expected:
            raise InvalidRequest(
                f"The body has {self._decoded} bytes where {expected} were announced."
            )
        if self._signing and self._trailer_text:
            digest = hashlib.sha256(self._trailer_text)
            self._check(b"AWS4-HMAC-SHA256-TRAILER", self._trailer_signature, digest)
        self._state = _State.DONE
