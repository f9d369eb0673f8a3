"""Copies of inference components, for Application Auto Scaling."""

from collections.abc import Mapping, Sequence

from clary.errors import InvalidRequest, NotFound
from clary.resources.inference_component import ComponentStatus, InferenceComponent
from clary.resources.scaling import COMPONENT_COPIES, names_in
from clary.store.inference_components import InferenceComponents
from clary.store.scalable_resources import Capacity


class ComponentCopies:
    """Copies of inference components, from 0 on.

    Args:
        components: Where they are.
    """

    def __init__(self, components: InferenceComponents) -> None:
        self._components = components

    async def check(self, resource_id: str, min_capacity: int | None) -> Capacity:
        name = _name(resource_id)
        component = await self._components.find(name)
        if component is None:
            raise InvalidRequest(f"SageMaker inference component not found: {name}")
        if component.is_adapter:
            raise InvalidRequest(
                f"Inference component {name} is an adapter: it has as many copies as its base "
                f"inference component, {component.base_name}, which can be scaled."
            )
        return _capacity(component)

    async def read(self, resource_ids: Sequence[str]) -> Mapping[str, Capacity]:
        wanted = {_name(resource_id): resource_id for resource_id in resource_ids}
        found = await self._components.find_several(sorted(wanted))
        return {wanted[name]: _capacity(component) for name, component in found.items()}

    async def change(self, resource_id: str, capacity: int) -> None:
        await self._components.change(_name(resource_id), copies=capacity)


def _name(resource_id: str) -> str:
    names = names_in(COMPONENT_COPIES, resource_id)
    if not names:
        raise NotFound(f"{resource_id} is no inference component.")
    return names["InferenceComponentName"]


def _capacity(component: InferenceComponent) -> Capacity:
    return Capacity(
        desired=component.desired_copies,
        current=component.current_copies,
        is_active=component.status in (ComponentStatus.IN_SERVICE, ComponentStatus.UPDATING),
        is_free=component.status is ComponentStatus.IN_SERVICE,
        trouble=component.failure_reason,
    )
