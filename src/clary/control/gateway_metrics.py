"""From what gateways count to metrics.

``take`` is given every report (``control/publish.py``); ``follow_route`` hears of every route, for
metrics of a variant that serves are 0 while nobody calls it. Calls of transform jobs are no
invocations of an endpoint, and have no metrics.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from clary.clock import Clock
from clary.metrics.component_metrics import (
    COMPONENT_IDLE,
    CONCURRENCY_PER_COPY,
    component_key,
    component_metrics,
)
from clary.metrics.endpoint_metrics import (
    CONCURRENCY,
    CONCURRENCY_STEP_S,
    CONCURRENCY_USED,
    IDLE,
    INVOCATIONS,
    PROVISIONED_USED,
    dimension_sets,
    invocation_metrics,
    serverless_metrics,
)
from clary.metrics.invocation_totals import InvocationTotals, Place
from clary.metrics.key import MetricKey
from clary.metrics.reports import Difference, Seen
from clary.metrics.series import MetricStore
from clary.resources.inference_component import (
    ComputeResources,
    component_of_route,
    component_route,
)
from clary.resources.routing_table import EndpointRoute, ServerlessRoute
from clary.resources.transform_job import job_of_route

FORGET_AFTER_S = 600.0
"""A gateway that has not reported for so long, in seconds, does not come back: gateways have a
name of their own in each life."""

SILENT_S = 5.0
"""What a gateway has open counts no more when it has not reported for so long, in seconds."""

NOT_OF_ASYNC = frozenset({"Invocations", "InvocationsPerInstance", "OverheadLatency"})
"""Metrics that asynchronous endpoints do not have (autoscaling-metrics.md 6)."""

UPDATED = "updated"
"""Source of the marks that say which endpoints have had another configuration before."""


class GatewayMetrics:
    """Turns reports into metrics.

    Args:
        store: Where they go.
        clock: Wall time.
        totals: Gets what happened as well.
        is_enabled: Whether anything is measured at all.
    """

    def __init__(
        self,
        store: MetricStore,
        clock: Clock,
        totals: InvocationTotals,
        *,
        is_enabled: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._totals = totals
        self._is_enabled = is_enabled
        self.routes: dict[str, EndpointRoute] = {}
        """As they were published."""
        self._variant_of: dict[str, tuple[str, str]] = {}
        """Endpoint and variant by instance."""
        self._updated = {item for _, item in store.marks(UPDATED)}
        """Endpoints that have had another configuration before."""
        self._seen: dict[tuple[str, str], Seen] = {}
        """By gateway's life and item."""
        self._heard_at: dict[str, float] = {}
        self._changed: set[tuple[str, str]] = set()
        now = clock.monotonic()
        for (source, item), document in store.marks().items():
            if "numbers" in document:
                self._seen[source, item] = Seen(document)
                self._heard_at[source] = now
        self._loads: dict[str, dict[str, int]] = {}
        self._queues: dict[str, dict[str, int]] = {}
        self._parked: dict[str, dict[str, int]] = {}
        self._seen_spans: dict[str, dict[str, int]] = {}
        """By gateway's life."""
        self._spans = {"exported": 0, "dropped": 0}
        store.before_flush.append(self._mark)

    # Routes -------------------------------------------------------------------------------

    def follow_route(self, name: str, route: EndpointRoute | None) -> None:
        """Take a route as it is published, or that an endpoint has none any more."""
        if job_of_route(name) is not None:
            return
        old = self.routes.pop(name, None)
        before = {} if old is None else _kinds(old)
        for variant in old.variants if old is not None and not _is_adapter(old) else ():
            for instance in variant.instances:
                self._variant_of.pop(instance.id, None)
        exposed: set[str] = set()
        if route is None:
            if name in self._updated:
                self._updated.discard(name)
                self._store.forget_marks(UPDATED, name)
            now_there: dict[str, bool] = {}
        else:
            self.routes[name] = route
            now_there = _kinds(route)
            if old is not None and _configs(old) != _configs(route):
                self._updated.add(name)
                self._store.mark(UPDATED, name, {})
            shadows = () if route.shadow is None else (route.shadow,)
            # The copies that an adapter lives in are those of its base.
            for variant in (*route.variants, *shadows) if not _is_adapter(route) else ():
                for instance in variant.instances:
                    self._variant_of[instance.id] = (name, variant.name)
            exposed = {variant.name for variant in (*route.variants, *shadows)}
        self._totals.follow(name, exposed, self._clock.monotonic())
        for variant_name in {*before, *now_there}:
            if before.get(variant_name) != now_there.get(variant_name):
                self._set_present(name, variant_name, is_present=variant_name in now_there)

    def place_of(self, instance_id: str) -> tuple[str, str] | None:
        """Return endpoint and variant of an instance that takes calls."""
        return self._variant_of.get(instance_id)

    def _set_present(self, endpoint: str, variant: str, *, is_present: bool) -> None:
        if not self._is_enabled:
            return
        component = component_of_route(endpoint)
        if component is not None:
            self._set_component_present(component, is_present=is_present)
            return
        (dimensions,) = dimension_sets(endpoint, variant)
        now = self._clock.now()
        route = self.routes.get(endpoint)
        is_async = route is not None and route.asynchronous is not None
        for name in IDLE:
            if is_async and name in NOT_OF_ASYNC:
                continue
            key = MetricKey.of(INVOCATIONS, name, dimensions)
            self._store.set_present(key, None, at=now, is_present=is_present)
        key = MetricKey.of(INVOCATIONS, CONCURRENCY, dimensions)
        self._store.set_present(key, None, at=now, is_present=is_present, step_s=CONCURRENCY_STEP_S)
        serverless = self._serverless(endpoint, variant)
        present = {
            CONCURRENCY_USED: serverless is not None,
            PROVISIONED_USED: serverless is not None and serverless.provisioned > 0,
        }
        for name, is_there in present.items():
            if is_there or not is_present:
                key = MetricKey.of(INVOCATIONS, name, dimensions)
                self._store.set_present(key, None, at=now, is_present=is_present)

    def _set_component_present(self, component: str, *, is_present: bool) -> None:
        now = self._clock.now()
        for name in COMPONENT_IDLE:
            key = component_key(name, component)
            self._store.set_present(key, None, at=now, is_present=is_present)
        key = component_key(CONCURRENCY_PER_COPY, component)
        self._store.set_present(key, None, at=now, is_present=is_present, step_s=CONCURRENCY_STEP_S)

    # Reports ------------------------------------------------------------------------------

    def take(self, report: Mapping[str, Any]) -> None:
        """Take a gateway's report."""
        life = report["life"]
        self._heard_at[life] = self._clock.monotonic()
        for endpoint, variant, config, container, row in report["items"]:
            if job_of_route(endpoint) is not None:
                continue
            item = _item(endpoint, variant, config, container, row["number"])
            self._take_item(life, item, endpoint, variant, config, container, row)
        for endpoint, variant, config, container, number in report["gone"]:
            item = _item(endpoint, variant, config, container, number)
            if self._seen.pop((life, item), None) is not None:
                self._changed.discard((life, item))
                self._store.forget_marks(life, item)
        self._queues[life] = report.get("queues", {})
        self._parked[life] = report.get("parked", {})
        self._take_loads(life, report["loads"])
        spans = report.get("spans")
        if spans is not None:
            before = self._seen_spans.get(life, {})
            self._seen_spans[life] = spans
            for name in self._spans:
                self._spans[name] += max(spans[name] - before.get(name, 0), 0)

    def _take_item(
        self,
        life: str,
        item: str,
        endpoint: str,
        variant: str,
        config: str,
        container: str,
        row: Mapping[str, Any],
    ) -> None:
        seen = self._seen.setdefault((life, item), Seen())
        change = seen.take(row)
        self._changed.add((life, item))
        self._totals.add(endpoint, variant, container, change, self._clock.monotonic())
        if not self._is_enabled:
            return
        component = component_of_route(endpoint)
        if component is not None:
            self._take_component(component, endpoint, variant, change)
            return
        serverless = self._serverless(endpoint, variant)
        shown = config if endpoint in self._updated else ""
        now = self._clock.now()
        instances = self._instance_count(endpoint, variant)
        route = self.routes.get(endpoint)
        is_async = route is not None and route.asynchronous is not None
        for dimensions in dimension_sets(endpoint, variant, container=container, config=shown):
            for each in invocation_metrics(dimensions, change, instances=instances):
                if is_async and each.key.name in NOT_OF_ASYNC:
                    continue
                self._store.add(each.key, at=now, value=each.values, unit=each.unit)
            if serverless is None or container:
                continue
            for each in serverless_metrics(
                dimensions,
                change,
                max_concurrency=serverless.max_concurrency,
                provisioned=serverless.provisioned,
            ):
                self._store.add(each.key, at=now, value=each.values, unit=each.unit)

    def _serverless(self, endpoint: str, variant: str) -> ServerlessRoute | None:
        route = self.routes.get(endpoint)
        found = [v.serverless for v in route.variants if v.name == variant] if route else []
        return found[-1] if found else None

    def _take_component(
        self, component: str, route_name: str, variant: str, change: Difference
    ) -> None:
        route = self.routes.get(route_name)
        if route is None or route.component is None:
            return  # it has gone, and nobody knows any more where it was
        now = self._clock.now()
        copies = self._instance_count(route_name, variant)
        place = route.component.endpoint
        for each in component_metrics(component, place, variant, change, copies=copies):
            self._store.add(each.key, at=now, value=each.values, unit=each.unit)

    def reserved_by(self, component: str) -> ComputeResources:
        """Return what a copy of a component has reserved, as far as its route says."""
        route = self.routes.get(component_route(component))
        if route is None or route.component is None:
            return ComputeResources()
        return ComputeResources(
            cpu_cores=route.component.cpu_cores,
            accelerators=route.component.accelerators,
            memory_mib=route.component.memory_mib,
        )

    def _take_loads(self, life: str, loads: Mapping[str, int]) -> None:
        """Add up what several gateways have open with an instance, at about the same time."""
        self._loads[life] = dict(loads)
        if not self._is_enabled:
            return
        now = self._clock.now()
        for instance_id in loads:
            place = self._variant_of.get(instance_id)
            if place is None:
                continue
            total = sum(each.get(instance_id, 0) for each in self._loads.values())
            component = component_of_route(place[0])
            if component is None:
                (dimensions,) = dimension_sets(*place)
                key = MetricKey.of(INVOCATIONS, CONCURRENCY, dimensions)
            else:
                key = component_key(CONCURRENCY_PER_COPY, component)
            self._store.add(key, at=now, value=float(total), resolution_s=CONCURRENCY_STEP_S)

    def async_endpoints(self) -> list[str]:
        """Return the asynchronous endpoints that have series of their own in ``totals``."""
        return [
            name
            for name, route in self.routes.items()
            if route.asynchronous is not None
            and any(self._totals.shown(name, variant.name)[0] == name for variant in route.variants)
        ]

    def spans(self) -> tuple[int, int]:
        """Return how many spans gateways have exported, and dropped, since this process began."""
        return self._spans["exported"], self._spans["dropped"]

    def open_calls(self) -> tuple[dict[Place, int], dict[Place, int], dict[str, int]]:
        """Return what gateways had open at once in the last second, added up.

        Open calls and those of them that wait, by variant; and those that wait for a first
        instance, by endpoint.
        """
        now = self._clock.monotonic()
        alive = [life for life, at in self._heard_at.items() if now - at <= SILENT_S]
        loads, queues = (
            self._by_variant(opened.get(life, {}) for life in alive)
            for opened in (self._loads, self._queues)
        )
        parked: dict[str, int] = {}
        for life in alive:
            for endpoint, count in self._parked.get(life, {}).items():
                parked[endpoint] = parked.get(endpoint, 0) + count
        return loads, queues, parked

    def _by_variant(self, counts: Iterable[Mapping[str, int]]) -> dict[Place, int]:
        sums: dict[Place, int] = {}
        for by_instance in counts:
            for instance_id, count in by_instance.items():
                place = self._variant_of.get(instance_id)
                if place is not None:
                    sums[place] = sums.get(place, 0) + count
        return sums

    def _instance_count(self, endpoint: str, variant: str) -> int:
        route = self.routes.get(endpoint)
        if route is None:
            return 0
        shadows = () if route.shadow is None else (route.shadow,)
        return sum(
            len(each.instances) for each in (*route.variants, *shadows) if each.name == variant
        )

    def _mark(self) -> None:
        """Have what was seen written with the points that were made of it."""
        for life, item in self._changed:
            self._store.mark(life, item, self._seen[life, item].to_json())
        self._changed = set()
        now = self._clock.monotonic()
        for life, heard_at in list(self._heard_at.items()):
            if now - heard_at > FORGET_AFTER_S:
                del self._heard_at[life]
                for opened in (self._loads, self._queues, self._parked, self._seen_spans):
                    opened.pop(life, None)
                for place in [place for place in self._seen if place[0] == life]:
                    del self._seen[place]
                self._store.forget_marks(life)


def _kinds(route: EndpointRoute) -> dict[str, bool]:
    """Return for each variant whether it has provisioned concurrency."""
    return {v.name: bool(v.serverless and v.serverless.provisioned) for v in route.variants}


def _is_adapter(route: EndpointRoute) -> bool:
    return route.component is not None and route.component.is_adapter


def _configs(route: EndpointRoute) -> set[str]:
    return {variant.config_name for variant in route.variants}


def _item(endpoint: str, variant: str, config: str, container: str, number: int) -> str:
    return f"{endpoint}/{variant}/{config}/{container}/{number}"
