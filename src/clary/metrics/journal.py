"""What is not on disk yet: points, what is present since when, how far sources have been read.

All of it goes to disk together, so that a crash leaves points and marks that fit.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from clary.metrics.point_rows import dump_point
from clary.metrics.statistics import StatisticSet
from clary.store.metric_points import (
    Mark,
    MetricPoints,
    MetricWrite,
    Place,
    PresenceRow,
    SeriesRow,
)

Document = Mapping[str, object]
BEAT = ("control", "flushed")
"""Mark of when this server last wrote: until then, what was present was there."""

ChangedSeries = Callable[[Iterable[int]], Sequence[SeriesRow]]
"""Returns those of the series that the database has to hear of."""


class Journal:
    """Gathers, and writes.

    Args:
        rows: The tables.
        changed_series: Knows the series.
        written_series: Is told of those that the database has heard of.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        rows: MetricPoints,
        changed_series: ChangedSeries,
        written_series: Callable[[Sequence[SeriesRow]], None],
        now: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._changed_series = changed_series
        self._written_series = written_series
        self._now = now
        self._points: dict[Place, StatisticSet] = {}
        self._marks: dict[tuple[str, str], Document] = {}
        self._new_marks: dict[tuple[str, str], Document] = {}
        self._forgotten: list[tuple[str, str | None]] = []
        self._presence: dict[tuple[int, int], PresenceRow] = {}
        self._writing = asyncio.Lock()
        self.may_be_old = False
        """Whether a point may be here that is not in the hot memory either."""

    async def open(self) -> float:
        """Read the marks; return when the server wrote last, 0 if never."""
        for mark in await self._rows.load_marks():
            self._marks[mark.source, mark.item] = mark.document
        return float(str(self._marks.get(BEAT, {}).get("at", 0)))

    # Gathering ----------------------------------------------------------------------------

    def add(self, place: Place, values: StatisticSet) -> None:
        """Keep values until the next flush."""
        known = self._points.get(place)
        self._points[place] = values if known is None else known + values

    def note_presence(self, row: PresenceRow) -> None:
        """Keep a change of presence until the next write."""
        self._presence[row.series_id, row.since] = row

    def mark(self, source: str, item: str, document: Document) -> None:
        """Note how far an item of a source has been read."""
        self._marks[source, item] = self._new_marks[source, item] = document

    def forget(self, source: str, item: str | None) -> None:
        """Forget how far an item has been read, or all of a source."""
        self._forgotten.append((source, item))
        for place in [p for p in self._marks if p[0] == source and item in (None, p[1])]:
            del self._marks[place]
            self._new_marks.pop(place, None)

    def marks(self, source: str | None) -> dict[tuple[str, str], Document]:
        """Return how far sources have been read."""
        return {p: each for p, each in self._marks.items() if source is None or p[0] == source}

    # Writing ------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Have everything on disk that is not in the hot memory."""
        if self.may_be_old:
            await self.flush()
        else:
            async with self._writing:
                pass  # what is being written now has to be there, too

    async def flush(self) -> None:
        """Write everything. What cannot be written is kept."""
        async with self._writing:
            points, self._points = self._points, {}
            marks, self._new_marks = self._new_marks, {}
            self.may_be_old = False
            try:
                await self.write(points, {**marks, BEAT: {"at": int(self._now())}})
            except BaseException:
                newer, self._points = self._points, points
                for place, values in newer.items():
                    self.add(place, values)
                self._new_marks = {**marks, **self._new_marks}
                self.may_be_old = True
                raise

    async def write(
        self,
        points: Mapping[Place, StatisticSet],
        marks: Mapping[tuple[str, str], Document] | None = None,
    ) -> None:
        """Write points, with what else is waiting but other points; durable when it returns."""
        presence, self._presence = self._presence, {}
        forgotten, self._forgotten = self._forgotten, []
        ids = {place[0] for place in points} | {series_id for series_id, _ in presence}
        content = MetricWrite(
            points={place: dump_point(values) for place, values in points.items()},
            series=self._changed_series(ids),
            presence=list(presence.values()),
            marks=[Mark(*place, document) for place, document in (marks or {}).items()],
            seen_at=int(self._now()),
            forgotten=forgotten,
        )
        try:
            await self._rows.write(content)
        except BaseException:
            self._presence = {**presence, **self._presence}
            self._forgotten += forgotten
            raise
        self._written_series(content.series)
