"""What gateways report, and what happened between two reports. Pure.

A report has cumulative values, and only what has changed since the last one; the first of a
connection has all. Control keeps what it has seen of each item (``Seen``) and turns differences
into points. The seen is stored together with the points, so that a restart neither repeats nor
loses anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clary.metrics.registry import NUMBERS
from clary.metrics.sketch import bucket_of, value_of
from clary.metrics.statistics import StatisticSet


@dataclass(slots=True)
class SeenLatencies:
    """Cumulative times of one kind."""

    count: int = 0
    sum_us: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    def take(self, row: Mapping[str, Any]) -> StatisticSet | None:
        """Take a report; return what is new in it, in microseconds, or None."""
        new: dict[int, float] = {}
        for bucket, count in row["buckets"]:
            more = count - self.buckets.get(bucket, 0)
            if more > 0:
                new[bucket] = more
                self.buckets[bucket] = count
        count = sum(new.values())
        total = row["sum_us"] - self.sum_us
        self.count, self.sum_us = row["count"], row["sum_us"]
        if not new:
            return None
        least, most = value_of(min(new)), value_of(max(new))
        # Exact where all that is new came with this very report.
        exact = row.get("recent_us")
        if exact is not None and (bucket_of(exact[0]), bucket_of(exact[1])) == (min(new), max(new)):
            least, most = exact
        return StatisticSet(count, max(total, 0.0), least, most, new)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "count": self.count,
            "sum_us": self.sum_us,
            "buckets": [list(pair) for pair in self.buckets.items()],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "SeenLatencies":
        """Return what ``to_json`` wrote."""
        return cls(row["count"], row["sum_us"], {int(b): n for b, n in row["buckets"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What happened to one variant, or container, between two reports."""

    invocations: int = 0
    model_errors: int = 0
    client_errors: int = 0
    server_errors: int = 0
    failed: int = 0
    overloaded: int = 0
    dropped: int = 0
    captured: int = 0
    capture_dropped: int = 0
    handler_us: int = 0
    throttled: int = 0
    no_capacity: int = 0
    """Invocations of an inference component without copies, which were refused."""

    model: StatisticSet | None = None
    """Times from sending a request to its whole answer, in microseconds."""
    overhead: StatisticSet | None = None
    setup: StatisticSet | None = None
    """How long calls of a serverless variant waited for a worker, in microseconds."""
    provisioned_calls: int = 0
    spilled_calls: int = 0
    peak: int = 0
    """Most calls of a serverless variant at once."""

    @property
    def ended(self) -> int:
        """Invocations that ended, with or without an answer."""
        return int(self.model.count if self.model else 0) + self.failed


class Seen:
    """What has been seen of one item of one gateway.

    Args:
        document: What ``to_json`` wrote; None: nothing yet.
    """

    def __init__(self, document: Mapping[str, Any] | None = None) -> None:
        self.numbers: dict[str, int] = dict.fromkeys(NUMBERS, 0)
        self._model, self._overhead = SeenLatencies(), SeenLatencies()
        self._setup = SeenLatencies()
        if document is not None:
            if "setup" in document:
                self._setup = SeenLatencies.from_json(document["setup"])
            self.numbers.update(document["numbers"])
            self._model = SeenLatencies.from_json(document["model"])
            self._overhead = SeenLatencies.from_json(document["overhead"])

    def take(self, row: Mapping[str, Any]) -> Difference:
        """Take a report; return what is new in it."""
        more = {name: max(row[name] - self.numbers[name], 0) for name in NUMBERS}
        self.numbers = {name: row[name] for name in NUMBERS}
        return Difference(
            **more,
            model=self._model.take(row["model"]),
            overhead=self._overhead.take(row["overhead"]),
            setup=self._setup.take(row["setup"]) if "setup" in row else None,
            peak=row.get("peak", 0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        document = {
            "numbers": self.numbers,
            "model": self._model.to_json(),
            "overhead": self._overhead.to_json(),
        }
        if self._setup.count:
            document["setup"] = self._setup.to_json()
        return document
