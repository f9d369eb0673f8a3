"""The fleets of an endpoint as they should be now, and the route over them. Pure.

Usually there is one. A deployment has two, the old one first: how many instances each should have,
and how the traffic is parted between them, is in ``deployment_plan.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from clary.control.instances import KnownInstance
from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.model import Model
from clary.resources.routing_table import (
    AsyncRoute,
    EndpointRoute,
    InstanceRoute,
    ServerlessRoute,
    VariantRoute,
)
from clary.resources.serverless import ServerlessCapacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The instances that run one configuration, as they should be."""

    number: int
    config: EndpointConfig
    models: Mapping[str, Model]
    counts: Mapping[str, int]
    """Instances by variant, shadow variants too."""

    weights: Mapping[str, float]
    """Weights by variant, as they were asked for."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each variant's traffic that this fleet takes, 0 to 1. Empty: it is the only one."""

    active: Mapping[str, int] = field(default_factory=dict)
    """How many instances of a variant take traffic, where not all of them do."""

    serverless: Mapping[str, ServerlessCapacity] = field(default_factory=dict)
    """Capacity of its serverless variants."""

    guests: int | None = None
    """Number of another fleet whose instances count as this one's while they last."""

    def share(self, variant_name: str) -> float:
        """Return the share of a variant's traffic that this fleet takes."""
        return self.shares.get(variant_name, 1.0)

    def owns(self, instance: KnownInstance) -> bool:
        """Whether an instance is of this fleet."""
        return instance.record.fleet in (self.number, self.guests)


def route_over(
    name: str,
    fleets: Sequence[Fleet],
    instances: Sequence[KnownInstance],
    everyone: Sequence[KnownInstance] = (),
) -> EndpointRoute:
    """Return the route of an endpoint.

    Args:
        name: Of the endpoint.
        fleets: All of them, the old one first.
        instances: Those that stay.
        everyone: Those that have failed, too.
    """
    variants = [
        replace(
            _route_of(fleet, variant, _weight(fleet, variant.name), instances),
            serverless=_serverless(fleet, variant.name, everyone),
        )
        for fleet in fleets
        for variant in fleet.config.variants
    ]
    old, new = fleets[0], fleets[-1]
    is_over = all(new.share(variant.name) >= 1 for variant in new.config.variants)
    # One for both fleets: the old one's, until it has no traffic any more.
    leading = (new if is_over else old).config
    asynchronous = leading.asynchronous
    return EndpointRoute(
        name=name,
        variants=tuple(variants),
        shadow=_shadow(fleets, instances),
        capture=leading.capture,
        hosts_components=leading.hosts_components,
        asynchronous=(
            None if asynchronous is None else AsyncRoute(max_concurrent=asynchronous.max_concurrent)
        ),
    )


def _weight(fleet: Fleet, variant_name: str) -> float:
    """Return a variant's share of all traffic; a sole fleet's weights stay as they are."""
    weight = fleet.weights[variant_name]
    if not fleet.shares:
        return weight
    whole = sum(fleet.weights[variant.name] for variant in fleet.config.variants)
    return weight / whole * fleet.share(variant_name) if whole > 0 else 0.0


def _shadow(fleets: Sequence[Fleet], instances: Sequence[KnownInstance]) -> VariantRoute | None:
    """Return the shadow of the fleet that takes traffic: of the new one when it takes it all."""
    for fleet in fleets:
        if not fleet.config.shadow_variants:
            continue
        shadow, production = fleet.config.shadow_variants[0], fleet.config.variants[0]
        if shadow.name not in fleet.counts or fleet.share(production.name) <= 0:
            continue
        weight = fleet.weights[shadow.name]
        if fleet.shares:  # beside production weights that add up to 1
            whole = fleet.weights[production.name]
            weight = weight / whole if whole > 0 else weight
        return _route_of(fleet, shadow, weight, instances)
    return None


def _route_of(
    fleet: Fleet,
    variant: ProductionVariant,
    weight: float,
    instances: Sequence[KnownInstance],
) -> VariantRoute:
    serving = [
        InstanceRoute(id=i.record.id, containers=i.observed.containers)
        for i in instances
        if fleet.owns(i)
        and i.record.variant_name == variant.name
        and (i.is_healthy or i.still_serves)
        and i.observed
        and not i.observed.is_host
    ]
    model = fleet.models.get(variant.model_name or "")
    return VariantRoute(
        name=variant.name,
        weight=weight,
        instances=tuple(serving[: fleet.active.get(variant.name)]),
        routing=variant.routing,
        is_direct=model is not None and model.is_direct,
        config_name=fleet.config.name,
        share=fleet.share(variant.name),
    )


def _serverless(
    fleet: Fleet, variant_name: str, everyone: Sequence[KnownInstance]
) -> ServerlessRoute | None:
    capacity = fleet.serverless.get(variant_name)
    if capacity is None:
        return None
    mine = [i for i in everyone if fleet.owns(i) and i.record.variant_name == variant_name]
    troubles = [i.trouble for i in mine if not i.record.stopping]
    return ServerlessRoute(
        max_concurrency=capacity.max_concurrency,
        provisioned=capacity.provisioned,
        # There is one host, and for a moment its successor, which may be better.
        trouble=troubles[-1] if troubles else None,
    )
