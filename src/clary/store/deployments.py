"""Deployments: an update is asked for, comes further, and ends.

An endpoint's row describes the fleet that it had before; the new one is in ``deployments`` until
the update has ended. Then one transaction makes the new fleet the endpoint's, or forgets it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from clary.clock import Clock
from clary.resources.deployment_policy import check_policy, parse_policy
from clary.resources.endpoint import (
    Deployment,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    IllegalTransition,
    Progress,
    VariantState,
    next_status,
)
from clary.resources.names import Namespace, ResourceKind
from clary.resources.new_fleet import (
    VariantProperty,
    check_deployment,
    check_kinds,
    most_added,
    new_states,
    retained_config,
)
from clary.resources.quotas import Quotas
from clary.resources.variant_changes import restored
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.documents import dump_endpoint_config
from clary.store.endpoint_rows import (
    check_concurrency,
    delete_deployment,
    dump_models,
    dump_states,
    find_row,
    insert_deployment,
    insert_states,
    instances_in_use,
    load_endpoint,
    progress_columns,
    take_snapshot,
    tell_progress,
    update_row,
    write_states,
)
from clary.store.schema import deployments


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What UpdateEndpoint asks for."""

    endpoint_name: str
    config_name: str
    deployment_config: Mapping[str, Any] | None = None
    retains_deployment_config: bool = False
    """Whether the deployment configuration of the last time is used."""

    retained: Collection[VariantProperty] = ()


class Deployments:
    """The updates of all endpoints."""

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._clock = clock

    async def begin(self, update: Update, *, quotas: Quotas) -> Endpoint:
        """Want a new fleet, with snapshots of its configuration and models: Updating.

        Args:
            update: What is asked for.
            quotas: For both fleets together.

        Returns:
            The endpoint with its deployment.

        Raises:
            NotFound: The endpoint, the configuration, or a model that it names, is not there.
            InUse: The endpoint is being created, updated or deleted, or has failed.
            InvalidRequest: The fleet and the deployment configuration do not fit.
            LimitExceeded: The account would have more instances than it may.
        """
        name, now = update.endpoint_name, self._clock.now()

        def apply(connection: Connection) -> Endpoint:
            row = find_row(connection, name)
            if row is None:
                raise self._namespace.could_not_find(ResourceKind.ENDPOINT, name)
            try:
                status = next_status(EndpointStatus(row.status), EndpointEvent.UPDATE_REQUESTED)
            except IllegalTransition as error:
                raise self._namespace.in_progress(name) from error
            endpoint = load_endpoint(connection, self._namespace, row)
            config, models = take_snapshot(connection, self._namespace, update.config_name)
            check_kinds(endpoint, config)
            wanted = update.deployment_config
            if update.retains_deployment_config:
                wanted = endpoint.deployment_config
            states = new_states(endpoint, config, update.retained)
            check_deployment(config, wanted)
            policy = parse_policy(wanted)
            check_policy(policy, {s.name: s.desired_count for s in states})
            # What an update before this one left behind is replaced, and counted no more.
            delete_deployment(connection, row.name_key)
            added = most_added(endpoint, config, states, policy)
            quotas.check(added, instances_in_use(connection))
            check_concurrency(connection, quotas, states, endpoint.all_variants)
            left = endpoint.deployment
            deployment = Deployment(
                fleet=row.generation + 1,
                config=retained_config(endpoint, config, update.retained),
                models=models,
                variants=states,
                deployment_config=wanted,
                started_at=now,
                progress_at=now,
                guest_fleet=None if left is None else left.fleet,
            )
            insert_deployment(connection, row.name_key, deployment, added)
            changed: dict[str, Any] = {
                "status": status,
                "generation": row.generation + 1,
                "failure_reason": None,
                "deployment_config": wanted,
                "modified_at": now,
            }
            update_row(connection, row, **changed)
            tell_progress(connection, self._namespace, name)
            return replace(endpoint, deployment=deployment, **changed)

        return await self._database.write(
            apply, after_commit=lambda _: self._changes.notify(ResourceKind.ENDPOINT, name)
        )

    async def record(
        self,
        name: str,
        generation: int,
        *,
        progress: Progress | None = None,
        variants: Sequence[VariantState] | None = None,
    ) -> bool:
        """Write how far a deployment has come, for the generation that it was computed for.

        Args:
            name: Of the endpoint.
            generation: Of the endpoint.
            progress: Where it is now. None leaves it, and when that was.
            variants: All variants of the new fleet as they are now. None leaves them.

        Returns:
            Whether anything was written.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> bool:
            row = find_row(connection, name)
            if row is None or row.generation != generation:
                return False
            values: dict[str, Any] = {}
            if progress is not None:
                values |= {**progress_columns(progress), "progress_at": now}
            if variants is not None:
                values["variants"] = dump_states(variants)
            statement = deployments.update().where(deployments.c.endpoint_key == row.name_key)
            is_written = bool(connection.execute(statement.values(**values)).rowcount)
            if is_written and progress is not None:
                tell_progress(connection, self._namespace, name)
            return is_written

        return await self._database.write(
            apply,
            after_commit=lambda changed: (
                self._changes.notify(ResourceKind.ENDPOINT, name) if changed else None
            ),
        )


def follow_event(
    connection: Connection,
    endpoint: Endpoint,
    row: Row[Any],
    event: EndpointEvent,
    now: datetime,
) -> None:
    """Do with the fleets what an event means for them, in the transaction that writes the status.

    Args:
        connection: In that transaction.
        endpoint: As it was before the event.
        row: Its row.
        event: What has happened.
        now: Wall time.
    """
    deployment = endpoint.deployment
    if event is EndpointEvent.GAVE_UP and endpoint.status is EndpointStatus.UPDATING:
        if deployment is None:
            write_states(connection, row, [restored(state) for state in endpoint.all_variants])
            return
        progress = replace(deployment.progress, rollback_step=1)
        connection.execute(
            deployments.update()
            .where(deployments.c.endpoint_key == row.name_key)
            .values(**progress_columns(progress), progress_at=now)
        )
    elif event is EndpointEvent.READY and deployment is not None:
        if endpoint.status is EndpointStatus.UPDATING:
            insert_states(connection, row.name_key, deployment.config, deployment.variants)
            update_row(
                connection,
                row,
                config=dump_endpoint_config(deployment.config),
                models=dump_models(deployment.models),
                fleet=deployment.fleet,
            )
        if endpoint.status in (EndpointStatus.UPDATING, EndpointStatus.ROLLING_BACK):
            delete_deployment(connection, row.name_key)
