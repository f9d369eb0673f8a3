"""What has to be there for an inference component: its base, its variant, its model.

All inside a transaction of somebody else's.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from clary.errors import InvalidRequest
from clary.resources.component_requests import choose_spec, spec_of
from clary.resources.endpoint import EndpointStatus
from clary.resources.endpoint_config import ProductionVariant
from clary.resources.inference_component import ComponentSpec, ComponentStatus
from clary.resources.names import Namespace, ResourceKind
from clary.store.component_rows import find_component
from clary.store.documents import load_endpoint_config
from clary.store.endpoint_rows import find_row
from clary.store.models import MODELS


def component_row(connection: Connection, namespace: Namespace, name: str) -> Row[Any]:
    """Return the row of a component.

    Raises:
        NotFound: There is none of exactly this name.
    """
    row = find_component(connection, name)
    if row is None:
        raise namespace.could_not_find(ResourceKind.INFERENCE_COMPONENT, name)
    return row


def base_row(
    connection: Connection, namespace: Namespace, base_name: str | None, endpoint_name: str
) -> Row[Any] | None:
    """Return the base of an adapter; None: it is no adapter.

    Raises:
        NotFound: There is none of this name.
        InvalidRequest: It cannot be a base.
    """
    if base_name is None:
        return None
    row = component_row(connection, namespace, base_name)
    if row.endpoint_name != endpoint_name or row.base_name is not None:
        raise InvalidRequest(
            f'Inference component "{base_name}" cannot be a base on endpoint '
            f'"{endpoint_name}": a base is on the same endpoint, and no adapter itself.'
        )
    if row.status in (ComponentStatus.DELETING, ComponentStatus.FAILED):
        raise InvalidRequest(
            f'Inference component "{base_name}" cannot be a base: it is {row.status}.'
        )
    return row


def variant_for_components(
    connection: Connection, namespace: Namespace, endpoint_name: str, variant_name: str | None
) -> ProductionVariant:
    """Return the variant that a component is for; None names the only one.

    Raises:
        NotFound: There is no such endpoint.
        InvalidRequest: It has no such variant, or takes no components.
    """
    row = find_row(connection, endpoint_name)
    if row is None:
        raise namespace.could_not_find(ResourceKind.ENDPOINT, endpoint_name)
    if row.status in (EndpointStatus.DELETING, EndpointStatus.FAILED):
        raise InvalidRequest(
            f'Endpoint "{namespace.arn(ResourceKind.ENDPOINT, endpoint_name)}" is '
            f"{row.status}: no inference component can be created on it."
        )
    variants = load_endpoint_config(row.config).variants
    if variant_name is None:
        if len(variants) > 1:
            raise InvalidRequest("VariantName is needed: the endpoint has several variants.")
        variant_name = variants[0].name
    for variant in variants:
        if variant.name == variant_name:
            if variant.model_name is not None or variant.is_serverless:
                raise InvalidRequest(
                    f'Variant "{variant_name}" of endpoint "{endpoint_name}" has a model of '
                    "its own: inference components need a variant without a ModelName."
                )
            return variant
    raise InvalidRequest(f'Could not find variant "{variant_name}" of endpoint "{endpoint_name}".')


def snapshot_spec(
    connection: Connection,
    namespace: Namespace,
    name: str,
    definition: Mapping[str, Any],
    variant: ProductionVariant,
    now: datetime,
) -> ComponentSpec:
    """Return what copies run, with a snapshot of the model.

    Raises:
        NotFound: The model is not there.
        InvalidRequest: It cannot be used, or there is no specification for the instance type.
    """
    chosen = choose_spec(definition, variant.instance_type)
    model = None
    if "ModelName" in chosen:
        model = MODELS.find(connection, chosen["ModelName"])
        if model is None:
            raise namespace.could_not_find(ResourceKind.MODEL, chosen["ModelName"])
    return spec_of(chosen, name, model, now)
