"""Counters of this process, cumulative since its start.

The hot path adds to plain attributes and appends to plain lists; a timer folds the lists into
distributions (``Latencies``) and reports what has changed. Values only grow, so that a lost report
costs nothing: the next one has it all.
"""

import math
import secrets
import struct
import sys
from array import array
from collections import Counter
from typing import Any

ACCURACY = 0.01
"""Relative width of the buckets of a distribution, to either side (``sketch.py``)."""
ZERO_BUCKET = -(1 << 30)
"""Bucket of the value 0, which has no logarithm."""

ENOUGH_SAMPLES = 1000
"""As many times as are folded at once say how such times are distributed."""

_BUCKETS_PER_E = 1 / math.log1p(2 * ACCURACY / (1 - ACCURACY))
_UPPER_HALF = 1 if sys.byteorder == "little" else 0
_BUCKET_OF_HALF: dict[int, int] = {}
"""What has been looked up; there are at most 65536."""


def _bucket_of_half(half: int) -> int:
    """Return the bucket of times of which the upper half is known, by their middle."""
    (seconds,) = struct.unpack("=f", struct.pack("=I", half << 16 | 0x8000))
    if not 0 < seconds < math.inf:
        return ZERO_BUCKET  # a clock that was set back
    return math.ceil(math.log(seconds * 1e6) * _BUCKETS_PER_E)


class Latencies:
    """Times of one kind: how many, their sum, and their distribution, in microseconds."""

    __slots__ = ("buckets", "count", "maximum", "minimum", "recent", "samples", "sum_us")

    def __init__(self) -> None:
        self.samples: list[float] = []
        """In seconds; the hot path appends to it."""
        self.count = 0
        self.sum_us = 0.0
        self.buckets: Counter[int] = Counter()
        """Count by bucket, as in ``sketch.py``."""
        self.recent: set[int] = set()
        """Buckets that have grown since the last report."""
        self.minimum = math.inf
        self.maximum = 0.0
        """Least and largest since the last report, in microseconds."""

    def fold(self) -> None:
        """Add up what has been appended, without a line of Python for each of them.

        The upper half of a 32-bit float is sign, exponent and 7 bits of the fraction: times that
        have it in common are within 0.8 % of each other. So they are counted by it, and only what
        is different has its bucket looked up. Of very many, each stands for those next to it in
        the distribution; count, sum, least and largest are of all.
        """
        samples = self.samples
        if not samples:
            return
        self.samples = []
        self.count += len(samples)
        self.sum_us += sum(samples) * 1e6
        self.minimum = min(self.minimum, max(min(samples), 0.0) * 1e6)
        self.maximum = max(self.maximum, max(samples) * 1e6)
        step = max(len(samples) // ENOUGH_SAMPLES, 1)
        self._distribute(samples[: len(samples) // step * step : step], step)
        if rest := len(samples) % step:
            self._distribute(samples[-1:], rest)

    def _distribute(self, samples: list[float], each: int) -> None:
        """Put times into their buckets, each so many times."""
        halves = memoryview(array("f", samples)).cast("B").cast("H")[_UPPER_HALF::2]
        for half, count in Counter(halves).items():
            bucket = _BUCKET_OF_HALF.get(half)
            if bucket is None:
                bucket = _BUCKET_OF_HALF[half] = _bucket_of_half(half)
            self.buckets[bucket] += count * each
            self.recent.add(bucket)

    def to_json(self, *, all_of_it: bool) -> dict[str, Any]:
        """Return the values: the buckets that have grown since the last report, or all."""
        buckets = self.buckets
        row: dict[str, Any] = {
            "count": self.count,
            "sum_us": self.sum_us,
            "buckets": [
                [bucket, buckets[bucket]] for bucket in (buckets if all_of_it else self.recent)
            ],
        }
        if self.recent:
            row["recent_us"] = [self.minimum, self.maximum]
        return row

    def reported(self) -> None:
        """Begin anew with what is recent."""
        self.recent = set()
        self.minimum, self.maximum = math.inf, 0.0


NUMBERS = (
    "capture_dropped",
    "captured",
    "client_errors",
    "dropped",
    "failed",
    "handler_us",
    "invocations",
    "model_errors",
    "no_capacity",
    "overloaded",
    "provisioned_calls",
    "server_errors",
    "spilled_calls",
    "throttled",
)
"""The plain numbers of ``VariantCounters``."""


class VariantCounters:
    """What one gateway counted for one variant, or for one container of a pipeline.

    Of a shadow variant, it is the copies that are counted.
    """

    __slots__ = (
        *NUMBERS,
        "is_measured",
        "model",
        "number",
        "overhead",
        "peak",
        "reported_numbers",
        "setup",
    )

    def __init__(self, *, is_measured: bool = True, number: int = 0) -> None:
        self.is_measured = is_measured
        """Whether times are taken."""
        self.number = number
        """Tells it from others of the same name that were before it."""
        self.invocations = 0
        """Invocations sent to a container."""
        self.model_errors = 0
        """Invocations that ended as ModelError."""
        self.client_errors = 0
        """Those of them that the model answered with a status from 400 to 499."""
        self.server_errors = 0
        """Those of them that the model answered with a status from 500."""
        self.failed = 0
        """Those of them that had no answer at all."""
        self.no_capacity = 0
        """Invocations refused because an inference component has no copies."""
        self.overloaded = 0
        """Invocations refused because of full queues."""
        self.dropped = 0
        """Copies that a shadow variant should have got, and that were not sent."""
        self.captured = 0
        """Calls whose data was captured, and is with the jobs process."""
        self.capture_dropped = 0
        """Calls whose data should have been captured, and found no room."""
        self.handler_us = 0
        """Time in the handler over all invocations, in microseconds."""
        self.throttled = 0
        """Invocations refused because a serverless variant had as many as it may at once."""
        self.provisioned_calls = 0
        """Invocations of a serverless variant within its provisioned concurrency."""
        self.spilled_calls = 0
        """Invocations beyond the provisioned concurrency, where there is one."""
        self.peak = 0
        """Most invocations of a serverless variant at once since the last report."""
        self.setup = Latencies()
        """How long calls of a serverless variant waited for a worker."""
        self.model = Latencies()
        """From sending the request to the model until its whole answer was here."""
        self.overhead = Latencies()
        """What this server needed beside that."""
        self.reported_numbers = (0,) * len(NUMBERS)

    def note_concurrency(self, open_calls: int, provisioned: int) -> None:
        """Note how many calls a serverless variant has, with one that begins now."""
        if open_calls > self.peak:
            self.peak = open_calls
        if provisioned:
            if open_calls <= provisioned:
                self.provisioned_calls += 1
            else:
                self.spilled_calls += 1

    def count_answer(self, status: int) -> None:
        """Count an answer of the model that is an error."""
        self.model_errors += 1
        if status < 500:
            self.client_errors += 1
        else:
            self.server_errors += 1

    def count_failure(self) -> None:
        """Count an invocation without an answer."""
        self.model_errors += 1
        self.failed += 1

    def numbers(self) -> dict[str, int]:
        """Return the plain numbers by name."""
        return {name: getattr(self, name) for name in NUMBERS}

    def to_json(self, *, all_of_it: bool = True) -> dict[str, Any]:
        """Return everything, for a report."""
        row = {
            **self.numbers(),
            "number": self.number,
            "model": self.model.to_json(all_of_it=all_of_it),
            "overhead": self.overhead.to_json(all_of_it=all_of_it),
        }
        if self.setup.count:
            row["setup"] = self.setup.to_json(all_of_it=all_of_it)
        if self.peak:
            row["peak"] = self.peak
        return row

    def fold(self) -> None:
        """Add up the times."""
        self.model.fold()
        self.overhead.fold()
        self.setup.fold()

    def has_changed(self) -> bool:
        """Whether anything was counted since the last report."""
        numbers = tuple(getattr(self, name) for name in NUMBERS)
        return bool(
            numbers != self.reported_numbers
            or self.model.recent
            or self.overhead.recent
            or self.setup.recent
            or self.peak
        )

    def reported(self) -> None:
        """Note that all of it was reported."""
        self.reported_numbers = tuple(getattr(self, name) for name in NUMBERS)
        self.model.reported()
        self.overhead.reported()
        self.setup.reported()
        self.peak = 0


Item = tuple[str, str, str, str]
"""Endpoint, variant, endpoint configuration, container; the last two may be empty."""


class Registry:
    """All counters of this process.

    Args:
        is_measured: Whether times are taken.
    """

    def __init__(self, *, is_measured: bool = True) -> None:
        self.life = secrets.token_hex(8)
        """Names this process: counters of another begin at 0."""
        self._is_measured = is_measured
        self._items: dict[Item, VariantCounters] = {}
        self._departed: list[tuple[Item, VariantCounters]] = []
        self._next_number = 0
        self._loads: dict[str, int] = {}
        self._queues: dict[str, int] = {}
        self._parked: dict[str, int] = {}
        self.spans: dict[str, int] | None = None
        """How many spans were exported and dropped; None: calls leave none."""

    def variant(self, endpoint: str, variant: str, config: str = "") -> VariantCounters:
        """Return the counters of a variant of one configuration, the same object each time."""
        return self._item((endpoint, variant, config, ""))

    def container(
        self, endpoint: str, variant: str, container: str, config: str = ""
    ) -> VariantCounters:
        """Return the counters of one of a variant's several containers, the same each time."""
        return self._item((endpoint, variant, config, container))

    def _item(self, item: Item) -> VariantCounters:
        counters = self._items.get(item)
        if counters is None:
            self._next_number += 1
            counters = VariantCounters(is_measured=self._is_measured, number=self._next_number)
            self._items[item] = counters
        return counters

    def forget(self, endpoint: str) -> None:
        """Drop the counters of an endpoint that is gone, once they have been reported."""
        for item in [item for item in self._items if item[0] == endpoint]:
            self._departed.append((item, self._items.pop(item)))

    def fold(self) -> None:
        """Add up the times that were taken since the last call."""
        for counters in self._items.values():
            if counters.model.samples or counters.overhead.samples:
                counters.fold()

    def note_load(self, instance_id: str, open_calls: int) -> None:
        """Note how many calls an instance has at this moment."""
        if self._is_measured and open_calls > self._loads.get(instance_id, 0):
            self._loads[instance_id] = open_calls

    def note_queue(self, instance_id: str, waiting: int) -> None:
        """Note how many of an instance's calls wait for a worker at this moment."""
        if waiting > self._queues.get(instance_id, 0):
            self._queues[instance_id] = waiting

    def note_parked(self, endpoint: str, waiting: int) -> None:
        """Note how many calls wait for an endpoint's first instance at this moment."""
        if waiting > self._parked.get(endpoint, 0):
            self._parked[endpoint] = waiting

    def report(self, *, all_of_it: bool) -> dict[str, Any]:
        """Return what has changed since the last report, or all, and begin anew.

        ``loads`` has the most calls that each instance had at once, ``queues`` the most that waited
        there, ``parked`` the most that waited for an endpoint's first instance.
        """
        rows = []
        for item, counters in [*self._items.items(), *self._departed]:
            counters.fold()
            if all_of_it or counters.has_changed():
                rows.append([*item, counters.to_json(all_of_it=all_of_it)])
                counters.reported()
        gone = [[*item, counters.number] for item, counters in self._departed]
        self._departed = []
        report = {"life": self.life, "items": rows, "gone": gone, "loads": self._loads}
        if self._queues:
            report["queues"] = self._queues
        if self._parked:
            report["parked"] = self._parked
        if self.spans is not None:
            report["spans"] = dict(self.spans)
        self._loads, self._queues, self._parked = {}, {}, {}
        return report

    def to_json(self) -> list[dict[str, object]]:
        """Return the plain numbers of all variants, their containers' in them, for people."""
        return totals([(item, counters.numbers()) for item, counters in self._items.items()])


def totals(items: list[tuple[Item, dict[str, int]]]) -> list[dict[str, object]]:
    """Return plain numbers by variant, over all configurations, with those of containers inside."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (endpoint, variant, _, container), numbers in items:
        row = rows.setdefault((endpoint, variant), {"endpoint": endpoint, "variant": variant})
        if container:
            inside = row.setdefault("containers", {}).setdefault(container, {})
            _add(inside, numbers)
            # The hot path counts a pipeline's time once, at its containers.
            _add(row, {"handler_us": numbers["handler_us"]})
        else:
            _add(row, numbers)
    return list(rows.values())


def _add(sums: dict[str, Any], numbers: dict[str, int]) -> None:
    for name, value in numbers.items():
        sums[name] = sums.get(name, 0) + value
