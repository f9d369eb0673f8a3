"""What is known of one captured call, and how a batch of them goes from one process to another.

A record stands for itself: it says where it belongs and how its bodies are to be written, so that
who takes it needs no routing table. A batch is a sequence of::

    length of the head (4 bytes, big-endian) · head (JSON) · the request's body · the answer's body
"""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One side of a captured call."""

    content_type: str
    encoding: str
    """``CSV``, ``JSON`` or ``BASE64``; text that is no UTF-8 becomes BASE64 all the same."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRecord:
    """One captured call."""

    destination: str
    """``s3://bucket/prefix``."""

    endpoint: str
    variant: str
    event_id: str
    time: float
    """When the call began, in seconds of Unix time."""

    input: Observed | None
    output: Observed | None
    custom_attributes: str | None = None
    inference_id: str | None = None
    is_shadow: bool = False
    """Whether it is a copy for a shadow variant."""


def pack(records: Iterable[CaptureRecord]) -> bytes:
    """Return a batch."""
    pieces: list[bytes] = []
    for record in records:
        sides = (record.input, record.output)
        head = {
            "destination": record.destination,
            "endpoint": record.endpoint,
            "variant": record.variant,
            "event_id": record.event_id,
            "time": record.time,
            "custom_attributes": record.custom_attributes,
            "inference_id": record.inference_id,
            "is_shadow": record.is_shadow,
            "sides": [
                None if side is None else [side.content_type, side.encoding, len(side.body)]
                for side in sides
            ],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        pieces += [_LENGTH.pack(len(text)), text, *(side.body for side in sides if side)]
    return b"".join(pieces)


def unpack(batch: bytes) -> Iterator[CaptureRecord]:
    """Yield the records of a batch.

    Raises:
        ValueError: It is none.
    """
    reader = _Reader(batch)
    while not reader.is_at_end:
        try:
            (length,) = _LENGTH.unpack(reader.take(_LENGTH.size))
            head = json.loads(reader.take(length))
            first, second = [
                None
                if side is None
                else Observed(content_type=side[0], encoding=side[1], body=reader.take(side[2]))
                for side in head.pop("sides")
            ]
            yield CaptureRecord(**head, input=first, output=second)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"this is no captured call: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._data):
            raise ValueError("the batch breaks off")
        piece = self._data[self._position : end]
        self._position = end
        return piece
