"""Distributions of values, from which percentiles are read and which can be merged.

A sketch is a plain dictionary from bucket to count of values: cheap to make, to send, to store and
to add up. The buckets are those of a DDSketch, whose library reads percentiles from them: each is
one per cent wide to either side, so that is how far off a percentile can be.

Values below zero have no bucket: CloudWatch has no percentiles of metrics that have such values.
"""

import math
from array import array
from collections.abc import Mapping

from ddsketch.ddsketch import BaseDDSketch
from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

from clary.metrics.registry import ACCURACY, ZERO_BUCKET

Buckets = Mapping[int, float]
"""Count of values by bucket."""

_MAPPING = LogarithmicMapping(ACCURACY)


def bucket_of(value: float) -> int:
    """Return the bucket of a value from 0."""
    return ZERO_BUCKET if value <= _MAPPING.min_possible else _MAPPING.key(value)


def value_of(bucket: int) -> float:
    """Return the value in the middle of a bucket."""
    value: float = 0.0 if bucket == ZERO_BUCKET else _MAPPING.value(bucket)
    return value


def merge(one: Buckets, other: Buckets) -> dict[int, float]:
    """Return both together."""
    merged = dict(one)
    for bucket, count in other.items():
        merged[bucket] = merged.get(bucket, 0) + count
    return merged


def quantile(buckets: Buckets, fraction: float) -> float:
    """Return the value below which a fraction of the values lies.

    Args:
        buckets: Not empty.
        fraction: From 0 to 1.
    """
    positive = DenseStore()
    for bucket, count in buckets.items():
        if bucket != ZERO_BUCKET:
            positive.add(bucket, count)
    sketch = BaseDDSketch(_MAPPING, positive, DenseStore(), buckets.get(ZERO_BUCKET, 0))
    value: float | None = sketch.get_quantile_value(fraction)
    return math.nan if value is None else value


def dump_buckets(buckets: Buckets) -> bytes:
    """Return a sketch as bytes: pairs of bucket and count, each a double."""
    pairs = array("d")
    for bucket, count in sorted(buckets.items()):
        pairs.extend((bucket, count))
    return pairs.tobytes()


def load_buckets(data: bytes) -> dict[int, float]:
    """Return the sketch that ``dump_buckets`` wrote."""
    pairs = array("d")
    pairs.frombytes(data)
    return {int(bucket): count for bucket, count in zip(pairs[::2], pairs[1::2], strict=True)}
