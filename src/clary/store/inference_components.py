"""Inference components: where the API writes what is wanted, and control what has become true.

Every write of control names the generation that it was computed for, as those of endpoints do.
Besides the component, the endpoint's components as a whole are notified of: they are placed
together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from clary.clock import Clock
from clary.errors import InvalidRequest
from clary.resources.component_requests import (
    base_of,
    check_deployment,
)
from clary.resources.inference_component import (
    ComponentStatus,
    ComponentUpdate,
    InferenceComponent,
)
from clary.resources.log_group import component_group
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.store.changes import Changes
from clary.store.component_checks import (
    base_row,
    component_row,
    snapshot_spec,
    variant_for_components,
)
from clary.store.component_rows import (
    adapters_of,
    dump_spec,
    dump_update,
    find_component,
    load_component,
    load_spec,
    update_component,
)
from clary.store.database import Database
from clary.store.listing import Listing, Page, fetch_page
from clary.store.logs import ensure_group
from clary.store.schema import inference_components
from clary.store.tags import delete_tags, insert_tags

_KIND = ResourceKind.INFERENCE_COMPONENT
HOSTS = "inference-components"
"""Kind of the notices of all components of an endpoint, by the endpoint's name."""

_CHANGEABLE = (ComponentStatus.IN_SERVICE, ComponentStatus.FAILED)

Components = list[InferenceComponent]


@dataclass(frozen=True, slots=True)
class ComponentSummary:
    """A line of a list."""

    name: str
    endpoint_name: str
    variant_name: str
    status: ComponentStatus
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentState:
    """What control has found to be true of a component."""

    status: ComponentStatus
    failure_reason: str | None
    current_copies: int
    update: ComponentUpdate | None
    is_rolled_back: bool = False
    """The update is given up: what ran before is wanted again."""


class InferenceComponents:
    """All inference components."""

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._clock = clock

    # Asked by the API.

    async def create(
        self,
        name: str,
        endpoint_name: str,
        variant_name: str | None,
        definition: Mapping[str, Any],
        *,
        copies: int,
        tags: Mapping[str, str],
    ) -> str:
        """Write a new component with a snapshot of its model: Creating. Returns its ARN.

        Args:
            name: Of the component.
            endpoint_name: Where it is deployed.
            variant_name: The same; None: the endpoint's only variant, or that of the base.
            definition: A checked ``Specification`` or ``Specifications``.
            copies: How many are wanted; of no meaning to an adapter.
            tags: Its tags.

        Raises:
            AlreadyExists: The name is taken.
            NotFound: The endpoint, the model or the base component is not there.
            InvalidRequest: The endpoint has no such variant, or it is not for components.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> str:
            base = base_row(connection, self._namespace, base_of(definition), endpoint_name)
            wanted = base.variant_name if base is not None else variant_name
            if variant_name not in (None, wanted):
                raise InvalidRequest(
                    f'VariantName must be that of the base inference component, "{wanted}".'
                )
            variant = variant_for_components(connection, self._namespace, endpoint_name, wanted)
            spec = snapshot_spec(connection, self._namespace, name, definition, variant, now)
            try:
                connection.execute(
                    inference_components.insert().values(
                        name_key=name_key(name),
                        name=name,
                        endpoint_name=endpoint_name,
                        variant_name=variant.name,
                        base_name=base_of(definition),
                        status=ComponentStatus.CREATING,
                        desired_copies=copies if base is None else 0,
                        current_copies=0,
                        generation=1,
                        revision=1,
                        created_at=now,
                        modified_at=now,
                        definition=dict(definition),
                        spec=dump_spec(spec),
                    )
                )
            except IntegrityError:
                raise self._namespace.already_exists(_KIND, name) from None
            insert_tags(connection, _KIND, name, tags)
            if base is None:
                ensure_group(connection, component_group(name), now)
            return self._namespace.arn(_KIND, name)

        return await self._database.write(
            apply, after_commit=lambda _: self._notify(name, endpoint_name)
        )

    async def change(
        self,
        name: str,
        *,
        definition: Mapping[str, Any] | None = None,
        copies: int | None = None,
        deployment_config: Mapping[str, Any] | None = None,
    ) -> str:
        """Want another specification, or another number of copies: Updating. Returns its ARN.

        Args:
            name: Of the component.
            definition: A checked ``Specification`` or ``Specifications``. None leaves it.
            copies: How many are wanted. None leaves it.
            deployment_config: How the copies are replaced. None: all at once.

        Raises:
            NotFound: There is none, or its new model is not there.
            InUse: It is being created, updated or deleted.
            InvalidRequest: The new specification cannot be used.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Row[Any]:
            row = component_row(connection, self._namespace, name)
            if row.status not in _CHANGEABLE:
                raise self._namespace.in_progress(name, _KIND)
            values: dict[str, Any] = {}
            if row.base_name is not None and copies is not None:
                raise InvalidRequest(
                    f'Inference component "{name}" is an adapter: it has as many copies as its '
                    f'base inference component, "{row.base_name}".'
                )
            if copies is not None:
                values["desired_copies"] = copies
            if definition is not None:
                check_deployment(deployment_config, row.desired_copies)
                values |= self._new_spec(connection, row, definition, now)
                values["deployment_config"] = deployment_config
            status = ComponentStatus.UPDATING
            if row.status == ComponentStatus.FAILED and row.current_copies == 0:
                status = ComponentStatus.CREATING
                values["update"] = None
            update_component(
                connection,
                name,
                **values,
                status=status,
                failure_reason=None,
                generation=row.generation + 1,
                modified_at=now,
            )
            return row

        row = await self._database.write(
            apply, after_commit=lambda row: self._notify(name, row.endpoint_name)
        )
        return self._namespace.arn(_KIND, row.name)

    async def request_deletion(self, name: str) -> None:
        """Want a component to be gone: Deleting. Control stops its copies and removes it.

        Raises:
            NotFound: There is none.
            InvalidRequest: It is the base of adapters.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Row[Any]:
            row = component_row(connection, self._namespace, name)
            adapters = adapters_of(connection, name)
            if adapters:
                raise InvalidRequest(
                    f'Cannot delete inference component "{self._namespace.arn(_KIND, name)}": it '
                    f"is the base of adapters. Delete them first: {', '.join(adapters)}."
                )
            if row.status != ComponentStatus.DELETING:
                update_component(
                    connection,
                    name,
                    status=ComponentStatus.DELETING,
                    generation=row.generation + 1,
                    modified_at=now,
                )
            return row

        await self._database.write(
            apply, after_commit=lambda row: self._notify(name, row.endpoint_name)
        )

    async def get(self, name: str) -> InferenceComponent:
        """Return the component with exactly this name.

        Raises:
            NotFound: There is none.
        """
        component = await self.find(name)
        if component is None:
            raise self._namespace.could_not_find(_KIND, name)
        return component

    async def list(self, listing: Listing) -> Page[ComponentSummary]:
        """Return one page of a list."""
        names = ("name", "endpoint_name", "variant_name", "status", "created_at", "modified_at")
        columns = [inference_components.c[name] for name in names]

        def query(connection: Connection) -> Page[ComponentSummary]:
            rows, following = fetch_page(connection, inference_components, columns, listing)
            items = (
                ComponentSummary(name, endpoint, variant, ComponentStatus(status), *times)
                for name, endpoint, variant, status, *times in rows
            )
            return Page(tuple(items), following)

        return await self._database.read(query)

    # Asked by both.

    async def find(self, name: str) -> InferenceComponent | None:
        """Return the component with exactly this name, or None."""

        def query(connection: Connection) -> InferenceComponent | None:
            row = find_component(connection, name)
            return None if row is None else load_component(self._namespace, row)

        return await self._database.read(query)

    async def find_several(self, names: Sequence[str]) -> Mapping[str, InferenceComponent]:
        """Return components by name; those that are not there are left out."""
        found = [await self.find(name) for name in names]
        return {each.name: each for each in found if each is not None}

    # Asked by control.

    async def of_endpoint(self, endpoint_name: str) -> Components:
        """Return all components of an endpoint, oldest first."""
        table = inference_components
        statement = sa.select(table).where(table.c.endpoint_name == endpoint_name)
        statement = statement.order_by(table.c.created_at, table.c.name_key)

        def query(connection: Connection) -> Components:
            return [load_component(self._namespace, row) for row in connection.execute(statement)]

        return await self._database.read(query)

    async def endpoint_names(self) -> set[str]:
        """Return the endpoints that have components."""
        statement = sa.select(inference_components.c.endpoint_name).distinct()
        return await self._database.read(lambda connection: set(connection.scalars(statement)))

    async def record(self, name: str, generation: int, state: ComponentState) -> bool:
        """Write what has become true, when the generation is still the one named.

        Returns:
            Whether anything was changed.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Row[Any] | None:
            row = find_component(connection, name)
            if row is None or row.generation != generation:
                return None
            values: dict[str, Any] = {
                "status": state.status,
                "failure_reason": state.failure_reason,
                "current_copies": state.current_copies,
                "update": dump_update(state.update),
            }
            if state.is_rolled_back and row.update is not None:
                # A revision of its own, so that no copy of the one that failed is taken for it.
                old = row.update
                values |= {
                    "spec": old["old"],
                    "revision": old["old_revision"],
                    "definition": {"Specification": load_spec(old["old"]).definition},
                }
            if all(getattr(row, column) == value for column, value in values.items()):
                return None
            if state.status != row.status:
                values["modified_at"] = now
            update_component(connection, name, **values)
            return row

        changed = await self._database.write(
            apply,
            after_commit=lambda row: None if row is None else self._notify(name, row.endpoint_name),
        )
        return changed is not None

    async def remove(self, name: str) -> None:
        """Remove a component that is Deleting, with its tags: the last step."""

        def apply(connection: Connection) -> Row[Any] | None:
            row = find_component(connection, name)
            if row is None or row.status != ComponentStatus.DELETING:
                return None
            table = inference_components
            connection.execute(table.delete().where(table.c.name_key == row.name_key))
            delete_tags(connection, _KIND, name)
            return row

        await self._database.write(
            apply,
            after_commit=lambda row: None if row is None else self._notify(name, row.endpoint_name),
        )

    # Inside transactions.

    def _new_spec(
        self, connection: Connection, row: Row[Any], definition: Mapping[str, Any], now: datetime
    ) -> dict[str, Any]:
        if base_of(definition) != row.base_name:
            raise InvalidRequest(
                "BaseInferenceComponentName cannot be changed by an update: delete the inference "
                "component, and create it anew."
            )
        variant = variant_for_components(
            connection, self._namespace, row.endpoint_name, row.variant_name
        )
        spec = snapshot_spec(connection, self._namespace, row.name, definition, variant, now)
        update = ComponentUpdate(old=load_spec(row.spec), old_revision=row.revision, started_at=now)
        return {
            "definition": dict(definition),
            "spec": dump_spec(spec),
            "revision": row.generation + 1,
            "update": dump_update(update),
        }

    def _notify(self, name: str, endpoint_name: str) -> None:
        self._changes.notify(_KIND, name)
        self._changes.notify(HOSTS, endpoint_name)
