"""What metrics look like to Prometheus and OpenTelemetry: families of series. Pure.

A family has a definition, of which there is one for each name, and a row for each set of label
values. Counters grow from the start of the process that shows them; a restart begins at 0, as both
systems expect.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from clary.metrics.sketch import Buckets, bucket_of

Labels = tuple[str, ...]
"""Values of a family's labels, in the order of its definition."""


class Kind(StrEnum):
    """What a family counts."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One name."""

    name: str
    """With its unit; ``_total`` at the end of a counter's."""

    kind: Kind
    help: str
    labels: Labels = ()
    """Names of its labels."""

    edges: tuple[float, ...] = ()
    """Upper ends of a histogram's buckets, without infinity."""

    unit: str = ""
    """As in the name: ``seconds`` or ``bytes``."""


class Histogram:
    """Times by bucket.

    The buckets of a sketch are taken whole: what lies within one per cent of an edge may be counted
    on either side of it.

    Args:
        edges: Upper ends of the buckets, in seconds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.counts: list[int] = [0] * (len(edges) + 1)
        """Values in each bucket alone, the last one up to infinity."""
        self.sum = 0.0

    def add(self, buckets: Buckets, sum_us: float, ends: "Ends") -> None:
        """Add what a sketch holds.

        Args:
            buckets: Of microseconds.
            sum_us: Of its values, in microseconds.
            ends: Of this histogram's edges.
        """
        counts = self.counts
        for bucket, count in buckets.items():
            counts[bisect_left(ends.buckets, bucket)] += int(count)
        self.sum += sum_us / 1e6


class Ends:
    """The edges of histograms as buckets of sketches of microseconds."""

    __slots__ = ("buckets",)

    def __init__(self, edges: Iterable[float]) -> None:
        self.buckets = [bucket_of(edge * 1e6) for edge in edges]


Value = float | Histogram


@dataclass(slots=True)
class Family:
    """A definition and its series."""

    definition: Definition
    rows: list[tuple[Labels, Value]] = field(default_factory=list)

    def add(self, value: Value, *labels: str) -> None:
        """Add a series."""
        self.rows.append((labels, value))


def counter(name: str, text: str, *labels: str, unit: str = "") -> Definition:
    """Return a counter's definition."""
    return Definition(name=name, kind=Kind.COUNTER, help=text, labels=labels, unit=unit)


def gauge(name: str, text: str, *labels: str, unit: str = "") -> Definition:
    """Return a gauge's definition."""
    return Definition(name=name, kind=Kind.GAUGE, help=text, labels=labels, unit=unit)


def histogram(name: str, text: str, *labels: str, edges: tuple[float, ...]) -> Definition:
    """Return the definition of a histogram of times in seconds."""
    return Definition(
        name=name, kind=Kind.HISTOGRAM, help=text, labels=labels, edges=edges, unit="seconds"
    )
