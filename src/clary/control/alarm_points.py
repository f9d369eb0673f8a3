"""Reads the points that an alarm is judged by."""

from collections.abc import Iterable
from datetime import UTC, datetime

from clary.control.alarm_rule import Points
from clary.control.alarm_watch import MetricWatch
from clary.metrics.expressions import evaluate
from clary.metrics.series import MetricKey, MetricStore


class AlarmPoints:
    """Points of metrics and expressions, one for each period of an alarm's range.

    Args:
        metrics: All metrics.
    """

    def __init__(self, metrics: MetricStore) -> None:
        self._metrics = metrics

    async def read(self, watch: MetricWatch, end: int) -> Points:
        """Return the points of an alarm's range, oldest first.

        Args:
            watch: The alarm.
            end: Where the range ends, in seconds since 1970.

        Raises:
            InvalidRequest: Its expression cannot be evaluated.
        """
        length = watch.rule.range
        start = end - watch.period_s * length
        found: Iterable[tuple[datetime, float]]
        if watch.key is None:
            series = await evaluate(self._metrics, watch.queries, moment(start), moment(end))
            found = series.get(watch.result, ())
        else:
            read = await self._read(watch, watch.key, watch.statistic, start, end)
            found = ((at, values[watch.statistic]) for at, values in read if values)
        points: list[float | None] = [None] * length
        for at, value in found:
            index = (int(at.timestamp()) - start) // watch.period_s
            if 0 <= index < length:
                points[index] = value
        return points

    async def _read(
        self, watch: MetricWatch, key: MetricKey, statistic: str, start: int, end: int
    ) -> list[tuple[datetime, dict[str, float]]]:
        return await self._metrics.statistics(
            key,
            start=moment(start),
            end=moment(end),
            period_s=watch.period_s,
            statistics=(statistic,),
            unit=watch.unit,
            begins_at_start=True,
        )

    async def is_insignificant(self, watch: MetricWatch, points: Points, end: int) -> bool:
        """Whether the newest point is a percentile of too few samples, and the alarm minds."""
        newest = max((i for i, value in enumerate(points) if value is not None), default=None)
        if watch.samples is None or watch.key is None or newest is None:
            return False
        start = end - watch.period_s * (len(points) - newest)
        counts = await self._read(watch, watch.key, "SampleCount", start, start + watch.period_s)
        return sum(values["SampleCount"] for _, values in counts) < watch.samples


def moment(seconds: int) -> datetime:
    """Return a time of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
