"""The routes of inference components. Pure."""

from collections.abc import Mapping, Sequence

from clary.control.component_adapters import AdapterPlan
from clary.control.inference_component_plan import ComponentsPlan
from clary.control.instances import KnownInstance
from clary.resources.endpoint import Endpoint
from clary.resources.inference_component import InferenceComponent, component_route
from clary.resources.routing_table import (
    DEFAULT_ROUTING,
    ComponentRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)


def route_of(
    component: InferenceComponent,
    endpoint: Endpoint,
    plan: ComponentsPlan,
    adapters: Mapping[str, AdapterPlan],
) -> EndpointRoute | None:
    """Return the route of a component; None: it takes no invocations."""
    adapter = adapters.get(component.name)
    if adapter is not None:
        if adapter.serving is None:
            return None
        return make_route(component, endpoint, adapter.serving, refuses=adapter.refuses)
    serving = plan.serving.get(component.name)
    if serving is None:
        return None
    return make_route(component, endpoint, serving, refuses=component.name not in plan.waits)


def make_route(
    component: InferenceComponent,
    endpoint: Endpoint,
    serving: Sequence[KnownInstance],
    *,
    refuses: bool,
) -> EndpointRoute:
    """Return a route to copies.

    Args:
        component: Whose route it is.
        endpoint: Where it is.
        serving: The copies that take its invocations.
        refuses: Whether invocations are refused while there are none.
    """
    variant = next((v for v in endpoint.config.variants if v.name == component.variant_name), None)
    needs = component.spec.needs
    return EndpointRoute(
        name=component_route(component.name),
        variants=(
            VariantRoute(
                name=component.variant_name,
                weight=1.0,
                instances=tuple(
                    InstanceRoute(id=copy.record.id, containers=copy.observed.containers)
                    for copy in serving
                    if copy.observed is not None
                ),
                routing=DEFAULT_ROUTING if variant is None else variant.routing,
                config_name=endpoint.config.name,
            ),
        ),
        component=ComponentRoute(
            endpoint=endpoint.name,
            is_adapter=component.is_adapter,
            refuses=refuses,
            cpu_cores=needs.cpu_cores,
            memory_mib=needs.memory_mib,
            accelerators=needs.accelerators,
        ),
    )
