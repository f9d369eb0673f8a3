"""The newest points, in memory.

Complete from one moment on, the same for all series: whoever asks for times before it has to ask
the database. The moment moves on as points grow old, or too many.
"""

from collections.abc import Iterator

from clary.metrics.statistics import StatisticSet
from clary.store.metric_points import Place


class HotPoints:
    """Points by series.

    Args:
        keep_s: How long they are kept, in seconds.
        max_points: Most of them; beyond it the older half of the time is given up.
    """

    def __init__(self, keep_s: float, max_points: int) -> None:
        self.complete_from = 0
        """All points from here on are here, in seconds since 1970."""
        self._keep_s = keep_s
        self._max_points = max_points
        self._series: dict[int, dict[tuple[int, int], StatisticSet]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def begin(self, now: float) -> None:
        """Start empty: everything up to the next full minute is partly in the database."""
        self.complete_from = int(now // 60 * 60) + 60

    def add(self, place: Place, values: StatisticSet) -> bool:
        """Add values to a point; return whether they are new enough."""
        series_id, at, resolution_s = place
        if at < self.complete_from:
            return False
        points = self._series.setdefault(series_id, {})
        key = (at, resolution_s)
        known = points.get(key)
        if known is None:
            self._count += 1
            points[key] = values
        else:
            points[key] = known + values
        return True

    def read(self, series_id: int, start: int, end: int) -> Iterator[tuple[int, int, StatisticSet]]:
        """Give the points of a series that begin in ``start <= at < end``, with their length."""
        for (at, resolution_s), values in self._series.get(series_id, {}).items():
            if start <= at < end:
                yield at, resolution_s, values

    def trim(self, now: float) -> None:
        """Give up what is too old, and if there are too many points, the older half."""
        oldest = int((now - self._keep_s) // 60 * 60)
        self._drop_before(oldest)
        while self._count > self._max_points:
            middle = int(self.complete_from + (now - self.complete_from) / 2) // 60 * 60
            if middle <= self.complete_from:
                middle = self.complete_from + 60
            self._drop_before(middle)

    def _drop_before(self, moment: int) -> None:
        if moment <= self.complete_from:
            return
        self.complete_from = moment
        for series_id in list(self._series):
            points = self._series[series_id]
            old = [key for key in points if key[0] < moment]
            for key in old:
                del points[key]
            self._count -= len(old)
            if not points:
                del self._series[series_id]
