"""Searches over many streams at once, in pages that end where a search has to.

Files and database are searched each for itself; each says how far it looked, and the page ends
where the first of them stopped.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from clary.logs.file_streams import FileStream
from clary.logs.patterns import Matcher
from clary.resources.log_group import LogEvent

MAX_PAGE_BYTES = 1024 * 1024
"""Most bytes of messages in one answer."""

MAX_SCANNED_BYTES = 16 * 1024 * 1024
"""Most bytes of messages that one FilterLogEvents looks at before it gives a token instead."""

Key = tuple[int, str, int]
"""An event's place among those of all streams: time, stream, position."""


@dataclass(frozen=True, slots=True)
class Found:
    """What FilterLogEvents found."""

    events: list[LogEvent]
    next: Key | None
    """Where to go on. None: there is no more."""


def search_files(
    files: Sequence[FileStream],
    matches: Matcher,
    start_ms: int,
    end_ms: int,
    limit: int,
    after: Key | None,
) -> Found:
    """Return the events of files that match, in order of time. Blocks.

    Args:
        files: The streams to look through.
        matches: What is wanted.
        start_ms: Only events of this time and later.
        end_ms: Only events before this time.
        limit: Most events.
        after: Only events from this place on.
    """
    streams = [file.events(file.position_at(start_ms), file.position_at(end_ms)) for file in files]
    found: list[LogEvent] = []
    scanned = found_bytes = 0
    for event in heapq.merge(*streams, key=key_of):
        if after is not None and key_of(event) < after:
            continue
        if (
            len(found) == limit
            or scanned > MAX_SCANNED_BYTES
            or (found and found_bytes > MAX_PAGE_BYTES)
        ):
            return Found(found, key_of(event))
        scanned += len(event.message)
        if matches(event.message):
            found.append(event)
            found_bytes += len(event.message)
    return Found(found, None)


def merge_found(one: Found, other: Found, limit: int) -> Found:
    """Return what two searches found together, as far as both have looked."""
    stop = min((found.next for found in (one, other) if found.next is not None), default=None)
    events = sorted([*one.events, *other.events], key=key_of)
    if stop is not None:
        events = [event for event in events if key_of(event) < stop]
    if len(events) > limit:
        return Found(events[:limit], key_of(events[limit]))
    return Found(events, stop)


def key_of(event: LogEvent) -> Key:
    """Return an event's place among those of all streams."""
    return event.timestamp_ms, event.stream, event.position
