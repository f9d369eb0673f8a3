"""What is known of captured calls, and how a batch of them goes from one process to another.

A record stands for itself: it says where it belongs and how its bodies are to be written, so that
who takes it needs no routing table. Most of that is the same for many calls; a batch says it once::

    length of the head (4 bytes, big-endian) · head (JSON) · all bodies, in the order of the head
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

_LENGTH = struct.Struct(">I")


class Observed(NamedTuple):
    """How the bodies of one side of a call are to be written."""

    content_type: str
    encoding: str
    """``CSV``, ``JSON`` or ``BASE64``; text that is no UTF-8 becomes BASE64 all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureContext:
    """What many records have in common."""

    destination: str
    """``s3://bucket/prefix``."""

    endpoint: str
    variant: str
    input: Observed | None
    """None: the request's body is not captured."""

    output: Observed | None
    custom_attributes: str | None = None
    inference_id: str | None = None
    is_shadow: bool = False
    """Whether these are copies for a shadow variant."""


class CaptureRecord(NamedTuple):
    """One captured call."""

    context: CaptureContext
    event_id: str
    time: float
    """When the call began, in seconds of Unix time."""

    input: bytes
    output: bytes


def pack(records: Iterable[CaptureRecord]) -> bytes:
    """Return a batch."""
    indices: dict[int, int] = {}
    """Position of each context in the head, by its identity: equal ones are mostly the same."""
    contexts: list[CaptureContext] = []
    rows: list[tuple[int, str, float, int, int]] = []
    pieces = [b"", b""]
    for record in records:
        context = record.context
        index = indices.get(id(context))
        if index is None:
            index = indices[id(context)] = len(contexts)
            contexts.append(context)
        rows.append((index, record.event_id, record.time, len(record.input), len(record.output)))
        pieces += (record.input, record.output)
    head = {"contexts": [asdict(context) for context in contexts], "records": rows}
    pieces[1] = json.dumps(head, separators=(",", ":")).encode()
    pieces[0] = _LENGTH.pack(len(pieces[1]))
    return b"".join(pieces)


def unpack(batch: bytes) -> list[CaptureRecord]:
    """Return the records of a batch.

    Raises:
        ValueError: It is none.
    """
    try:
        (length,) = _LENGTH.unpack_from(batch)
        position = _LENGTH.size + length
        head = json.loads(batch[_LENGTH.size : position])
        contexts = [_context(**context) for context in head["contexts"]]
        records = []
        for index, event_id, time, input_bytes, output_bytes in head["records"]:
            middle = position + input_bytes
            end = middle + output_bytes
            if not position <= middle <= end <= len(batch):
                raise ValueError("the batch breaks off")
            bodies = batch[position:middle], batch[middle:end]
            records.append(CaptureRecord(contexts[index], event_id, time, *bodies))
            position = end
    except (struct.error, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"this is no batch of captured calls: {error}") from error
    if position != len(batch):
        raise ValueError("the batch has more in it than its head says")
    return records


def _context(input: list[str] | None, output: list[str] | None, **others: str) -> CaptureContext:
    return CaptureContext(
        **others,  # type: ignore[arg-type]  # what pack wrote
        input=None if input is None else Observed(*input),
        output=None if output is None else Observed(*output),
    )
