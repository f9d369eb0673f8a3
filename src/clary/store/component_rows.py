"""Inference components as rows: read and written inside a transaction of somebody else's."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from clary.errors import InvalidRequest
from clary.resources.inference_component import (
    ComponentSpec,
    ComponentStatus,
    ComponentUpdate,
    InferenceComponent,
)
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.store.documents import dump_model, load_model
from clary.store.schema import inference_components

Document = dict[str, Any]


def find_component(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of the component with exactly this name."""
    table = inference_components
    query = sa.select(table).where(table.c.name_key == name_key(name), table.c.name == name)
    return connection.execute(query).one_or_none()


def update_component(connection: Connection, name: str, **values: Any) -> None:
    """Write columns of a component."""
    table = inference_components
    connection.execute(table.update().where(table.c.name_key == name_key(name)).values(**values))


def adapters_of(connection: Connection, name: str) -> Sequence[str]:
    """Return the names of the adapters that a component is the base of."""
    table = inference_components
    query = sa.select(table.c.name).where(table.c.base_name == name).order_by(table.c.name_key)
    return list(connection.scalars(query))


def refuse_with_components(connection: Connection, namespace: Namespace, endpoint: str) -> None:
    """Refuse to delete an endpoint that has components (endpoints.md 4).

    Raises:
        InvalidRequest: It has some.
    """
    table = inference_components
    query = sa.select(table.c.name).where(table.c.endpoint_name == endpoint)
    names = list(connection.scalars(query.order_by(table.c.name_key)))
    if names:
        arn = namespace.arn(ResourceKind.ENDPOINT, endpoint)
        raise InvalidRequest(
            f'Cannot delete endpoint "{arn}" while inference components are deployed to it. Delete '
            f"them first: {', '.join(names)}."
        )


def dump_spec(spec: ComponentSpec) -> Document:
    """Return a specification with its model as JSON types."""
    model = None if spec.model is None else dump_model(spec.model)
    return {"definition": dict(spec.definition), "model": model}


def load_spec(document: Document) -> ComponentSpec:
    """Return what ``dump_spec`` wrote."""
    model = document["model"]
    return ComponentSpec(
        definition=document["definition"], model=None if model is None else load_model(model)
    )


def dump_update(update: ComponentUpdate | None) -> Document | None:
    """Return a rolling update as JSON types."""
    if update is None:
        return None
    baking = update.baking_since
    return {
        "old": dump_spec(update.old),
        "old_revision": update.old_revision,
        "started_at": update.started_at.isoformat(),
        "batch": update.batch,
        "baking_since": None if baking is None else baking.isoformat(),
    }


def _load_update(document: Document | None) -> ComponentUpdate | None:
    if document is None:
        return None
    baking = document["baking_since"]
    return ComponentUpdate(
        old=load_spec(document["old"]),
        old_revision=document["old_revision"],
        started_at=datetime.fromisoformat(document["started_at"]),
        batch=document["batch"],
        baking_since=None if baking is None else datetime.fromisoformat(baking),
    )


def load_component(namespace: Namespace, row: Row[Any]) -> InferenceComponent:
    """Return the component of a row."""
    return InferenceComponent(
        name=row.name,
        arn=namespace.arn(ResourceKind.INFERENCE_COMPONENT, row.name),
        endpoint_name=row.endpoint_name,
        variant_name=row.variant_name,
        base_name=row.base_name,
        status=ComponentStatus(row.status),
        failure_reason=row.failure_reason,
        desired_copies=row.desired_copies,
        current_copies=row.current_copies,
        generation=row.generation,
        revision=row.revision,
        spec=load_spec(row.spec),
        update=_load_update(row.update),
        deployment_config=row.deployment_config,
        definition=row.definition,
        created_at=row.created_at,
        modified_at=row.modified_at,
    )
