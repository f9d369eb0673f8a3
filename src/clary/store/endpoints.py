"""Endpoints: where the API writes what is wanted, and control what has become true.

Every write of control names the generation that it was computed for; when the wanted state has
moved on meanwhile, the write does nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from clary.clock import Clock
from clary.resources.endpoint import (
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    IllegalTransition,
    VariantState,
    next_status,
)
from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.log_group import endpoint_group
from clary.resources.model import Model
from clary.resources.names import Namespace, ResourceKind, name_key
from clary.resources.quotas import Quotas
from clary.resources.variant_changes import (
    VariantChange,
    added_instances,
    change_variants,
    restored,
)
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.documents import (
    dump_endpoint_config,
    dump_model,
    load_endpoint_config,
    load_model,
)
from clary.store.endpoint_configs import ENDPOINT_CONFIGS
from clary.store.events import append_endpoint_event
from clary.store.listing import Listing, Page, fetch_page
from clary.store.logs import ensure_group
from clary.store.models import MODELS
from clary.store.schema import endpoint_variants, endpoints
from clary.store.tags import delete_tags, insert_tags

_KIND = ResourceKind.ENDPOINT

AllEndpoints = list[Endpoint]
Names = list[str]


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """A line of a list."""

    name: str
    status: EndpointStatus
    created_at: datetime
    modified_at: datetime


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
            if _exists(connection, name):
                raise self._namespace.already_exists(_KIND, name)
            config, models = self._snapshot(connection, config_name)
            quotas.check(_instances_by_type(config), _instances_in_use(connection))
            endpoint = Endpoint(
                name=name,
                arn=self._namespace.arn(_KIND, name),
                status=EndpointStatus.CREATING,
                generation=1,
                failure_reason=None,
                config=config,
                models=models,
                variants=_initial_states(config.variants),
                shadow_variants=_initial_states(config.shadow_variants),
                deployment_config=deployment_config,
                created_at=now,
                modified_at=now,
            )
            try:
                _insert(connection, endpoint)
            except IntegrityError:  # another control process was faster
                raise self._namespace.already_exists(_KIND, name) from None
            insert_tags(connection, _KIND, name, tags or {})
            # SDKs ask for it at once, and never return while it is not there.
            ensure_group(connection, endpoint_group(name), now)
            _tell(connection, name_key(name))
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
            row = _find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(_KIND, name)
            try:
                status = next_status(EndpointStatus(row.status), EndpointEvent.DELETE_REQUESTED)
            except IllegalTransition as error:
                raise self._namespace.in_progress(name) from error
            _update(connection, row, status=status, generation=row.generation + 1, modified_at=now)

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
            row = _find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(_KIND, name)
            try:
                status = next_status(EndpointStatus(row.status), EndpointEvent.UPDATE_REQUESTED)
            except IllegalTransition as error:
                raise self._namespace.in_progress(name) from error
            endpoint = self._load(row, _variant_states(connection, row.name_key)[row.name_key])
            states = change_variants(endpoint, changes)
            quotas.check(added_instances(endpoint, states), _instances_in_use(connection))
            _write_states(connection, row, states)
            _update(
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
            row = _find_row(connection, name)
            if row is None:
                return None
            states = _variant_states(connection, row.name_key)
            return self._load(row, states.get(row.name_key, ()))

        return await self._database.read(query)

    async def list_all(self) -> AllEndpoints:
        """Return all endpoints, by name. Reads every snapshot; ``list_names`` is the cheap one."""

        def query(connection: Connection) -> AllEndpoints:
            states = _variant_states(connection)
            rows = connection.execute(sa.select(endpoints).order_by(endpoints.c.name_key))
            return [self._load(row, states.get(row.name_key, ())) for row in rows]

        return await self._database.read(query)

    async def list_names(self) -> Names:
        """Return the names of all endpoints, sorted."""

        def query(connection: Connection) -> Names:
            names = sa.select(endpoints.c.name).order_by(endpoints.c.name_key)
            return list(connection.scalars(names))

        return await self._database.read(query)

    async def count_instances_by_type(self) -> Mapping[str, int]:
        """Return how many instances all endpoints together ask for, by type."""
        return await self._database.read(_instances_in_use)

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

        A change that is given up is taken back with it: what was wanted before is wanted again.

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
            row = _find_row(connection, name)
            if row is None or row.generation != generation:
                return False
            status = next_status(EndpointStatus(row.status), event)
            reason = row.failure_reason if failure_reason is None else failure_reason
            if (status, reason) == (row.status, row.failure_reason):
                return False
            _update(connection, row, status=status, failure_reason=reason, modified_at=now)
            if status is EndpointStatus.ROLLING_BACK:
                states = _variant_states(connection, row.name_key).get(row.name_key, ())
                _write_states(connection, row, [restored(state) for state in states])
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
            row = _find_row(connection, name)
            if row is None or row.generation != generation:
                return False
            known = {
                state.name: state
                for state in _variant_states(connection, row.name_key).get(row.name_key, ())
            }
            changed = [v for v in variants if v.name in known and known[v.name] != v]
            _write_states(connection, row, changed)
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
            row = _find_row(connection, name)
            if row is None or row.status != EndpointStatus.DELETING:
                return False
            connection.execute(endpoints.delete().where(endpoints.c.name_key == row.name_key))
            delete_tags(connection, _KIND, name)
            return True

        return await self._database.write(
            apply, after_commit=lambda removed: self._notify(name) if removed else None
        )

    def _snapshot(
        self, connection: Connection, config_name: str
    ) -> tuple[EndpointConfig, dict[str, Model]]:
        config = ENDPOINT_CONFIGS.find(connection, config_name)
        if config is None:
            raise self._namespace.could_not_find(ResourceKind.ENDPOINT_CONFIG, config_name)
        models = {}
        for model_name in config.model_names:
            model = MODELS.find(connection, model_name)
            if model is None:
                raise self._namespace.could_not_find(ResourceKind.MODEL, model_name)
            models[model_name] = model
        return config, models

    def _load(self, row: Row[Any], states: Sequence[VariantState]) -> Endpoint:
        config = load_endpoint_config(row.config)
        return Endpoint(
            name=row.name,
            arn=self._namespace.arn(_KIND, row.name),
            status=EndpointStatus(row.status),
            generation=row.generation,
            failure_reason=row.failure_reason,
            config=config,
            models={name: load_model(document) for name, document in row.models.items()},
            variants=tuple(states[: len(config.variants)]),
            shadow_variants=tuple(states[len(config.variants) :]),
            deployment_config=row.deployment_config,
            created_at=row.created_at,
            modified_at=row.modified_at,
        )

    def _notify(self, name: str) -> None:
        self._changes.notify(_KIND, name)


def _exists(connection: Connection, name: str) -> bool:
    key = sa.select(endpoints.c.name_key).where(endpoints.c.name_key == name_key(name))
    return connection.scalar(key) is not None


def _find_row(connection: Connection, name: str) -> Row[Any] | None:
    query = sa.select(endpoints).where(
        endpoints.c.name_key == name_key(name), endpoints.c.name == name
    )
    return connection.execute(query).one_or_none()


def _update(connection: Connection, row: Row[Any], **values: Any) -> None:
    connection.execute(
        endpoints.update().where(endpoints.c.name_key == row.name_key).values(**values)
    )
    if values.get("status", row.status) != row.status:
        _tell(connection, row.name_key)


def _tell(connection: Connection, key: str) -> None:
    """Write down for others that an endpoint has come to another status."""
    row = connection.execute(sa.select(endpoints).where(endpoints.c.name_key == key)).one()
    append_endpoint_event(connection, row)


def _insert(connection: Connection, endpoint: Endpoint) -> None:
    key = name_key(endpoint.name)
    connection.execute(
        endpoints.insert().values(
            name_key=key,
            name=endpoint.name,
            status=endpoint.status,
            generation=endpoint.generation,
            failure_reason=endpoint.failure_reason,
            created_at=endpoint.created_at,
            modified_at=endpoint.modified_at,
            config=dump_endpoint_config(endpoint.config),
            models={name: dump_model(model) for name, model in endpoint.models.items()},
            deployment_config=endpoint.deployment_config,
        )
    )
    connection.execute(
        endpoint_variants.insert(),
        [
            {
                "endpoint_key": key,
                "name": state.name,
                "position": position,
                "instance_type": variant.instance_type,
                **_counts(state),
            }
            for position, (variant, state) in enumerate(
                zip(endpoint.config.all_variants, endpoint.all_variants, strict=True)
            )
        ],
    )


def _write_states(connection: Connection, row: Row[Any], states: Sequence[VariantState]) -> None:
    for state in states:
        connection.execute(
            endpoint_variants.update()
            .where(
                endpoint_variants.c.endpoint_key == row.name_key,
                endpoint_variants.c.name == state.name,
            )
            .values(**_counts(state))
        )


def _initial_states(variants: Sequence[ProductionVariant]) -> tuple[VariantState, ...]:
    return tuple(
        VariantState(
            name=variant.name,
            desired_count=variant.initial_instance_count,
            current_count=0,
            desired_weight=variant.initial_weight,
            current_weight=variant.initial_weight,
        )
        for variant in variants
    )


def _counts(state: VariantState) -> dict[str, float | None]:
    return {
        "desired_count": state.desired_count,
        "current_count": state.current_count,
        "desired_weight": state.desired_weight,
        "current_weight": state.current_weight,
        "previous_count": state.previous_count,
        "previous_weight": state.previous_weight,
    }


def _variant_states(
    connection: Connection, endpoint_key: str | None = None
) -> dict[str, list[VariantState]]:
    """Return the variants of one endpoint, or of all, by the endpoint's key."""
    table = endpoint_variants
    query = sa.select(table).order_by(table.c.endpoint_key, table.c.position)
    if endpoint_key is not None:
        query = query.where(table.c.endpoint_key == endpoint_key)
    states: dict[str, list[VariantState]] = {}
    for row in connection.execute(query):
        state = VariantState(
            name=row.name,
            desired_count=row.desired_count,
            current_count=row.current_count,
            desired_weight=row.desired_weight,
            current_weight=row.current_weight,
            previous_count=row.previous_count,
            previous_weight=row.previous_weight,
        )
        states.setdefault(row.endpoint_key, []).append(state)
    return states


def _instances_by_type(config: EndpointConfig) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for variant in config.all_variants:
        if variant.instance_type is not None:
            counts[variant.instance_type] += variant.initial_instance_count
    return counts


def _instances_in_use(connection: Connection) -> Mapping[str, int]:
    """Count what endpoints ask for. A failed endpoint has none; one being deleted still does."""
    table = endpoint_variants
    rows = connection.execute(
        sa.select(table.c.instance_type, sa.func.sum(table.c.desired_count))
        .join(endpoints, endpoints.c.name_key == table.c.endpoint_key)
        .where(table.c.instance_type.is_not(None), endpoints.c.status != EndpointStatus.FAILED)
        .group_by(table.c.instance_type)
    )
    return {instance_type: int(count) for instance_type, count in rows}
