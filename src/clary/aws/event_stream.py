"""Messages of ``application/vnd.amazon.eventstream``, in which AWS streams replies.

::

    +--------------+----------------+-------------+---------+---------+-------------+
    | total length | headers length | CRC of both | headers | payload | CRC of all  |
    |     u32      |      u32       |     u32     |         |         |     u32     |
    +--------------+----------------+-------------+---------+---------+-------------+
"""

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_PAYLOAD = 16 * 1024 * 1024
"""Most bytes of payload in one message; SDKs refuse larger ones."""

_BYTES = 6
_STRING = 7


def encode_message(headers: Mapping[str, str | bytes], payload: bytes) -> bytes:
    """Return one message.

    Args:
        headers: Names and values; text and bytes are the only types that AWS's services send.
        payload: Content, at most ``MAX_PAYLOAD`` bytes.

    Raises:
        ValueError: The payload is too long.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{len(payload)} bytes are more than one event can hold")
    block = b"".join(_encode_header(name, value) for name, value in headers.items())
    prelude = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    head = prelude + struct.pack("!I", zlib.crc32(prelude)) + block
    return head + payload + struct.pack("!I", zlib.crc32(payload, zlib.crc32(head)))


def encode_event(event_type: str, payload: bytes, content_type: str) -> bytes:
    """Return an event of a modelled type, such as ``PayloadPart``."""
    return encode_message(
        {":event-type": event_type, ":content-type": content_type, ":message-type": "event"},
        payload,
    )


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


def _encode_header(name: str, value: str | bytes) -> bytes:
    kind, data = (_STRING, value.encode()) if isinstance(value, str) else (_BYTES, value)
    label = name.encode()
    return struct.pack("!B", len(label)) + label + struct.pack("!BH", kind, len(data)) + data
