"""Metrics of multi-model endpoints: models that come and go, and calls that found them there."""

from collections.abc import Callable

from clary.clock import Clock
from clary.metrics.endpoint_metrics import INVOCATIONS, dimension_sets, errors
from clary.metrics.key import MetricKey
from clary.metrics.series import MetricStore
from clary.metrics.statistics import StatisticSet

PlaceOf = Callable[[str], tuple[str, str] | None]
"""Returns endpoint and variant of an instance; None when it takes no calls any more."""


class ModelMetrics:
    """Takes what ``control/models.py`` does.

    Args:
        store: Where the metrics go.
        clock: Wall time.
        place_of: Knows the instances.
    """

    def __init__(self, store: MetricStore, clock: Clock, place_of: PlaceOf) -> None:
        self._store = store
        self._clock = clock
        self._place_of = place_of

    def took(self, instance_id: str, name: str, seconds: float) -> None:
        """Take how long something took; ``name`` is the metric's."""
        self._add(instance_id, name, StatisticSet.of(max(seconds, 0.0) * 1e6), "Microseconds")

    def called(self, instance_id: str, calls: int, misses: int) -> None:
        """Take calls of a model, and how many of them had it loaded first."""
        if calls > 0:
            self._add(instance_id, "ModelCacheHit", errors(max(calls - misses, 0), calls), None)

    def _add(self, instance_id: str, name: str, values: StatisticSet, unit: str | None) -> None:
        place = self._place_of(instance_id)
        if place is not None:
            (dimensions,) = dimension_sets(*place)
            key = MetricKey.of(INVOCATIONS, name, dimensions)
            self._store.add(key, at=self._clock.now(), value=values, unit=unit)
