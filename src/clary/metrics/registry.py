"""Counters of this process, cumulative since its start.

The hot path adds to plain attributes; a timer reads them. Values only grow, so that a lost report
costs nothing: the next one has it all.
"""

ACCURACY = 0.01
"""Relative width of the buckets of a distribution, to either side (``sketch.py``)."""
ZERO_BUCKET = -(1 << 30)
"""Bucket of the value 0, which has no logarithm."""


class VariantCounters:
    """What one gateway counted for one variant, or for one container of a pipeline.

    Of a shadow variant, it is the copies that are counted.
    """

    __slots__ = (
        "capture_dropped",
        "captured",
        "dropped",
        "handler_us",
        "invocations",
        "model_errors",
        "overloaded",
    )

    def __init__(self) -> None:
        self.invocations = 0
        """Invocations sent to a container."""
        self.model_errors = 0
        """Invocations that ended as ModelError."""
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

    def to_json(self) -> dict[str, int]:
        """Return the values by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Registry:
    """All counters of this process."""

    def __init__(self) -> None:
        self._variants: dict[tuple[str, str], VariantCounters] = {}
        self._containers: dict[tuple[str, str], dict[str, VariantCounters]] = {}

    def variant(self, endpoint: str, variant: str) -> VariantCounters:
        """Return the counters of a variant, the same object each time."""
        counters = self._variants.get((endpoint, variant))
        if counters is None:
            counters = self._variants[endpoint, variant] = VariantCounters()
        return counters

    def container(self, endpoint: str, variant: str, container: str) -> VariantCounters:
        """Return the counters of one of a variant's several containers, the same each time."""
        containers = self._containers.setdefault((endpoint, variant), {})
        return containers.setdefault(container, VariantCounters())

    def forget(self, endpoint: str) -> None:
        """Drop the counters of an endpoint that is gone."""
        for key in [key for key in self._variants if key[0] == endpoint]:
            del self._variants[key]
            self._containers.pop(key, None)

    def to_json(self) -> list[dict[str, object]]:
        """Return all values, for a report."""
        return [
            self._row(endpoint, variant, counters)
            for (endpoint, variant), counters in self._variants.items()
        ]

    def _row(self, endpoint: str, variant: str, counters: VariantCounters) -> dict[str, object]:
        row: dict[str, object] = {"endpoint": endpoint, "variant": variant, **counters.to_json()}
        containers = self._containers.get((endpoint, variant))
        if containers:
            row["containers"] = {name: each.to_json() for name, each in containers.items()}
            # The hot path counts a pipeline's time once, at its containers.
            row["handler_us"] = counters.handler_us + sum(
                each.handler_us for each in containers.values()
            )
        return row
