"""Decides what is done with captured lines: when an object is written, and what finds no room.

Pure, but for what it remembers: no clock, no I/O.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clary.jobs.capture_lines import Place, file_name
from clary.settings import CaptureSettings

RETRY_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SHARE_OF_ONE = 0.5
"""Most of the buffer that one endpoint may have, so that one without a bucket leaves some to the
others."""


@dataclass(slots=True)
class Draft:
    """Lines that will be an object."""

    place: Place
    name: str
    opened_at: float
    """When its first line came; monotonic clock."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    attempts: int = 0
    try_at: float = 0.0
    """Earliest moment for the next attempt to write it; monotonic clock."""

    @property
    def key(self) -> str:
        """Where it will lie in its bucket."""
        return f"{self.place.prefix}/{self.name}"


class CapturePlan:
    """What is held, and what is to be done with it.

    Args:
        settings: Limits.
        make_id: Makes the part of names that is never the same twice.
    """

    def __init__(self, settings: CaptureSettings, make_id: Callable[[], str]) -> None:
        self._settings = settings
        self._make_id = make_id
        self._open: dict[Place, Draft] = {}
        self._closed: list[Draft] = []
        self._sizes: dict[str, int] = {}
        """Bytes by endpoint, of what is open, closed and being written."""

    @property
    def size(self) -> int:
        """Bytes of all lines that are not in S3 yet."""
        return sum(self._sizes.values())

    def add(self, place: Place, line: bytes, began_at: float, now: float) -> bool:
        """Take a line; False when there is no room for it.

        Args:
            place: Where it belongs.
            line: With its end.
            began_at: When its call began, in seconds of Unix time.
            now: Monotonic clock.
        """
        count, limit = len(line), self._settings.buffer_bytes
        of_endpoint = self._sizes.get(place.endpoint, 0)
        if self.size + count > limit or of_endpoint + count > limit * SHARE_OF_ONE:
            return False
        draft = self._open.get(place)
        if draft is None:
            draft = Draft(place, file_name(began_at, self._make_id()), opened_at=now)
            self._open[place] = draft
        draft.lines.append(line)
        draft.size += count
        self._sizes[place.endpoint] = of_endpoint + count
        if draft.size >= self._settings.flush_bytes:
            self._close(draft)
        return True

    def due(self, now: float) -> Sequence[Draft]:
        """Return the objects that are to be written now; each is ``written`` or ``failed`` next."""
        for draft in list(self._open.values()):
            if now - draft.opened_at >= self._settings.flush_s:
                self._close(draft)
        due = [draft for draft in self._closed if draft.try_at <= now]
        self._closed = [draft for draft in self._closed if draft.try_at > now]
        return due

    def flush(self) -> None:
        """Make everything due."""
        for draft in list(self._open.values()):
            self._close(draft)
        for draft in self._closed:
            draft.try_at = 0.0

    def next_at(self) -> float | None:
        """Return when something will be due; None: nothing is held."""
        moments = [draft.opened_at + self._settings.flush_s for draft in self._open.values()]
        return min([*moments, *(draft.try_at for draft in self._closed)], default=None)

    def written(self, draft: Draft) -> None:
        """An object is in S3."""
        self._forget(draft)

    def failed(self, draft: Draft, now: float) -> bool:
        """An object could not be written; False when it was the last attempt."""
        if now - draft.opened_at >= self._settings.keep_s:
            self._forget(draft)
            return False
        draft.try_at = now + RETRY_PAUSES_S[min(draft.attempts, len(RETRY_PAUSES_S) - 1)]
        draft.attempts += 1
        self._closed.append(draft)
        return True

    def _close(self, draft: Draft) -> None:
        del self._open[draft.place]
        self._closed.append(draft)

    def _forget(self, draft: Draft) -> None:
        left = self._sizes[draft.place.endpoint] - draft.size
        if left:
            self._sizes[draft.place.endpoint] = left
        else:
            del self._sizes[draft.place.endpoint]
