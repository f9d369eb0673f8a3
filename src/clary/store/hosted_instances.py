"""Counts of instances that follow the copies of inference components."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from clary.resources.endpoint import EndpointStatus
from clary.resources.names import Namespace, ResourceKind
from clary.resources.quotas import Quotas
from clary.store.changes import Changes
from clary.store.database import Database
from clary.store.endpoint_rows import (
    find_row,
    instances_in_use,
    load_endpoint,
    update_row,
    write_states,
)
from clary.store.schema import instances


class HostedInstances:
    """Instances of endpoints for components.

    Args:
        database: Where they are.
        changes: Hears of every change.
        namespace: For what is read.
        quotas: For instances that are added.
    """

    def __init__(
        self, database: Database, changes: Changes, namespace: Namespace, quotas: Quotas
    ) -> None:
        self._database = database
        self._changes = changes
        self._namespace = namespace
        self._quotas = quotas

    async def follow(
        self,
        endpoint_name: str,
        generation: int,
        counts: Mapping[str, int],
        released: Sequence[str],
    ) -> bool:
        """Want other numbers of instances, and let some go, in one transaction.

        The endpoint stays InService, for nobody has asked it for anything. Its generation is
        counted up, so that what was computed of the old numbers is not written any more.

        Args:
            endpoint_name: The endpoint.
            generation: The one that the numbers were computed for.
            counts: Instances by variant.
            released: Instances that stop.

        Returns:
            Whether that was done; not while the endpoint is changed by somebody.

        Raises:
            LimitExceeded: The account would have more instances than it may.
        """

        def apply(connection: Connection) -> bool:
            row = find_row(connection, endpoint_name)
            if (
                row is None
                or row.generation != generation
                or row.status != EndpointStatus.IN_SERVICE
            ):
                return False
            endpoint = load_endpoint(connection, self._namespace, row)
            types = {v.name: v.instance_type for v in endpoint.config.all_variants}
            states = [
                replace(state, desired_count=counts[state.name], previous_count=None)
                for state in endpoint.all_variants
                if state.name in counts
            ]
            added: Counter[str] = Counter()
            for state in endpoint.all_variants:
                instance_type = types[state.name]
                if state.name in counts and instance_type is not None:
                    added[instance_type] += counts[state.name] - state.desired_count
            self._quotas.check(added, instances_in_use(connection))
            write_states(connection, row, states)
            if released:
                connection.execute(
                    instances.update().where(instances.c.id.in_(released)).values(stopping=True)
                )
            update_row(connection, row, generation=row.generation + 1)
            return True

        return await self._database.write(
            apply,
            after_commit=lambda done: (
                self._changes.notify(ResourceKind.ENDPOINT, endpoint_name) if done else None
            ),
        )
