"""What happened to invocations since this process started, by variant, as families.

Fed with the differences between gateways' reports, so that counters only grow, whichever gateway
comes and goes. One series for each endpoint and variant, and no more than a given number of them:
variants that come when all places are taken are added up under the name ``_other``, which no
endpoint can have. A place is free again some time after its variant has gone, so that its last
counts are seen.
"""

from collections.abc import Collection, Iterable, Mapping

from clary.metrics.families import Definition, Ends, Family, Histogram, counter, gauge, histogram
from clary.metrics.reports import Difference
from clary.metrics.statistics import StatisticSet

Place = tuple[str, str]
"""Endpoint and variant."""

OTHER: Place = ("_other", "_other")
KEPT_S = 600.0
"""How long the series of a variant that is gone stay, in seconds."""

BY_VARIANT = ("endpoint", "variant")
BY_CONTAINER = (*BY_VARIANT, "container")

MODEL_EDGES = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper ends of the buckets of models' times, in seconds."""

OVERHEAD_EDGES = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)

INVOCATIONS = counter(
    "clary_invocations_total", "Invocations sent to a model, copies for shadows too.", *BY_VARIANT
)
ERRORS = counter(
    "clary_invocation_errors_total",
    "Invocations that ended without a good answer of the model; kind is 4xx or 5xx, as the model "
    "answered, or no_answer.",
    *(*BY_VARIANT, "kind"),
)
REFUSED = counter(
    "clary_invocations_refused_total",
    "Invocations that reached no model; reason is queue_full, throttled (a serverless variant's "
    "concurrency) or no_capacity (an inference component without copies).",
    *(*BY_VARIANT, "reason"),
)
MODEL = histogram(
    "clary_model_latency_seconds",
    "From sending a request to the model until its whole answer was here.",
    *BY_VARIANT,
    edges=MODEL_EDGES,
)
OVERHEAD = histogram(
    "clary_overhead_latency_seconds",
    "From the request's arrival until it was sent to the model.",
    *BY_VARIANT,
    edges=OVERHEAD_EDGES,
)
HANDLER = counter(
    "clary_handler_seconds_total",
    "Time in models' handlers or servers.",
    *BY_VARIANT,
    unit="seconds",
)
SHADOW_DROPPED = counter(
    "clary_shadow_copies_dropped_total",
    "Copies that a shadow variant should have got, and that were not sent.",
    *BY_VARIANT,
)
CAPTURED = counter(
    "clary_captured_calls_total", "Calls whose data was captured, and is with jobs.", *BY_VARIANT
)
CAPTURE_DROPPED = counter(
    "clary_capture_dropped_calls_total",
    "Calls whose data should have been captured, and found no room.",
    *BY_VARIANT,
)
CONTAINER_INVOCATIONS = counter(
    "clary_container_invocations_total",
    "Invocations of one of several containers of a model.",
    *BY_CONTAINER,
)
CONTAINER_ERRORS = counter(
    "clary_container_errors_total",
    "Invocations of one of several containers without a good answer.",
    *BY_CONTAINER,
)
CONTAINER_LATENCY = histogram(
    "clary_container_latency_seconds",
    "From sending a request to one of several containers until its whole answer was here.",
    *BY_CONTAINER,
    edges=MODEL_EDGES,
)
SUMMED = gauge(
    "clary_variants_summed",
    "Variants that have no series of their own, for there are too many (metrics.max_exposed).",
)

_MODEL_ENDS, _OVERHEAD_ENDS = Ends(MODEL_EDGES), Ends(OVERHEAD_EDGES)


class Totals:
    """Of one variant, or of one of its containers."""

    __slots__ = (
        "capture_dropped",
        "captured",
        "client_errors",
        "dropped",
        "failed",
        "handler_us",
        "invocations",
        "model",
        "no_capacity",
        "overhead",
        "overloaded",
        "server_errors",
        "throttled",
    )

    def __init__(self) -> None:
        self.invocations = 0
        self.client_errors = 0
        self.server_errors = 0
        self.failed = 0
        self.overloaded = 0
        self.throttled = 0
        self.no_capacity = 0
        self.dropped = 0
        self.captured = 0
        self.capture_dropped = 0
        self.handler_us = 0
        self.model = Histogram(MODEL_EDGES)
        self.overhead = Histogram(OVERHEAD_EDGES)

    def add(self, change: Difference) -> None:
        """Add what happened."""
        self.invocations += change.invocations
        self.client_errors += change.client_errors
        self.server_errors += change.server_errors
        self.failed += change.failed
        self.overloaded += change.overloaded
        self.throttled += change.throttled
        self.no_capacity += change.no_capacity
        self.dropped += change.dropped
        self.captured += change.captured
        self.capture_dropped += change.capture_dropped
        self.handler_us += change.handler_us
        _add_times(self.model, change.model, _MODEL_ENDS)
        _add_times(self.overhead, change.overhead, _OVERHEAD_ENDS)


def _add_times(times: Histogram, more: StatisticSet | None, ends: Ends) -> None:
    if more is not None:
        times.add(more.buckets or {}, more.sum, ends)


class InvocationTotals:
    """All variants.

    Args:
        limit: Most variants with series of their own.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._totals: dict[Place, Totals] = {}
        self._containers: dict[tuple[str, str, str], Totals] = {}
        self._present: dict[str, set[str]] = {}
        """Variants by endpoint, as they are now."""
        self._gone_at: dict[Place, float] = {}
        self._summed: set[Place] = set()

    def follow(self, endpoint: str, variants: Collection[str], now: float) -> None:
        """Take what variants an endpoint has; none when it is gone.

        Args:
            endpoint: Its name.
            variants: Their names.
            now: On the monotonic clock.
        """
        for variant in self._present.get(endpoint, set()).difference(variants):
            place = (endpoint, variant)
            if place in self._summed:
                self._summed.discard(place)
            else:
                self._gone_at[place] = now
        if variants:
            self._present[endpoint] = set(variants)
        else:
            self._present.pop(endpoint, None)
        self._prune(now)
        for variant in variants:
            self._gone_at.pop((endpoint, variant), None)
            self._of((endpoint, variant), now)

    def add(
        self, endpoint: str, variant: str, container: str, change: Difference, now: float
    ) -> None:
        """Add what happened to a variant, or to one of its several containers.

        Args:
            endpoint: Its name.
            variant: Its name.
            container: Empty: the variant as a whole.
            change: What happened.
            now: On the monotonic clock.
        """
        place = (endpoint, variant)
        totals = self._of(place, now)
        if not container:
            totals.add(change)
            return
        totals.handler_us += change.handler_us  # a pipeline's is counted at its containers only
        if place in self._totals:
            self._containers.setdefault((*place, container), Totals()).add(change)

    def shown(self, endpoint: str, variant: str) -> Place:
        """Return the labels that a variant goes by."""
        place = (endpoint, variant)
        return place if place in self._totals else OTHER

    def _of(self, place: Place, now: float) -> Totals:
        totals = self._totals.get(place)
        if totals is not None:
            return totals
        is_present = place[1] in self._present.get(place[0], ())
        if place not in self._summed and len(self._totals) - (OTHER in self._totals) < self._limit:
            totals = self._totals[place] = Totals()
            if not is_present:
                self._gone_at[place] = now  # the last that is heard of it, or the first
            return totals
        if is_present:
            self._summed.add(place)
        return self._totals.setdefault(OTHER, Totals())

    def _prune(self, now: float) -> None:
        for place, gone_at in list(self._gone_at.items()):
            if now - gone_at > KEPT_S:
                del self._gone_at[place]
                self._totals.pop(place, None)
                for item in [item for item in self._containers if item[:2] == place]:
                    del self._containers[item]

    def families(self, now: float) -> list[Family]:
        """Return all series.

        Args:
            now: On the monotonic clock.
        """
        self._prune(now)
        plain = [
            (INVOCATIONS, "invocations", 1.0),
            (HANDLER, "handler_us", 1e-6),
            (SHADOW_DROPPED, "dropped", 1.0),
            (CAPTURED, "captured", 1.0),
            (CAPTURE_DROPPED, "capture_dropped", 1.0),
            (MODEL, "model", 0.0),
            (OVERHEAD, "overhead", 0.0),
        ]
        inside = [(CONTAINER_INVOCATIONS, "invocations", 1.0), (CONTAINER_LATENCY, "model", 0.0)]
        errors = _by_kind(
            ERRORS,
            self._totals,
            {"4xx": "client_errors", "5xx": "server_errors", "no_answer": "failed"},
        )
        refused = _by_kind(
            REFUSED,
            self._totals,
            {"queue_full": "overloaded", "throttled": "throttled", "no_capacity": "no_capacity"},
        )
        container_errors = Family(
            CONTAINER_ERRORS,
            [
                (item, float(totals.client_errors + totals.server_errors + totals.failed))
                for item, totals in self._containers.items()
            ],
        )
        summed = Family(SUMMED, [((), float(len(self._summed)))])
        return [
            *(
                Family(what, _rows(self._totals.items(), name, scale))
                for what, name, scale in plain
            ),
            errors,
            refused,
            *(
                Family(what, _rows(self._containers.items(), name, scale))
                for what, name, scale in inside
            ),
            container_errors,
            summed,
        ]


def _rows(
    items: Iterable[tuple[tuple[str, ...], Totals]], name: str, scale: float
) -> list[tuple[tuple[str, ...], float | Histogram]]:
    if not scale:
        return [(labels, getattr(totals, name)) for labels, totals in items]
    return [(labels, getattr(totals, name) * scale) for labels, totals in items]


def _by_kind(what: Definition, totals: Mapping[Place, Totals], names: Mapping[str, str]) -> Family:
    return Family(
        what,
        [
            ((*place, kind), float(getattr(each, name)))
            for place, each in totals.items()
            for kind, name in names.items()
        ],
    )
