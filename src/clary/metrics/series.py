"""All metrics of the server: what has been measured, for who asks about it.

``MetricStore`` lives in the control process, over the state database. New values are in memory at
once, and on disk a few seconds later; ``put`` returns once they are on disk. The newest time is
answered from memory (``hot.py``), what came before from the database.

A series can be *present*: then it has the value 0 in every period in which nothing was added, which
costs nothing, however many idle endpoints there are.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from clary.clock import Clock
from clary.errors import LimitExceeded, TransientError
from clary.metrics.binning import Presence, bin_points
from clary.metrics.hot import HotPoints
from clary.metrics.journal import Journal
from clary.metrics.key import MetricKey
from clary.metrics.point_rows import load_point, merge_rows
from clary.metrics.retention_rule import FINEST_S, due_roll_ups
from clary.metrics.statistics import StatisticSet, parse_statistic, read_statistic
from clary.settings import MetricSettings
from clary.store.database import Database
from clary.store.metric_points import (
    MetricPoints,
    Place,
    PresenceRow,
    SeriesRow,
)

NO_UNIT = "None"
RECENT_S = 14 * 86400
"""``list_metrics`` gives those that have had a value in this time, in seconds."""
ROLL_UP_S = 600.0
"""How often points are made coarser by their age, in seconds."""
ROLL_UP_ROWS = 20_000
LAST_AT_STEP_S = 3600
"""How exactly the database knows when a series had its last value."""

_log = logging.getLogger(__name__)

__all__ = ["NO_UNIT", "MetricKey", "MetricPoint", "MetricStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPoint:
    """Values of one moment, as PutMetricData brings them."""

    key: MetricKey
    at: datetime
    values: StatisticSet
    unit: str = NO_UNIT
    resolution_s: int = 60


@dataclass(slots=True)
class _Series:
    id: int
    key: MetricKey
    unit: str
    last_at: int = 0
    known_last_at: int = -1
    """As the database has it; -1: it does not know the series yet."""
    presence: list[Presence] = field(default_factory=list)


class MetricStore:
    """Takes values, and answers with statistics.

    Args:
        database: The state database.
        clock: Wall time.
        settings: Limits.
    """

    def __init__(self, database: Database, clock: Clock, settings: MetricSettings) -> None:
        self._rows = MetricPoints(database, merge_rows)
        self._clock = clock
        self._settings = settings
        self._series: dict[int, _Series] = {}
        self._units: dict[MetricKey, dict[str, _Series]] = {}
        self._hot = HotPoints(settings.memory_s, settings.memory_points)
        self._journal = Journal(self._rows, self._changed_series, self._written_series, self._now)
        self._rolled_up_at = 0.0
        self.before_flush: list[Callable[[], None]] = []
        """Called before each flush: sources that keep their own counts add them now."""

    async def open(self) -> None:
        """Read which series there are. Call once, first."""
        for row in await self._rows.load_series():
            key = MetricKey(
                row.namespace, row.name, tuple((name, value) for name, value in row.dimensions)
            )
            series = _Series(row.id, key, row.unit, row.last_at, row.last_at)
            self._series[row.id] = series
            self._units.setdefault(key, {})[row.unit] = series
        beat = await self._journal.open()
        for presence in await self._rows.load_presence():
            if presence.series_id in self._series:
                until = presence.until
                if until is None:
                    # Nobody said that it ended: the server was stopped. It was there until then.
                    until = max(_floor(beat, presence.step_s), presence.since)
                    self._journal.note_presence(replace(presence, until=until))
                self._series[presence.series_id].presence.append(
                    Presence(presence.since, until, presence.step_s)
                )
        self._hot.begin(self._now())
        for place, point in await self._rows.read_all(self._hot.complete_from):
            self._hot.add(place, load_point(point))  # clients may put what is yet to come

    async def run(self) -> None:
        """Write and tidy up until cancelled."""
        while True:
            await asyncio.sleep(self._settings.flush_s)
            try:
                await self.flush()
                self.trim()
                if self._now() - self._rolled_up_at >= ROLL_UP_S:
                    self._rolled_up_at = self._now()
                    await self.roll_up()
            except TransientError as error:
                _log.warning("metrics stay in memory for now: %s", error)
            except Exception:  # noqa: BLE001 - the loop goes on, whatever it is
                _log.exception("metrics stay in memory for now")

    # Adding -------------------------------------------------------------------------------

    def add(
        self,
        key: MetricKey,
        *,
        at: datetime,
        value: float | StatisticSet,
        count: float = 1.0,
        unit: str | None = None,
        resolution_s: int = 60,
    ) -> None:
        """Add values of this server's own; readable at once, on disk a few seconds later.

        Args:
            key: Which metric.
            at: When it was measured.
            value: A value, or the statistics of several.
            count: How often the value came.
            unit: One of CloudWatch's units.
            resolution_s: Length of the periods that it is kept in, in seconds: 60, 10 or 1.
        """
        values = value if isinstance(value, StatisticSet) else StatisticSet.of(value, count)
        series = self._find_or_make(key, unit or NO_UNIT)
        if series is None:
            return
        place = self._place(series, at, resolution_s)
        if not self._hot.add(place, values):
            self._journal.may_be_old = True
        self._journal.add(place, values)

    async def put(self, points: Sequence[MetricPoint]) -> None:
        """Add values; they are on disk when it returns.

        Raises:
            LimitExceeded: There would be more series than the settings allow; none was added.
        """
        new = {(p.key, p.unit) for p in points if p.unit not in self._units.get(p.key, {})}
        if len(self._series) + len(new) > self._settings.max_series:
            raise LimitExceeded(
                f"This server keeps at most {self._settings.max_series} metrics "
                "(metrics.max_series)."
            )
        places: list[tuple[Place, StatisticSet]] = []
        for point in points:
            series = self._find_or_make(point.key, point.unit)
            assert series is not None, "there is room"
            places.append((self._place(series, point.at, point.resolution_s), point.values))
        together: dict[Place, StatisticSet] = {}
        for place, values in places:
            together[place] = together[place] + values if place in together else values
        await self._journal.write(together)
        for place, values in together.items():
            self._hot.add(place, values)

    def set_present(
        self, key: MetricKey, unit: str | None, *, at: datetime, is_present: bool, step_s: int = 60
    ) -> None:
        """Say from when, or until when, a series is 0 where it has no value.

        Args:
            key: Which metric.
            unit: Its unit.
            at: From when, or until when.
            is_present: Whether that begins or ends. What is so already stays.
            step_s: Length of the periods of which each has a value, in seconds.
        """
        series = self._find_or_make(key, unit or NO_UNIT)
        if series is None:
            return
        moment = _floor(at.timestamp(), step_s)
        last = series.presence[-1] if series.presence else None
        is_now = last is not None and last.until is None
        if is_present == is_now:
            return
        if is_present:
            since = moment if last is None else max(moment, last.until or 0)
            if last is not None and last.until == since and last.step_s == step_s:
                series.presence.pop()
                since = last.since
            series.presence.append(Presence(since, None, step_s))
            self._journal.note_presence(PresenceRow(series.id, since, None, step_s))
        elif last is not None:
            until = max(moment, last.since)
            series.presence[-1] = Presence(last.since, until, last.step_s)
            self._journal.note_presence(PresenceRow(series.id, last.since, until, last.step_s))
        series.last_at = max(series.last_at, moment)

    def mark(self, source: str, item: str, document: Mapping[str, object]) -> None:
        """Note how far a source has been read; written together with what was added from it.

        Args:
            source: Who counts, such as one gateway in one life.
            item: What it counts.
            document: JSON types.
        """
        self._journal.mark(source, item, document)

    def forget_marks(self, source: str, item: str | None = None) -> None:
        """Forget how far an item has been read, or all of a source."""
        self._journal.forget(source, item)

    def marks(self, source: str | None = None) -> dict[tuple[str, str], Mapping[str, object]]:
        """Return how far sources have been read, by source and item."""
        return self._journal.marks(source)

    # Reading ------------------------------------------------------------------------------

    async def statistics(
        self,
        key: MetricKey,
        *,
        start: datetime,
        end: datetime,
        period_s: int,
        statistics: Sequence[str],
        unit: str | None = None,
        begins_at_start: bool = False,
    ) -> list[tuple[datetime, dict[str, float]]]:
        """Return statistics of periods in ``start <= begin < end`` that have values, ascending.

        Statistics that a period's values do not have (percentiles of mere statistic sets) are left
        out.

        Args:
            key: Which metric.
            start: From when, inclusive.
            end: Until when, exclusive.
            period_s: Length of the periods, in seconds.
            statistics: Names as CloudWatch has them.
            unit: Only values that were given in this unit; None: all.
            begins_at_start: Whether the first period begins at ``start``; else all begin at
                multiples of their length.

        Raises:
            InvalidRequest: There is no such statistic.
        """
        wanted = {name: parse_statistic(name) for name in statistics}
        found = []
        for begin, values in await self._bins(key, unit, start, end, period_s, begins_at_start):
            read = {name: read_statistic(values, parsed) for name, parsed in wanted.items()}
            shown = {name: value for name, value in read.items() if value is not None}
            if shown:
                found.append((datetime.fromtimestamp(begin, UTC), shown))
        return found

    def units(self, key: MetricKey) -> list[str]:
        """Return the units that a metric has values in."""
        return sorted(self._units.get(key, {}))

    async def list_metrics(
        self,
        *,
        namespace: str | None = None,
        name: str | None = None,
        dimensions: Sequence[tuple[str, str | None]] = (),
        active_since: datetime | None = None,
    ) -> list[MetricKey]:
        """Return the metrics that have had a value lately, in order.

        Args:
            namespace: Only of this one.
            name: Only of this name.
            dimensions: Only those with these dimensions; None: with any value.
            active_since: Only those with a value since then; default: in the last two weeks.
        """
        since = active_since.timestamp() if active_since else self._now() - RECENT_S
        return sorted(
            key
            for key, units in self._units.items()
            if (namespace is None or key.namespace == namespace)
            and (name is None or key.name == name)
            and _has(key, dimensions)
            and any(self._last_at(series) >= since for series in units.values())
        )

    # Tidying up ---------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many metrics there are, counting each set of dimensions and unit."""
        return len(self._series)

    @property
    def points_in_memory(self) -> int:
        """How many points are held in memory."""
        return len(self._hot)

    def trim(self) -> None:
        """Let go of what memory should not hold any longer. To be called after a flush."""
        self._hot.trim(self._now())
        self._journal.may_be_old = True  # what came meanwhile may be old by now

    async def flush(self) -> None:
        """Bring to disk what is in memory alone."""
        for prepare in self.before_flush:
            prepare()
        await self._journal.flush()

    async def close(self) -> None:
        """Write what is left; present series are as of now."""
        await self.flush()

    async def roll_up(self) -> None:
        """Make old points coarser, and remove those that are too old."""
        now = int(self._now())
        for step in due_roll_ups(self._settings, now):
            while True:
                count = await self._rows.roll_up(
                    step.resolution_s, step.into_s, step.before, ROLL_UP_ROWS
                )
                if count < ROLL_UP_ROWS:
                    break
        for series_id in await self._rows.remove_series(int(now - self._settings.keep_1h_s)):
            series = self._series.pop(series_id, None)
            if series is not None:
                units = self._units[series.key]
                units.pop(series.unit, None)
                if not units:
                    del self._units[series.key]

    # Inside -------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _find_or_make(self, key: MetricKey, unit: str) -> _Series | None:
        units = self._units.get(key)
        series = units.get(unit) if units else None
        if series is None:
            if len(self._series) >= self._settings.max_series:
                return None
            series = _Series(_series_id(key, unit), key, unit)
            self._series[series.id] = series
            self._units.setdefault(key, {})[unit] = series
        return series

    def _place(self, series: _Series, at: datetime, resolution_s: int) -> Place:
        step = resolution_s if resolution_s in FINEST_S else 60
        moment = _floor(at.timestamp(), step)
        series.last_at = max(series.last_at, moment)
        return series.id, moment, step

    def _last_at(self, series: _Series) -> float:
        if series.presence and series.presence[-1].until is None:
            return self._now()
        return series.last_at

    async def _bins(
        self,
        key: MetricKey,
        unit: str | None,
        start: datetime,
        end: datetime,
        period_s: int,
        begins_at_start: bool,
    ) -> list[tuple[int, StatisticSet]]:
        units = self._units.get(key, {})
        chosen = [series for name, series in units.items() if unit is None or name == unit]
        if not chosen:
            return []
        origin = int(start.timestamp()) if begins_at_start else 0
        first = int(start.timestamp())
        if not begins_at_start and first % period_s:
            first += period_s - first % period_s
        last = int(end.timestamp())
        ids = [series.id for series in chosen]
        until = min(last + period_s, int(self._now()) + 2 * 86400)
        points: list[tuple[int, int, StatisticSet]] = []
        hot_from = self._hot.complete_from
        for series_id in ids:
            points += self._hot.read(series_id, max(first, hot_from), until)
        if first < hot_from:
            await self._journal.settle()
            rows = await self._rows.read(ids, first, min(until, hot_from))
            points += [(place[1], place[2], load_point(row)) for place, row in rows]
        presence = [each for series in chosen for each in series.presence]
        return bin_points(
            points, presence, first, last, period_s, origin=origin, now=int(self._now())
        )

    def _changed_series(self, ids: Iterable[int]) -> list[SeriesRow]:
        return [
            _series_row(series)
            for series_id in ids
            if (series := self._series.get(series_id)) is not None
            and series.last_at // LAST_AT_STEP_S > series.known_last_at // LAST_AT_STEP_S
        ]

    def _written_series(self, rows: Sequence[SeriesRow]) -> None:
        for row in rows:
            if row.id in self._series:
                self._series[row.id].known_last_at = row.last_at


def _floor(seconds: float, step_s: int) -> int:
    return int(seconds // step_s * step_s)


def _has(key: MetricKey, wanted: Sequence[tuple[str, str | None]]) -> bool:
    have = dict(key.dimensions)
    return all(name in have and (value is None or have[name] == value) for name, value in wanted)


def _series_id(key: MetricKey, unit: str) -> int:
    text = json.dumps([key.namespace, key.name, key.dimensions, unit])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _series_row(series: _Series) -> SeriesRow:
    key = series.key
    last_at = max(series.last_at, 0)
    return SeriesRow(series.id, key.namespace, key.name, key.dimensions, series.unit, last_at)
