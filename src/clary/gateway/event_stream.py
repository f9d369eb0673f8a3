"""Messages of ``application/vnd.amazon.eventstream``, in which AWS streams replies.

::

    +--------------+----------------+-------------+---------+---------+-------------+
    | total length | headers length | CRC of both | headers | payload | CRC of all  |
    |     u32      |      u32       |     u32     |         |         |     u32     |
    +--------------+----------------+-------------+---------+---------+-------------+
"""

import functools
import struct
import zlib
from collections.abc import Mapping, Sequence

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_PAYLOAD = 16 * 1024 * 1024
"""Most bytes of payload in one message; SDKs refuse larger ones."""

_BYTES = 6
_STRING = 7
_U32 = struct.Struct("!I")
_PRELUDE = struct.Struct("!II")
_OVERHEAD = 16
"""Bytes of a message beside headers and payload."""


def encode_message(headers: Mapping[str, str | bytes], payload: bytes) -> bytes:
    """Return one message.

    Args:
        headers: Names and values; text and bytes are the only types that AWS's services send.
        payload: Content, at most ``MAX_PAYLOAD`` bytes.

    Raises:
        ValueError: The payload is too long.
    """
    block = b"".join(_encode_header(name, value) for name, value in headers.items())
    head, crc = _encode_head(block, len(payload))
    return head + payload + _U32.pack(zlib.crc32(payload, crc))


def encode_event(event_type: str, payload: bytes, content_type: str) -> bytes:
    """Return an event of a modelled type, such as ``PayloadPart``."""
    return encode_message(_event_headers(event_type, content_type), payload)


def encode_payload_parts(payloads: Sequence[bytes]) -> bytes:
    """Return the events that carry pieces of a model's reply, one for each.

    What ``encode_event`` returns, in a fraction of its time: streams of tokens are thousands of
    these, of few lengths.
    """
    if len(payloads) == 1:  # as parts come that something has to be waited for
        (payload,) = payloads
        head, crc = _payload_part_head(len(payload))
        return b"%b%b%b" % (head, payload, _U32.pack(zlib.crc32(payload, crc)))
    pieces: list[bytes] = []
    for payload in payloads:
        head, crc = _payload_part_head(len(payload))
        pieces += (head, payload, _U32.pack(zlib.crc32(payload, crc)))
    return b"".join(pieces)


def encode_exception(exception_type: str, payload: bytes, content_type: str) -> bytes:
    """Return a modelled exception, which ends the stream."""
    return encode_message(
        {
            ":exception-type": exception_type,
            ":content-type": content_type,
            ":message-type": "exception",
        },
        payload,
    )


def _event_headers(event_type: str, content_type: str) -> dict[str, str | bytes]:
    return {":event-type": event_type, ":content-type": content_type, ":message-type": "event"}


def _encode_header(name: str, value: str | bytes) -> bytes:
    kind, data = (_STRING, value.encode()) if isinstance(value, str) else (_BYTES, value)
    label = name.encode()
    return struct.pack("!B", len(label)) + label + struct.pack("!BH", kind, len(data)) + data


def _encode_head(block: bytes, payload_length: int) -> tuple[bytes, int]:
    """Return all that comes before the payload, and its checksum, for the payload to continue."""
    if payload_length > MAX_PAYLOAD:
        raise ValueError(f"{payload_length} bytes are more than one event can hold")
    prelude = _PRELUDE.pack(_OVERHEAD + len(block) + payload_length, len(block))
    head = prelude + _U32.pack(zlib.crc32(prelude)) + block
    return head, zlib.crc32(head)


_PAYLOAD_PART = b"".join(
    _encode_header(name, value)
    for name, value in _event_headers("PayloadPart", "application/octet-stream").items()
)


@functools.lru_cache(maxsize=4096)
def _payload_part_head(payload_length: int) -> tuple[bytes, int]:
    return _encode_head(_PAYLOAD_PART, payload_length)
