"""Cuts input into payloads: whole records, as many as a request may hold, or one by one.

A payload is bytes as they stand in the input, record frames and line ends included. Its ``end`` is
the byte of the input after it: where to go on when the payloads before are done with.
"""

import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import google_crc32c

from clary.errors import Error

RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_HEAD = struct.Struct("<II")
_TFRECORD_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")


class BadInput(Error):
    """The input is not what the job says it is; the message is for the job's log."""


class Payload(NamedTuple):
    """The body of one request."""

    body: bytes
    """Possibly a view of bytes: it can be measured, copied and written."""
    end: int
    """Byte of the input after it."""


class Cutter(Protocol):
    """Takes input as it is read."""

    def feed(self, data: bytes) -> list[Payload]:
        """Take more; return what is complete.

        Raises:
            BadInput: It has no such records, or one that is too large.
        """
        ...

    def finish(self) -> list[Payload]:
        """Return what is left at the end.

        Raises:
            BadInput: It ends inside a record.
        """
        ...


def make_cutter(split_type: str, limit: int, *, single: bool, offset: int = 0) -> Cutter:
    """Return what cuts this way.

    Args:
        split_type: ``None``, ``Line``, ``RecordIO`` or ``TFRecord``.
        limit: Most bytes of a payload; 0: any number.
        single: Whether each record is a payload of its own.
        offset: Byte of the input that the first data begins at.
    """
    if split_type == "Line":
        return (LineCutter if single else ManyLinesCutter)(limit, offset=offset)
    if split_type in RECORD_LENGTHS:
        length = RECORD_LENGTHS[split_type]
        return FrameCutter(split_type, length, limit, single=single, offset=offset)
    return WholeCutter(limit)


def too_large(limit: int) -> BadInput:
    """Return the complaint about a record that no request may hold (batch-transform.md 2)."""
    megabytes = limit // (1024 * 1024)
    return BadInput(f"Record is larger than {megabytes}MB. Please increase your max_payload")


class WholeCutter:
    """The whole input is one payload."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Payload]:
        self._held += data
        if self._limit and len(self._held) > self._limit:
            raise too_large(self._limit)
        return []

    def finish(self) -> list[Payload]:
        return [Payload(bytes(self._held), len(self._held))] if self._held else []


class LineCutter:
    """Each record is a line, and a payload; line ends stay."""

    def __init__(self, limit: int, *, offset: int = 0) -> None:
        self._limit = limit
        self._held = bytearray()
        self._offset = offset

    def feed(self, data: bytes) -> list[Payload]:
        searched = len(self._held)
        self._held += data
        ends = []
        end = self._held.find(b"\n", searched) + 1
        while end:
            ends.append(end)
            end = self._held.find(b"\n", end) + 1
        if self._limit and len(self._held) - (ends[-1] if ends else 0) > self._limit:
            raise too_large(self._limit)
        return self._take(ends)

    def finish(self) -> list[Payload]:
        return self._take([len(self._held)]) if self._held else []

    def _take(self, ends: list[int]) -> list[Payload]:
        payloads = []
        start = 0
        with memoryview(self._held) as held:  # so that a payload is copied once
            for end in ends:
                if self._limit and end - start > self._limit:
                    raise too_large(self._limit)
                payloads.append(Payload(bytes(held[start:end]), self._offset + end))
                start = end
        del self._held[:start]
        self._offset += start
        return payloads


class ManyLinesCutter:
    """A payload has as many lines as a request may hold; line ends stay.

    What was read is held as it came. A payload is a view of it, or copied once where it lies in
    several reads.
    """

    def __init__(self, limit: int, *, offset: int = 0) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._begin = 0
        """Where the first piece goes on: what is before is in payloads."""
        self._size = 0
        self._offset = offset

    def feed(self, data: bytes) -> list[Payload]:
        self._pieces.append(data)
        self._size += len(data)
        payloads = []
        while 0 < self._limit < self._size:
            length = self._whole_lines()
            if not length:
                raise too_large(self._limit)
            payloads.append(self._take(length))
        return payloads

    def finish(self) -> list[Payload]:
        return [self._take(self._size)] if self._size else []

    def _whole_lines(self) -> int:
        """Return how many bytes of whole lines there are within the limit."""
        length, position = 0, -self._begin
        for piece in self._pieces:
            first, last = max(-position, 0), self._limit - position
            end = piece.rfind(b"\n", first, last) + 1
            if end:
                length = position + end
            if last <= len(piece):
                break
            position += len(piece)
        return length

    def _take(self, length: int) -> Payload:
        parts: list[bytes | memoryview] = []
        missing = length
        while missing:
            piece = self._pieces[0]
            part = memoryview(piece)[self._begin : self._begin + missing]
            parts.append(part)
            missing -= len(part)
            self._begin += len(part)
            if self._begin == len(piece):
                self._pieces.popleft()
                self._begin = 0
        self._size -= length
        self._offset += length
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return Payload(cast(bytes, body), self._offset)


Lengths = Callable[[bytearray, int], int | None]
"""Return the length of the record at a position, with its frame; None: not known yet."""


class FrameCutter:
    """Records say how long they are; their frames stay."""

    def __init__(
        self, name: str, length: Lengths, limit: int, *, single: bool, offset: int = 0
    ) -> None:
        self._name = name
        self._length = length
        self._limit = limit
        self._single = single
        self._held = bytearray()
        self._whole = 0
        """Bytes of whole records at the beginning of what is held."""
        self._offset = offset

    def feed(self, data: bytes) -> list[Payload]:
        self._held += data
        payloads: list[Payload] = []
        start, position = 0, self._whole
        while (length := self._length(self._held, position)) is not None:
            if self._limit and length > self._limit:
                raise too_large(self._limit)
            end = position + length
            if end > len(self._held):
                break
            if position > start and self._limit and end - start > self._limit:
                payloads.append(self._payload(start, position))
                start = position
            position = end
            if self._single:
                payloads.append(self._payload(start, position))
                start = position
        del self._held[:start]
        self._offset += start
        self._whole = position - start
        return payloads

    def finish(self) -> list[Payload]:
        if len(self._held) > self._whole:
            raise BadInput(f"The {self._name} input ends inside of a record.")
        return [self._payload(0, self._whole)] if self._whole else []

    def _payload(self, start: int, end: int) -> Payload:
        with memoryview(self._held) as held:
            return Payload(bytes(held[start:end]), self._offset + end)


def recordio_length(held: bytearray, position: int) -> int | None:
    """MXNet's RecordIO: magic, length with three bits of flag, data padded to four bytes.

    A record that holds the magic itself is written in several chunks (flags 1, 2, ..., 3).
    """
    start, is_inside = position, False
    while True:
        if position + _RECORDIO_HEAD.size > len(held):
            return None
        magic, head = _RECORDIO_HEAD.unpack_from(held, position)
        if magic != RECORDIO_MAGIC:
            raise BadInput("The input is no RecordIO: a record does not begin with the magic.")
        flag, length = head >> 29, head & 0x1FFFFFFF
        if (flag in (2, 3)) is not is_inside or flag > 3:
            raise BadInput("The RecordIO input is broken: a record's chunks are out of order.")
        position += _RECORDIO_HEAD.size + (length + 3) // 4 * 4
        if flag in (0, 3):
            return position - start
        is_inside = True


def tfrecord_length(held: bytearray, position: int) -> int | None:
    """TFRecord: length, its CRC, data, its CRC. Both CRCs are checked."""
    if position + _TFRECORD_HEAD.size > len(held):
        return None
    length, crc = _TFRECORD_HEAD.unpack_from(held, position)
    if crc != _masked_crc(bytes(held[position : position + 8])):
        raise BadInput("The input is no TFRecord, or broken: the checksum of a length is wrong.")
    start = position + _TFRECORD_HEAD.size
    end = start + length
    if end + _CRC.size <= len(held):
        (crc,) = _CRC.unpack_from(held, end)
        if crc != _masked_crc(bytes(held[start:end])):
            raise BadInput("The TFRecord input is broken: the checksum of a record is wrong.")
    return int(end + _CRC.size - position)


def _masked_crc(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


RECORD_LENGTHS: dict[str, Lengths] = {"RecordIO": recordio_length, "TFRecord": tfrecord_length}
