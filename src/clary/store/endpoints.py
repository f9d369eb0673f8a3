"""Endpoints: where the API writes what is wanted, and control what has become true.

Every write of control names the generation that it was computed for; when the wanted state has
moved on meanwhile, the write does nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from clary.clock import Clock
from clary.errors import InvalidRequest
from clary.resources.endpoint import (
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    IllegalTransition,
    VariantState,
    next_status,
)
from clary.resources.log_group import endpoint_group
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.resources.new_fleet import initial_states
from clary.resources.quotas import Quotas
from clary.resources.serverless import ServerlessState
from clary.resources.variant_changes import VariantChange, added_instances, change_variants
from clary.store.async_rows import drop_invocations
from clary.store.changes import Changes
from clary.store.component_rows import refuse_with_components
from clary.store.database import Database
from clary.store.deployments import follow_event
from clary.store.endpoint_rows import (
    check_concurrency,
    endpoint_exists,
    endpoint_of,
    find_row,
    insert_endpoint,
    instances_by_type,
    instances_in_use,
    load_endpoint,
    take_snapshot,
    tell_progress,
    tell_status,
    update_row,
    variant_states,
    write_states,
)
from clary.store.listing import Listing, Page, fetch_page
from clary.store.logs import ensure_group
from clary.store.schema import deployments, endpoint_variants, endpoints
from clary.store.tags import delete_tags, insert_tags

_KIND = ResourceKind.ENDPOINT

_IN_ONE_QUERY = 500
"""Most names in one ``IN``: databases bound the parameters of a statement."""

AllEndpoints = list[Endpoint]
Names = list[str]


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """A line of a list."""

    name: str
    status: EndpointStatus
    created_at: datetime
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class VariantCapacity:
    """How many instances a variant has and wants, and whether its endpoint takes changes."""

    status: EndpointStatus
    failure_reason: str | None
    desired_count: int
    current_count: int
    serverless: ServerlessState | None = None


class Endpoints:
    """All endpoints."""

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
        config_name: str,
        *,
        quotas: Quotas,
        deployment_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Endpoint:
        """Write a new endpoint with snapshots of its configuration and models: Creating.

        Raises:
            AlreadyExists: The name is taken, in this case or another.
            NotFound: The configuration, or a model that it names, is not there.
            LimitExceeded: The account would have more instances than it may.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Endpoint:
            if endpoint_exists(connection, name):
                raise self._namespace.already_exists(_KIND, name)
            config, models = take_snapshot(connection, self._namespace, config_name)
            quotas.check(instances_by_type(config), instances_in_use(connection))
            states = initial_states(config.variants)
            check_concurrency(connection, quotas, states)
            endpoint = Endpoint(
                name=name,
                arn=self._namespace.arn(_KIND, name),
                status=EndpointStatus.CREATING,
                generation=1,
                failure_reason=None,
                config=config,
                models=models,
                variants=states,
                shadow_variants=initial_states(config.shadow_variants),
                deployment_config=deployment_config,
                created_at=now,
                modified_at=now,
            )
            try:
                insert_endpoint(connection, endpoint)
            except IntegrityError:  # another control process was faster
                raise self._namespace.already_exists(_KIND, name) from None
            insert_tags(connection, _KIND, name, tags or {})
            # SDKs ask for it at once, and never return while it is not there.
            ensure_group(connection, endpoint_group(name), now)
            tell_status(connection, name_key(name))
            return endpoint

        return await self._database.write(apply, after_commit=lambda _: self._notify(name))

    async def request_deletion(self, name: str) -> None:
        """Want an endpoint to be gone: Deleting. Control stops its instances and removes it.

        Raises:
            NotFound: There is none.
            InUse: It is being created, updated or deleted.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> None:
            row = find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(_KIND, name)
            try:
                status = next_status(EndpointStatus(row.status), EndpointEvent.DELETE_REQUESTED)
            except IllegalTransition as error:
                raise self._namespace.in_progress(name) from error
            refuse_with_components(connection, self._namespace, name)
            update_row(
                connection, row, status=status, generation=row.generation + 1, modified_at=now
            )

        await self._database.write(apply, after_commit=lambda _: self._notify(name))

    async def change_variants(
        self, name: str, changes: Sequence[VariantChange], *, quotas: Quotas
    ) -> Endpoint:
        """Want other weights and counts of variants: Updating. No new fleet is needed for it.

        Args:
            name: The endpoint.
            changes: At most one for each variant, production or shadow.
            quotas: For the instances that the changes add.

        Returns:
            The endpoint as it is wanted now.

        Raises:
            NotFound: There is none.
            InUse: It is being created, updated or deleted, or has failed.
            InvalidRequest: A variant is unknown, or cannot have this weight or count.
            LimitExceeded: The account would have more instances than it may.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> Endpoint:
            row = find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(_KIND, name)
            if row.status == EndpointStatus.UPDATE_ROLLBACK_FAILED:
                raise InvalidRequest(
                    f'Endpoint "{name}" serves with a mix of two configurations, for the rollback '
                    "of its last update failed. Update it to one of them, or delete it."
                )
            try:
                status = next_status(EndpointStatus(row.status), EndpointEvent.UPDATE_REQUESTED)
            except IllegalTransition as error:
                raise self._namespace.in_progress(name) from error
            endpoint = load_endpoint(connection, self._namespace, row)
            states = change_variants(endpoint, changes)
            quotas.check(added_instances(endpoint, states), instances_in_use(connection))
            check_concurrency(connection, quotas, states, endpoint.all_variants)
            write_states(connection, row, states)
            update_row(
                connection,
                row,
                status=status,
                generation=row.generation + 1,
                failure_reason=None,
                modified_at=now,
            )
            return replace(
                endpoint,
                status=status,
                generation=row.generation + 1,
                failure_reason=None,
                modified_at=now,
                variants=states[: len(endpoint.variants)],
                shadow_variants=states[len(endpoint.variants) :],
            )

        return await self._database.write(apply, after_commit=lambda _: self._notify(name))

    async def list(self, listing: Listing) -> Page[EndpointSummary]:
        """Return one page of a list."""

        def query(connection: Connection) -> Page[EndpointSummary]:
            columns = [
                endpoints.c.name,
                endpoints.c.status,
                endpoints.c.created_at,
                endpoints.c.modified_at,
            ]
            rows, following = fetch_page(connection, endpoints, columns, listing)
            items = (
                EndpointSummary(name, EndpointStatus(status), created_at, modified_at)
                for name, status, created_at, modified_at in rows
            )
            return Page(tuple(items), following)

        return await self._database.read(query)

    async def get(self, name: str) -> Endpoint:
        """Return the endpoint with exactly this name.

        Raises:
            NotFound: There is none.
        """
        endpoint = await self.find(name)
        if endpoint is None:
            raise self._namespace.could_not_find(_KIND, name)
        return endpoint

    # Asked by both.

    async def find(self, name: str) -> Endpoint | None:
        """Return the endpoint with exactly this name, or None."""

        def query(connection: Connection) -> Endpoint | None:
            row = find_row(connection, name)
            if row is None:
                return None
            return load_endpoint(connection, self._namespace, row)

        return await self._database.read(query)

    async def list_all(self) -> AllEndpoints:
        """Return all endpoints, by name. Reads every snapshot; ``list_names`` is the cheap one."""

        def query(connection: Connection) -> AllEndpoints:
            states = variant_states(connection)
            pending = {row.endpoint_key: row for row in connection.execute(sa.select(deployments))}
            rows = connection.execute(sa.select(endpoints).order_by(endpoints.c.name_key))
            return [
                endpoint_of(
                    self._namespace, row, states.get(row.name_key, ()), pending.get(row.name_key)
                )
                for row in rows
            ]

        return await self._database.read(query)

    async def capacities(self, names: Sequence[str]) -> Mapping[tuple[str, str], VariantCapacity]:
        """Return counts by endpoint and variant, without reading any snapshot."""
        columns = (
            endpoints.c.name,
            endpoint_variants.c.name.label("variant_name"),
            endpoints.c.status,
            endpoints.c.failure_reason,
            endpoint_variants.c.desired_count,
            endpoint_variants.c.current_count,
            endpoint_variants.c.serverless,
        )
        join = endpoints.join(
            endpoint_variants, endpoint_variants.c.endpoint_key == endpoints.c.name_key
        )

        def query(connection: Connection) -> Mapping[tuple[str, str], VariantCapacity]:
            found = {}
            for start in range(0, len(names), _IN_ONE_QUERY):
                part = [name_key(name) for name in names[start : start + _IN_ONE_QUERY]]
                rows = connection.execute(
                    sa.select(*columns).select_from(join).where(endpoints.c.name_key.in_(part))
                )
                for name, variant_name, status, reason, desired, current, serverless in rows:
                    found[name, variant_name] = VariantCapacity(
                        EndpointStatus(status),
                        reason,
                        desired,
                        current,
                        ServerlessState.from_json(serverless),
                    )
            return found

        return await self._database.read(query)

    async def list_names(self) -> Names:
        """Return the names of all endpoints, sorted."""

        def query(connection: Connection) -> Names:
            names = sa.select(endpoints.c.name).order_by(endpoints.c.name_key)
            return list(connection.scalars(names))

        return await self._database.read(query)

    async def statuses(self) -> Mapping[EndpointStatus, int]:
        """Return how many endpoints there are of each status."""

        def query(connection: Connection) -> Mapping[EndpointStatus, int]:
            counts = sa.select(endpoints.c.status, sa.func.count()).group_by(endpoints.c.status)
            return {EndpointStatus(status): n for status, n in connection.execute(counts)}

        return await self._database.read(query)

    async def count_instances_by_type(self) -> Mapping[str, int]:
        """Return how many instances all endpoints together ask for, by type."""
        return await self._database.read(instances_in_use)

    # Asked by control.

    async def record_event(
        self,
        name: str,
        generation: int,
        event: EndpointEvent,
        *,
        failure_reason: str | None = None,
    ) -> bool:
        """Apply what has happened to the status, when the generation is still the one named.

        A change that is given up is taken back with it: what was wanted before is wanted again. A
        deployment that is ready becomes the endpoint, in the same transaction.

        Args:
            name: The endpoint.
            generation: The generation that the event was computed for.
            event: What happened.
            failure_reason: Written when given, else the one that is there stays.

        Returns:
            Whether anything was changed. False when there is no such endpoint or generation, and
            when all is as it was.

        Raises:
            IllegalTransition: The event cannot happen to an endpoint of its status.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> bool:
            row = find_row(connection, name)
            if row is None or row.generation != generation:
                return False
            status = next_status(EndpointStatus(row.status), event)
            reason = row.failure_reason if failure_reason is None else failure_reason
            if (status, reason) == (row.status, row.failure_reason):
                return False
            endpoint = load_endpoint(connection, self._namespace, row)
            # First, so that who hears of the status finds the fleet that it speaks of.
            follow_event(connection, endpoint, row, event, now)
            update_row(connection, row, status=status, failure_reason=reason, modified_at=now)
            if event is EndpointEvent.GAVE_UP:
                tell_progress(connection, self._namespace, name)
            return True

        return await self._database.write(
            apply, after_commit=lambda changed: self._notify(name) if changed else None
        )

    async def record_variants(
        self, name: str, generation: int, variants: Sequence[VariantState]
    ) -> bool:
        """Write counts and weights of variants, when the generation is still the one named.

        Variants that are not given keep theirs. The endpoint's ``modified_at`` stays: instances
        come and go without anybody modifying the endpoint.

        Returns:
            Whether anything was changed.
        """

        def apply(connection: Connection) -> bool:
            row = find_row(connection, name)
            if row is None or row.generation != generation:
                return False
            known = {
                state.name: state
                for state in variant_states(connection, row.name_key).get(row.name_key, ())
            }
            changed = [v for v in variants if v.name in known and known[v.name] != v]
            write_states(connection, row, changed)
            return bool(changed)

        return await self._database.write(
            apply, after_commit=lambda changed: self._notify(name) if changed else None
        )

    async def remove(self, name: str) -> bool:
        """Remove an endpoint that is Deleting, with its tags: the last step.

        Records of instances stay, so that none is forgotten while its process lives.

        Returns:
            Whether it was there and Deleting.
        """

        def apply(connection: Connection) -> bool:
            row = find_row(connection, name)
            if row is None or row.status != EndpointStatus.DELETING:
                return False
            connection.execute(endpoints.delete().where(endpoints.c.name_key == row.name_key))
            delete_tags(connection, _KIND, name)
            drop_invocations(connection, name)
            return True

        return await self._database.write(
            apply, after_commit=lambda removed: self._notify(name) if removed else None
        )

    def _notify(self, name: str) -> None:
        self._changes.notify(_KIND, name)
