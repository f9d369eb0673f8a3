"""Statistics as rows of the database, and back."""

from clary.metrics.sketch import dump_buckets, load_buckets
from clary.metrics.statistics import StatisticSet
from clary.store.metric_points import PointRow


def dump_point(values: StatisticSet) -> PointRow:
    """Return statistics as a row. A single value needs no distribution: it is one."""
    is_plain = values.buckets is None or values.minimum == values.maximum
    buckets = None if is_plain or values.buckets is None else dump_buckets(values.buckets)
    return PointRow(values.count, values.sum, values.minimum, values.maximum, buckets)


def load_point(row: PointRow) -> StatisticSet:
    """Return the statistics of a row."""
    buckets = None if row.buckets is None else load_buckets(row.buckets)
    return StatisticSet(row.count, row.sum, row.minimum, row.maximum, buckets)


def merge_rows(one: PointRow, other: PointRow) -> PointRow:
    """Return the row of all values of two rows."""
    return dump_point(load_point(one) + load_point(other))
