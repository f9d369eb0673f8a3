"""Gauges of variants, for Prometheus and OpenTelemetry: capacity, load, and what instances use."""

from collections.abc import Iterable, Mapping

from clary.control.gateway_metrics import GatewayMetrics
from clary.control.instance_metrics import InstanceMetrics
from clary.metrics.families import Definition, Family, gauge
from clary.metrics.invocation_totals import BY_VARIANT, InvocationTotals, Place
from clary.resources.routing_table import EndpointRoute

INSTANCES = gauge("clary_instances", "Instances that take invocations.", *BY_VARIANT)
WEIGHT = gauge(
    "clary_variant_traffic_ratio", "Share of the endpoint's traffic, by weight.", *BY_VARIANT
)
CONCURRENT = gauge(
    "clary_concurrent_invocations",
    "Most invocations that were open at once in the last second.",
    *BY_VARIANT,
)
QUEUED = gauge(
    "clary_queued_invocations",
    "Most of them that waited for a worker to be free in the last second.",
    *BY_VARIANT,
)
PARKED = gauge(
    "clary_parked_invocations",
    "Invocations that waited for a first healthy instance in the last second.",
    "endpoint",
)
CPU = gauge(
    "clary_instances_cpu_cores", "Processor cores in use by a variant's instances.", *BY_VARIANT
)
MEMORY = gauge(
    "clary_instances_memory_bytes",
    "Memory of the processes of a variant's instances.",
    *BY_VARIANT,
    unit="bytes",
)
GPU = gauge("clary_instances_gpus", "GPUs in use by a variant's instances.", *BY_VARIANT)
GPU_MEMORY = gauge(
    "clary_instances_gpu_memory_ratio",
    "GPU memory of a variant's instances; 1 is that of one GPU.",
    *BY_VARIANT,
)
MODELS = gauge(
    "clary_loaded_models", "Loaded models of a multi-model variant's instances.", *BY_VARIANT
)

USAGE = {
    "cpu_percent": (CPU, 0.01),
    "memory_kib": (MEMORY, 1024.0),
    "gpu_percent": (GPU, 0.01),
    "gpu_memory_percent": (GPU_MEMORY, 0.01),
    "models": (MODELS, 1.0),
}
"""Families by what hosts call them (``worker/usage.py``), with what a unit of theirs is."""


class VariantFamilies:
    """Gathers them.

    Args:
        totals: What happened, by variant; says which variants have series of their own.
        measured: What gateways report.
        usage: What instances use.
    """

    def __init__(
        self, totals: InvocationTotals, measured: GatewayMetrics, usage: InstanceMetrics
    ) -> None:
        self._totals = totals
        self._measured = measured
        self._usage = usage

    def families(self, now: float) -> list[Family]:
        """Return all families of variants.

        Args:
            now: On the monotonic clock.
        """
        routes = self._measured.routes
        places = _places(routes)
        instances, weights, concurrent, queued = (
            _Sum(definition, self._totals, places)
            for definition in (INSTANCES, WEIGHT, CONCURRENT, QUEUED)
        )
        for name, route in routes.items():
            total = sum(variant.weight for variant in route.variants)
            for variant in route.variants:
                instances.add((name, variant.name), len(variant.instances))
                weights.add((name, variant.name), variant.weight / total if total else 0.0)
            if route.shadow is not None:
                instances.add((name, route.shadow.name), len(route.shadow.instances))
        loads, queues, parked = self._measured.open_calls()
        for place, value in loads.items():
            concurrent.add(place, value)
        for place, value in queues.items():
            queued.add(place, value)
        return [
            *self._totals.families(now),
            *(sums.family() for sums in (instances, weights, concurrent, queued)),
            # Only where some wait: the rest would be many zeros.
            Family(PARKED, [((name,), float(count)) for name, count in parked.items()]),
            *self._used(now),
        ]

    def _used(self, now: float) -> list[Family]:
        sums = {name: _Sum(definition, self._totals) for name, (definition, _) in USAGE.items()}
        for instance_id, usage in self._usage.latest(now):
            place = self._measured.place_of(instance_id)
            if place is None:
                continue  # it takes no calls yet, or any more
            for name, (_, unit) in USAGE.items():
                if name in usage:
                    sums[name].add(place, usage[name] * unit)
        return [each.family() for each in sums.values()]


def _places(routes: Mapping[str, EndpointRoute]) -> list[Place]:
    return [
        (name, variant.name)
        for name, route in routes.items()
        for variant in (*route.variants, *(() if route.shadow is None else (route.shadow,)))
    ]


class _Sum:
    """A family whose values are added up by the labels that variants go by.

    Args:
        definition: Of the family.
        totals: Knows the labels.
        places: Variants that have the value 0 if nothing is added.
    """

    def __init__(
        self, definition: Definition, totals: InvocationTotals, places: Iterable[Place] = ()
    ) -> None:
        self._definition = definition
        self._totals = totals
        self._values: dict[Place, float] = {totals.shown(*place): 0.0 for place in places}

    def add(self, place: Place, value: float) -> None:
        shown = self._totals.shown(*place)
        self._values[shown] = self._values.get(shown, 0.0) + value

    def family(self) -> Family:
        return Family(self._definition, list(self._values.items()))
