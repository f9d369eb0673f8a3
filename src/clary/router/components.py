"""Routes of inference components: which one an invocation takes, and what refuses it.

A component has a route of its own, under a name that no endpoint has. Whoever submits an invocation
finds it here by the names of endpoint and component; from there on it is an endpoint like any
other. The sentences are AWS's (runtime-errors.md 2).
"""

from collections.abc import Callable

from clary.errors import InvalidRequest
from clary.resources.inference_component import component_of_route, component_route
from clary.router.table import Endpoint

NAME_REQUIRED = (
    "Inference Component Name header is required for endpoints to which you plan to deploy "
    "inference components. Please include Inference Component Name header or consider using "
    "SageMaker models."
)
NAME_NOT_ALLOWED = (
    "Inference Component Name header is not allowed for endpoints to which you dont plan to "
    "deploy inference components. Please remove the Inference Component Name header and try "
    "again."
)
NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)


def find_route(
    find: Callable[[str], Endpoint | None], endpoint_name: str, component: str
) -> tuple[str, bool]:
    """Return the name of the route that an invocation takes, and whether it leads to an adapter.

    Args:
        find: Returns an entry of the routing table.
        endpoint_name: That the invocation names.
        component: That it names.

    Raises:
        InvalidRequest: The endpoint has no components, or not this one.
    """
    name = component_route(component)
    found = find(name)
    if found is not None and found.route.component is not None:
        place = found.route.component
        if place.endpoint == endpoint_name:
            return name, place.is_adapter
    endpoint = find(endpoint_name)
    if endpoint is None:
        return endpoint_name, False  # refused, or parked while there is no table yet
    if not endpoint.route.hosts_components:
        raise InvalidRequest(NAME_NOT_ALLOWED)
    raise InvalidRequest(f"Inference Component {component} not found for endpoint {endpoint_name}.")


def refuse(endpoint: Endpoint) -> None:
    """Refuse an invocation that no component was named for, or that finds none of its copies.

    Raises:
        InvalidRequest: It is such a one.
    """
    if endpoint.route.hosts_components:
        raise InvalidRequest(NAME_REQUIRED)
    component = endpoint.route.component
    if component is not None and component.refuses and not endpoint.has_instances:
        for variant in endpoint.variants:
            variant.counters.no_capacity += 1
        raise InvalidRequest(NO_CAPACITY)


def shown(route_name: str) -> str:
    """Return how messages name what a route leads to."""
    component = component_of_route(route_name)
    return f"Endpoint {route_name}" if component is None else f"Inference Component {component}"
