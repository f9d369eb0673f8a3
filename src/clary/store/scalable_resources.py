"""Whose numbers can be scaled: one class for each scalable dimension.

A later feature with a number of its own writes a class like ``VariantInstances`` and adds it to
``scalable_resources``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clary.errors import InvalidRequest, NotFound
from clary.resources.endpoint import SERVING, Endpoint, EndpointStatus
from clary.resources.endpoint_config import ProductionVariant
from clary.resources.quotas import Quotas
from clary.resources.scaling import VARIANT_CONCURRENCY, VARIANT_INSTANCES, names_in
from clary.resources.variant_changes import VariantChange, may_sleep
from clary.store.endpoints import Endpoints, VariantCapacity

_BURSTABLE = "ml.t2."


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A number that is scaled, as it is now."""

    desired: int
    current: int
    is_active: bool
    """Whether the thing works, so that bounds are enforced on it."""

    is_free: bool
    """Whether it takes a change now, and no change is under way."""

    trouble: str | None = None
    """Why the last change failed."""


class ScalableResource(Protocol):
    """The things of one dimension."""

    async def check(self, resource_id: str, min_capacity: int | None) -> Capacity:
        """Return the capacity of a thing that is to be registered.

        Raises:
            InvalidRequest: It is not there, or cannot be scaled.
        """
        ...

    async def read(self, resource_ids: Sequence[str]) -> Mapping[str, Capacity]:
        """Return capacities by resource id; those that are not there are left out."""
        ...

    async def change(self, resource_id: str, capacity: int) -> None:
        """Want another capacity.

        Raises:
            RequestError: It cannot be. ``InUse``: not now.
        """
        ...


class VariantInstances:
    """Instances of variants.

    Args:
        endpoints: Where the variants are.
        quotas: For instances that are added.
    """

    def __init__(self, endpoints: Endpoints, quotas: Quotas) -> None:
        self._endpoints = endpoints
        self._quotas = quotas

    async def check(self, resource_id: str, min_capacity: int | None) -> Capacity:
        endpoint_name, variant_name = _split(resource_id)
        endpoint = await self._endpoints.find(endpoint_name)
        if endpoint is None:
            raise InvalidRequest(f"SageMaker endpoint not found: {endpoint_name}")
        variant = next((v for v in endpoint.config.variants if v.name == variant_name), None)
        if variant is None:
            raise InvalidRequest(
                f"SageMaker endpoint variant not found: {variant_name} of {endpoint_name}"
            )
        _check_variant(endpoint, variant, min_capacity)
        capacities = await self.read([resource_id])
        if resource_id not in capacities:
            raise InvalidRequest(f"SageMaker endpoint not found: {endpoint_name}")
        return capacities[resource_id]

    async def read(self, resource_ids: Sequence[str]) -> Mapping[str, Capacity]:
        wanted = {_split(resource_id): resource_id for resource_id in resource_ids}
        found = await self._endpoints.capacities(sorted({name for name, _ in wanted}))
        return {
            wanted[key]: _capacity(capacity) for key, capacity in found.items() if key in wanted
        }

    async def change(self, resource_id: str, capacity: int) -> None:
        endpoint_name, variant_name = _split(resource_id)
        change = VariantChange(variant_name=variant_name, count=capacity)
        await self._endpoints.change_variants(endpoint_name, [change], quotas=self._quotas)


class ProvisionedConcurrency:
    """Workers of serverless variants that are kept when nobody calls.

    Args:
        endpoints: Where the variants are.
        quotas: For changes.
    """

    def __init__(self, endpoints: Endpoints, quotas: Quotas) -> None:
        self._endpoints = endpoints
        self._quotas = quotas

    async def check(self, resource_id: str, min_capacity: int | None) -> Capacity:
        endpoint_name, variant_name = _split(resource_id)
        if await self._endpoints.find(endpoint_name) is None:
            raise InvalidRequest(f"SageMaker endpoint not found: {endpoint_name}")
        found = await self._endpoints.capacities([endpoint_name])
        capacity = found.get((endpoint_name, variant_name))
        if capacity is None:
            raise InvalidRequest(
                f"SageMaker endpoint variant not found: {variant_name} of {endpoint_name}"
            )
        if capacity.serverless is None:
            raise InvalidRequest(
                f"Variant {variant_name} is not serverless: it has no "
                "DesiredProvisionedConcurrency to scale."
            )
        if not capacity.serverless.desired.provisioned:
            raise InvalidRequest(
                f"Variant {variant_name} has no provisioned concurrency: set it before it is "
                "registered as a scalable target."
            )
        return _concurrency(capacity)

    async def read(self, resource_ids: Sequence[str]) -> Mapping[str, Capacity]:
        wanted = {_split(resource_id): resource_id for resource_id in resource_ids}
        found = await self._endpoints.capacities(sorted({name for name, _ in wanted}))
        return {
            wanted[key]: _concurrency(capacity)
            for key, capacity in found.items()
            if key in wanted and capacity.serverless is not None
        }

    async def change(self, resource_id: str, capacity: int) -> None:
        endpoint_name, variant_name = _split(resource_id)
        change = VariantChange(variant_name=variant_name, provisioned=capacity)
        await self._endpoints.change_variants(endpoint_name, [change], quotas=self._quotas)


def scalable_resources(endpoints: Endpoints, quotas: Quotas) -> dict[str, ScalableResource]:
    """Return what can be scaled, by ``ScalableDimension``."""
    return {
        VARIANT_INSTANCES: VariantInstances(endpoints, quotas),
        VARIANT_CONCURRENCY: ProvisionedConcurrency(endpoints, quotas),
    }


def _split(resource_id: str) -> tuple[str, str]:
    names = names_in(VARIANT_INSTANCES, resource_id)
    if not names:
        raise NotFound(f"{resource_id} is no variant.")
    return names["EndpointName"], names["VariantName"]


def _check_variant(
    endpoint: Endpoint, variant: ProductionVariant, min_capacity: int | None
) -> None:
    if variant.instance_type is None:
        raise InvalidRequest(
            f"Variant {variant.name} is serverless: it has no DesiredInstanceCount to scale."
        )
    if variant.instance_type.startswith(_BURSTABLE):
        raise InvalidRequest(
            f"Variant {variant.name} cannot be registered as a scalable target: its instance type "
            f"{variant.instance_type} is burstable, which autoscaling does not support."
        )
    if min_capacity == 0 and not may_sleep(endpoint, variant):
        raise InvalidRequest(
            f"Minimum capacity must be 1 or more for variant {variant.name}: only asynchronous "
            "endpoints and variants for inference components can scale to 0."
        )


def _concurrency(found: VariantCapacity) -> Capacity:
    assert found.serverless is not None
    return replace(
        _capacity(found),
        desired=found.serverless.desired.provisioned,
        current=found.serverless.current.provisioned,
    )


def _capacity(found: VariantCapacity) -> Capacity:
    can_change = found.status in (
        EndpointStatus.IN_SERVICE,
        EndpointStatus.UPDATE_ROLLBACK_FAILED,
    )
    return Capacity(
        desired=found.desired_count,
        current=found.current_count,
        is_active=found.status in SERVING,
        is_free=can_change,
        trouble=found.failure_reason,
    )
